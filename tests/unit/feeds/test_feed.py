"""Feeds of others, read by their URL: the same AMIs from every format, and nothing that could harm."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebspub.demo.signing import Signer, signer
from ebspub.errors import SourceError
from ebspub.feeds import every, feed, plain
from ebspub.feeds.catalog import Catalog, Image
from ebspub.feeds.files import write
from ebspub.feeds.find import Wanted, find
from ebspub.feeds.signing import Key, sign
from tests.properties.examples import examples
from tests.unit.feeds.facts import image, lucid

ROOT = "https://images.example.com/ubuntu"
IMAGES = [
    *lucid(),
    image(),
    image(region="cn-north-1", ami="ami-2"),
    image(label="daily", serial="20240501", ami="ami-3"),
]


class Web:
    """A server, and what was asked of it."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        path = url.removeprefix(f"{ROOT}/").replace("%3A", ":")
        self.asked.append(path)
        if path not in self.files:
            raise SourceError(f"no {path}")
        return self.files[path]


def facts(images: list[Image]) -> list[tuple[str, ...]]:
    return sorted((*each.key, each.ami, each.version, each.label) for each in images)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return every.render(Catalog.of(IMAGES))


@pytest.mark.parametrize("name", ["/streams/v1/index.json", "/images.json", "", "/"])
def test_every_format_names_the_same_images(name: str, files: dict[str, bytes]) -> None:
    assert facts(feed.images(ROOT + name, read=Web(files))) == facts(IMAGES)


def test_of_our_own_json_everything_is_known_again_the_times_too() -> None:
    known = image(suite="jammy", snapshot="snap-1", name="ubuntu/x", boot_mode="uefi", volume_type="gp3", created=1.7e9)
    images = [*IMAGES, replace(known, version="22.04"), image(suite="focal", released=None)]
    files = every.render(Catalog.of(images))
    found = feed.images(f"{ROOT}/images.json", read=Web(files))
    assert [plain.row(each) for each in found] == json.loads(files["images.json"])["images"]
    assert {(each.created, each.released) for each in found if each.suite == "jammy"} == {(1.7e9, 1714000000.0)}
    assert [each.released for each in found if each.suite == "focal"] == [None]


@pytest.mark.parametrize(
    "text", ["", "soon", "2024-04-25T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_a_time_that_is_none_is_not_known(text: str, files: dict[str, bytes]) -> None:
    content = files["images.json"].replace(b"2024-04-24T23:06:40Z", text.encode())
    assert content != files["images.json"]
    found = feed.images(f"{ROOT}/images.json", read=Web({"images.json": content}))
    assert [plain.row(each)["released"] for each in found if each.ami == "ami-2"] == [None]


def test_query_data_names_those_of_its_suite(files: dict[str, bytes]) -> None:
    found = feed.images(f"{ROOT}/query/lucid/server/released.current.txt", read=Web(files))
    assert facts(found) == facts(lucid())
    wanted = Wanted(suite="10.04", region="us-east-1", arch="i386")
    assert [each.ami for each in find(found, wanted)] == ["ami-714ba518"]


def test_only_files_of_the_region_are_fetched(files: dict[str, bytes]) -> None:
    web = Web(files)
    found = feed.images(ROOT, region="cn-north-1", read=web)
    assert [each.ami for each in found] == ["ami-2"]
    assert web.asked == ["streams/v1/index.json", "streams/v1/com.ubuntu.cloud:released:aws-cn.json"]


def test_a_folder_of_this_machine_is_read_by_its_path(files: dict[str, bytes], tmp_path: Path) -> None:
    write(files, tmp_path / "a folder")
    for place in (str(tmp_path / "a folder"), (tmp_path / "a folder").as_uri()):
        assert facts(feed.images(place)) == facts(IMAGES)
    with pytest.raises(SourceError, match="cannot be read"):
        feed.images(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "content",
    [
        b"<html>Not found</html>",
        b"{",
        b'{"format": "index:2.0"}',
        b'{"format": "index:1.0", "index": {"x": {"datatype": "image-ids", "path": "../../etc/passwd"}}}',
        b'{"format": "index:1.0", "index": {"x": {"datatype": "image-ids", "path": "https://elsewhere/x"}}}',
        b'{"format": "index:1.0", "index": {"x": {"datatype": "image-ids", "path": "streams/v1/index.json"}}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_feed_is_told(content: bytes) -> None:
    web = Web({"streams/v1/index.json": content})
    with pytest.raises(SourceError):
        feed.images(f"{ROOT}/streams/v1/index.json", read=web)
    assert len(web.asked) <= 2


@pytest.mark.parametrize("change", [{"id": "ami-1\x1b[2J"}, {"id": 7}, {"crsn": None}, {"crsn": "a\nb"}])
def test_an_item_that_no_terminal_should_see_is_passed_over(change: dict[str, object], files: dict[str, bytes]) -> None:
    path = "streams/v1/com.ubuntu.cloud:released:aws-cn.json"
    document = json.loads(files[path])
    (product,) = document["products"].values()
    product["versions"]["20240423"]["items"]["cnnn1hs"] |= change
    changed = {**files, path: json.dumps(document).encode()}
    assert "ami-2" not in [each.ami for each in feed.images(ROOT, read=Web(changed))]


GOOD = every.render(Catalog.of([image(), image(region="cn-north-1", ami="ami-2", arch="arm64")]))
#: What may stand where something else should.
ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, 7, 1e308, True, "", "a\nb", "\x1b[2J", [], {}, [[]], [{}], {"region": []}, {"path": {}}]
)


@st.composite
def spoilt(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a document of a feed, its path and its content, with something odd in it."""
    path = draw(st.sampled_from([path for path in sorted(GOOD) if path.endswith(".json")]))
    document = json.loads(GOOD[path])
    here = document
    while True:
        places = sorted(here) if isinstance(here, dict) else range(len(here))
        place = draw(st.sampled_from(places))
        if not isinstance(here[place], dict | list) or not here[place] or draw(st.integers(0, 3)) == 0:
            break
        here = here[place]
    here[place] = draw(ODD)
    return path, json.dumps(document).encode()


INDEX = "streams/v1/index.json"


@examples(150)
@example(
    document=(INDEX, GOOD[INDEX].replace(b'"region": "us-east-1"', b'"region": ["us-east-1"]')), region="us-east-1"
)
@given(document=spoilt(), region=st.sampled_from(["", "us-east-1"]))
def test_whatever_a_document_holds_is_an_image_or_told(document: tuple[str, bytes], region: str) -> None:
    path, content = document
    start = "images.json" if path == "images.json" else "streams/v1/index.json"
    try:
        found = feed.images(f"{ROOT}/{start}", region=region, read=Web({**GOOD, path: content}))
    except SourceError:
        return
    assert {each.ami for each in found} <= {"ami-0123456789abcdef0", "ami-2"}


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as found:
        found.make_key()
        yield found


@pytest.mark.needs_tool("gpg", "gpgv")
def test_with_a_keyring_only_what_is_signed_counts(key: Signer, files: dict[str, bytes], tmp_path: Path) -> None:
    signed = sign(files, Key(key.fingerprint, key.home))
    keyring = str(key.export(tmp_path / "keyring.gpg"))
    for name in ("", "/streams/v1/index.sjson", "/streams/v1/index.json"):
        assert facts(feed.images(ROOT + name, keyring=keyring, read=Web(signed))) == facts(IMAGES)
    for path in ("streams/v1/index.sjson", "streams/v1/com.ubuntu.cloud:released:aws.sjson"):
        damaged = {**signed, path: signed[path].replace(b"us-east-1", b"us-east-2")}
        with pytest.raises(SourceError, match="does not prove"):
            feed.images(ROOT, keyring=keyring, read=Web(damaged))
    with pytest.raises(SourceError, match=r"no streams/v1/index\.json\.gpg"):
        feed.images(f"{ROOT}/streams/v1/index.json", keyring=keyring, read=Web(files))


@pytest.mark.needs_tool("gpg", "gpgv")
@pytest.mark.parametrize("name", ["aws.json", "aws.json?v=1", "aws.json#now", "aws.txt", "aws.txt?v=1", "aws.json;v=1"])
def test_with_a_keyring_nothing_counts_for_what_it_is_called(
    key: Signer, files: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    keyring = str(key.export(tmp_path / "keyring.gpg"))
    plain = next(content for path, content in files.items() if path.endswith("aws.json"))

    def read(url: str) -> bytes:
        if urlsplit(url).path.endswith(".gpg"):
            raise SourceError(f"no {url}")
        return plain

    with pytest.raises(SourceError, match=r"no .*\.gpg|is not signed"):
        feed.images(f"{ROOT}/streams/v1/{name}", keyring=keyring, read=read)


class Replacing(Web):
    """A server on which the documents are replaced by other ones after so many answers."""

    def __init__(self, files: dict[str, bytes], *later: tuple[int, dict[str, bytes]]) -> None:
        super().__init__(files)
        self.later = list(later)

    def __call__(self, url: str) -> bytes:
        if self.later and len(self.asked) == self.later[0][0]:
            self.files = self.later.pop(0)[1]
        return super().__call__(url)


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_signature_that_came_in_between_is_fetched_again_with_its_document(
    key: Signer, files: dict[str, bytes], tmp_path: Path
) -> None:
    ours = Key(key.fingerprint, key.home)
    signed, newer = sign(files, ours), sign(every.render(Catalog.of([image(ami="ami-7")])), ours)
    keyring = str(key.export(tmp_path / "keyring.gpg"))
    url = f"{ROOT}/streams/v1/index.json"
    found = feed.images(url, keyring=keyring, read=Replacing(signed, (1, newer)))
    assert [each.ami for each in found] == ["ami-7"]
    back = Replacing(signed, (1, newer), (3, signed))
    assert facts(feed.images(url, keyring=keyring, read=back)) == facts(IMAGES)
    bad = Web({**signed, "streams/v1/index.json.gpg": newer["streams/v1/index.json.gpg"]})
    with pytest.raises(SourceError, match="does not prove"):
        feed.images(url, keyring=keyring, read=bad)
    assert bad.asked == ["streams/v1/index.json", "streams/v1/index.json.gpg"] * 2
    with pytest.raises(SourceError, match="is not signed"):
        feed.images(f"{ROOT}/query/lucid/server/released.txt", keyring=keyring, read=Web(files))
    with pytest.raises(SourceError, match="no keyring"):
        feed.images(f"{ROOT}/streams/v1/index.sjson", read=Web(signed))


class Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        pass


def test_a_feed_is_read_over_http(files: dict[str, bytes], tmp_path: Path) -> None:
    write(files, tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert facts(feed.images(url)) == facts(IMAGES)
        assert len(feed.images(f"{url}/query/lucid/server/released.current.txt")) == 16
        with pytest.raises(SourceError, match="404"):
            feed.images(f"{url}/nothing")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
