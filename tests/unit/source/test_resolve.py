"""What proves a job's artefact: a signed list or index, a checksum in the file, or, written out, nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ebspub.config import load, parse, select
from ebspub.demo.signing import Signer, signer
from ebspub.errors import ConfigError, SourceError
from ebspub.source import Look, resolve, web
from ebspub.spec import JobSpec, Source

EXAMPLES = Path(__file__).parents[3] / "examples"
AMD64, I386 = "a" * 64, "b" * 64
SUMS = f"{AMD64} *lucid-server-uec-amd64.tar.gz\n{I386} *lucid-server-uec-i386.tar.gz\n".encode()
WHERE = "https://mirror.example.com/releases/lucid/release-20100427.1/SHA256SUMS"

pytestmark = pytest.mark.needs_tool("gpg", "gpgv")


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as made:
        made.make_key("--faked-system-time", "20090101T000000!")
        yield made


@dataclass
class Mirror:
    """A fetch that remembers what it was asked for."""

    documents: dict[str, bytes] = field(default_factory=dict)
    urls: list[str] = field(default_factory=list)

    def __call__(self, url: str) -> bytes:
        self.urls.append(url)
        if url not in self.documents:
            raise web.AbsentError(f"{url}: the server answers 404")
        return self.documents[url]


@pytest.fixture
def keyring(key: Signer, tmp_path: Path) -> Path:
    return key.export(tmp_path / "mirror-keyring.gpg")


@pytest.fixture
def mirror(key: Signer, tmp_path: Path) -> Mirror:
    return Mirror({WHERE: SUMS, f"{WHERE}.gpg": signature(key, tmp_path, SUMS)})


def signature(key: Signer, folder: Path, content: bytes, *options: str) -> bytes:
    file = folder / "signed"
    file.write_bytes(content)
    return key.sign(file, *options).read_bytes()


@pytest.fixture
def specs(keyring: Path, tmp_path: Path) -> tuple[JobSpec, ...]:
    """The jobs of the example, whose keyring lies beside the configuration file."""
    config = tmp_path / "lucid.toml"
    config.write_text((EXAMPLES / "lucid.toml").read_text())
    return select(load(config))


def test_each_arch_gets_its_own_checksum_from_one_signed_list(
    specs: tuple[JobSpec, ...], mirror: Mirror, key: Signer
) -> None:
    resolved = resolve(specs, mirror)
    assert [spec.job_id for spec in resolved] == [spec.job_id for spec in specs]
    assert {(spec.arch, spec.source.sha256) for spec in resolved} == {("amd64", AMD64), ("i386", I386)}
    assert {(spec.source.verify, spec.source.signer) for spec in resolved} == {("signature", key.fingerprint)}
    assert mirror.urls == [WHERE, f"{WHERE}.gpg"]
    assert all(spec.source.sha256 is None for spec in specs)


def test_a_checksum_that_is_there_costs_no_look(specs: tuple[JobSpec, ...], mirror: Mirror) -> None:
    resolved = resolve(specs, mirror)
    assert resolve(resolved, mirror) == resolved
    assert len(mirror.urls) == 2


def test_an_artefact_that_is_not_listed_is_named_with_its_neighbours(
    specs: tuple[JobSpec, ...], mirror: Mirror, key: Signer, tmp_path: Path
) -> None:
    content = f"{AMD64} *lucid-server-cloudimg-amd64.tar.gz\n".encode()
    mirror.documents = {WHERE: content, f"{WHERE}.gpg": signature(key, tmp_path, content)}
    with pytest.raises(SourceError) as caught:
        resolve(specs, mirror)
    assert "does not list 'lucid-server-uec-amd64.tar.gz'" in caught.value.what
    assert "it lists 'lucid-server-cloudimg-amd64.tar.gz'" in caught.value.what
    assert caught.value.exit_code == 2


def test_a_list_without_or_with_a_wrong_signature_proves_nothing(specs: tuple[JobSpec, ...], mirror: Mirror) -> None:
    changed = Mirror({**mirror.documents, WHERE: SUMS.replace(b"a" * 64, b"c" * 64)})
    with pytest.raises(SourceError, match="signature does not prove it: the signature does not match"):
        resolve(specs, changed)
    with pytest.raises(SourceError, match=r"SHA256SUMS is not signed: there is no .*SHA256SUMS\.gpg"):
        resolve(specs, Mirror({WHERE: SUMS}))


def test_an_older_builds_list_in_a_newer_builds_folder_is_found_out(
    specs: tuple[JobSpec, ...], mirror: Mirror, key: Signer, tmp_path: Path
) -> None:
    for day, fits in (("20100425T000000!", False), ("20100426T120000!", True)):
        signed = signature(key, tmp_path, SUMS, "--faked-system-time", day)
        replayed = Mirror({**mirror.documents, f"{WHERE}.gpg": signed})
        if fits:
            assert resolve(specs, replayed)
            continue
        with pytest.raises(SourceError, match="before the day of its serial: it is of an older build"):
            resolve(specs, replayed)


def test_a_clear_signed_list_needs_no_file_beside_it(specs: tuple[JobSpec, ...], key: Signer, tmp_path: Path) -> None:
    file = tmp_path / "SHA256SUMS"
    file.write_bytes(SUMS)
    key.gpg("--output", tmp_path / "clear", "--clearsign", file)
    mirror = Mirror({WHERE: (tmp_path / "clear").read_bytes()})
    assert {spec.source.sha256 for spec in resolve(specs, mirror)} == {AMD64, I386}
    assert mirror.urls == [WHERE]


def test_nothing_proves_a_source_only_where_that_is_written(specs: tuple[JobSpec, ...]) -> None:
    bare = specs[0].model_copy(update={"source": Source(url="https://example.com/x.img")})
    with pytest.raises(ConfigError, match=r"nothing proves https://example\.com/x\.img"):
        resolve([bare], Mirror())
    written = Source(url="https://example.com/x.img", verify="none")
    (found,) = resolve([specs[0].model_copy(update={"source": written})], Mirror())
    assert found.source == written


def test_a_list_counts_where_it_is_not_signed_but_proves_nothing(specs: tuple[JobSpec, ...], mirror: Mirror) -> None:
    source = specs[0].source.model_copy(update={"keyring": None, "signature_url": None, "verify": "none"})
    (found,) = resolve([specs[0].model_copy(update={"source": source})], mirror)
    assert (found.source.sha256, found.source.verify, found.source.signer) == (AMD64, "none", None)


def test_a_local_file_must_be_there(specs: tuple[JobSpec, ...], tmp_path: Path) -> None:
    file = tmp_path / "an image.img"
    source = Source(url=file.as_uri(), sha256=AMD64)
    spec = specs[0].model_copy(update={"source": source})
    with pytest.raises(SourceError, match="there is no file"):
        resolve([spec], Look())
    file.touch()
    assert resolve([spec], Look()) == (spec,)


def test_nothing_to_resolve_is_nothing() -> None:
    assert resolve([], Mirror()) == ()


INDEX = "https://example.com/streams/v1/index.{}"
STREAM = """
[builder]
images.amd64 = "ami-0a1b2c3d4e5f60718"
ssh_cidr = "203.0.113.0/24"
[regions.us-east-1]
[[builds]]
suite = "noble"
label = "release"
version = "24.04"
serial = "20240423"
arches = ["amd64"]
[builds.source]
index = "{index}"
item = "disk1.img"
keyring = "{keyring}"
"""


@pytest.mark.parametrize("kind", ["json", "sjson"])
def test_a_signed_index_gives_url_and_checksum(kind: str, key: Signer, keyring: Path, tmp_path: Path) -> None:
    product = "com.ubuntu.cloud:server:24.04:amd64"
    path = f"streams/v1/download.{kind}"
    entry = {"datatype": "image-downloads", "path": path, "products": [product]}
    item = {"ftype": "disk1.img", "path": "server/noble.img", "sha256": AMD64}
    versions = {"20240423": {"items": {"disk1.img": item}}}
    mirror = Mirror()
    for url, document in (
        (INDEX.format(kind), {"format": "index:1.0", "index": {"x": entry}}),
        (f"https://example.com/{path}", {"format": "products:1.0", "products": {product: {"versions": versions}}}),
    ):
        content = json.dumps(document).encode()
        mirror.documents[url] = content
        if kind == "json":
            mirror.documents[f"{url}.gpg"] = signature(key, tmp_path, content)
        else:
            (tmp_path / "document").write_bytes(content)
            key.gpg("--yes", "--output", tmp_path / "clear", "--clearsign", tmp_path / "document")
            mirror.documents[url] = (tmp_path / "clear").read_bytes()
    specs = select(parse(STREAM.format(index=INDEX.format(kind), keyring=keyring)))

    (found,) = resolve(specs, mirror)

    assert (found.source.url, found.source.sha256) == ("https://example.com/server/noble.img", AMD64)
    assert (found.source.verify, found.source.signer) == ("signature", key.fingerprint)
    for url in [url for url in mirror.documents if not url.endswith(".gpg")]:
        changed = Mirror({**mirror.documents, url: mirror.documents[url].replace(b"noble.img", b"evil.img")})
        changed.documents[url] = changed.documents[url].replace(b'"x"', b'"y"')
        with pytest.raises(SourceError, match="signature does not match"):
            resolve(specs, changed)
    with pytest.raises(SourceError, match=r"has no disk1\.img of com\.ubuntu\.cloud:server:24\.04:amd64 20240501"):
        resolve([specs[0].model_copy(update={"serial": "20240501"})], mirror)
