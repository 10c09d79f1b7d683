"""What [builds.source] may say, and what it means."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebspub.config import load, select
from ebspub.spec import Source
from tests.unit.config.conftest import BUILD, Problems, Texts

PLAIN = BUILD[BUILD.index("[builds.source]\n") :]
PATH = "builds[0].source"


def source(text: str, folder: Path) -> Source:
    file = folder / "ebspub.toml"
    file.write_text(text)
    return select(load(file))[0].source


def with_source(text: Texts, *lines: str) -> str:
    return text((PLAIN, "\n".join(["[builds.source]", *lines, ""])))


def test_a_directory_is_laid_out_as_ubuntus(text: Texts, tmp_path: Path) -> None:
    lines = ('directory = "https://example.com/server/"', 'file = "{suite}-{arch}.img"', 'keyring = "keys.gpg"')
    found = source(with_source(text, *lines), tmp_path)
    folder = "https://example.com/server/releases/lucid/release-20101020"
    assert (found.url, found.sums_url) == (f"{folder}/lucid-amd64.img", f"{folder}/SHA256SUMS")
    assert (found.signature_url, found.keyring) == (f"{folder}/SHA256SUMS.gpg", f"{tmp_path}/keys.gpg")
    assert found.verify == "signature"
    daily = with_source(text, *lines).replace('label = "release"', 'label = "daily"')
    assert source(daily, tmp_path).url == "https://example.com/server/lucid/20101020/lucid-amd64.img"


def test_a_directory_with_the_serial_in_it_is_the_builds_own(text: Texts, tmp_path: Path) -> None:
    lines = ('directory = "/srv/x y/{serial}"', 'file = "{arch}.img"', 'keyring = "/keys.gpg"', 'signature = "inline"')
    found = source(with_source(text, *lines), tmp_path)
    assert found.url == "file:///srv/x%20y/20101020/amd64.img"
    assert (found.sums_url, found.signature_url) == ("file:///srv/x%20y/20101020/SHA256SUMS", None)


def test_an_index_names_product_and_item(text: Texts, tmp_path: Path) -> None:
    lines = ('index = "https://example.com/streams/v1/index.sjson"', 'item = "disk1.img"', 'keyring = "~/keys.gpg"')
    found = source(with_source(text, *lines), tmp_path)
    assert (found.product, found.item) == ("com.ubuntu.cloud:server:10.04:amd64", "disk1.img")
    assert (found.index, found.signature_url) == ("https://example.com/streams/v1/index.sjson", None)
    assert str(found.keyring).startswith("/")


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (['url = "/x/{serial}"', 'sha256sums = "/x/S"'], f"{PATH}.keyring: missing: sha256sums without a signature"),
        (['url = "/x/{serial}"'], f"{PATH}: nothing proves the artefact of amd64"),
        (['url = "/x"', 'verify = "none"', 'keyring = "k"'], f'{PATH}.verify: found "none" and keyring'),
        (['url = "/x"', 'verify = "no"'], f'{PATH}.verify: found "no", expected "none"'),
        (['url = "/x"', 'verify = "none"', 'item = "y"'], f"{PATH}.item: found without index"),
        (['url = "/x"', 'verify = "none"', 'file = "y"'], f"{PATH}.file: found without directory"),
        (['directory = "/x"', 'verify = "none"'], f"{PATH}.file: missing"),
        (['directory = "/x"', 'url = "/x/y"'], f"{PATH}.directory: found url and directory, expected one of them"),
        (['directory = "x"', 'file = "y"'], f'{PATH}.directory: found "x", expected an http'),
        (['directory = "/x"', 'file = "../y"'], f'{PATH}.file: found "../y", expected the name of a file'),
        (['index = "/x/streams/v1/i.json"', 'verify = "none"'], f"{PATH}.item: missing"),
        (['index = "/s/streams/v1/i"', 'item = "x"'], f"{PATH}.keyring: missing: an index without a signature"),
        (
            ['url = "/x"', f'fingerprint = "{"A" * 40}"', 'verify = "none"'],
            f"{PATH}.keyring: missing, expected the file",
        ),
        (['url = "/x"', 'fingerprint = "DEADBEEF"'], f'{PATH}.fingerprint: found "DEADBEEF", expected the whole'),
        (
            ['url = "relative/x"'],
            f'{PATH}.url: found "relative/x", expected an http:// or https:// URL with a host, or',
        ),
        (['url = "/x/../y"'], f'{PATH}.url: found "/x/../y", expected an absolute path'),
        (['url = "file://host/x"'], f'{PATH}.url: found "file://host/x", expected an absolute path'),
    ],
)
def test_what_proves_nothing_or_leads_nowhere_is_told(
    text: Texts, problems: Problems, lines: list[str], line: str
) -> None:
    (found,) = problems(with_source(text, *lines))
    assert found.startswith(line)


@pytest.mark.parametrize("proxy", ["proxy:3128", "http://u:p@proxy:3128", "http://proxy/x", 'http://a"b'])
def test_a_proxy_is_a_plain_url(text: Texts, problems: Problems, proxy: str) -> None:
    (line,) = problems(text(("[builder]\n", f"[builder]\nhttp_proxy = '{proxy}'\n")))
    assert line.startswith("builder.http_proxy: found ")


def test_the_builders_proxy_reaches_the_job(text: Texts, tmp_path: Path) -> None:
    file = tmp_path / "ebspub.toml"
    own = '[regions.us-east-1]\nbuilder.http_proxy = ""\n'
    file.write_text(text(("[builder]\n", '[builder]\nhttp_proxy = "http://p:3128"\n'), ("[regions.us-east-1]\n", own)))
    assert {s.region: s.builder.http_proxy for s in select(load(file))} == {
        "us-east-1": None,
        "eu-west-1": "http://p:3128",
    }
