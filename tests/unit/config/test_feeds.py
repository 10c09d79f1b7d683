"""[feeds]: what is right, and what is refused when the file is read."""

from __future__ import annotations

import pytest

from ebspub.config import parse
from ebspub.config.feeds import FORMATS
from ebspub.errors import ConfigError
from ebspub.feeds import every


def test_nothing_is_written_where_nothing_is_said() -> None:
    table = parse("").feeds
    assert (table.folder, table.sign, table.sync.bucket, table.sync.rsync) == (None, None, None, None)
    assert table.formats == FORMATS


def test_the_formats_are_those_that_there_are() -> None:
    assert set(FORMATS) == set(every.RENDERERS)
    assert parse('[feeds]\nformats = "plain"').feeds.formats == ("plain",)


@pytest.mark.parametrize(
    ("s3", "wanted"),
    [
        ("s3://images-example", ("images-example", "")),
        ("s3://images-example/", ("images-example", "")),
        ("s3://images.example/a/b/", ("images.example", "a/b")),
    ],
)
def test_a_bucket_and_a_folder_in_it(s3: str, wanted: tuple[str, str]) -> None:
    assert parse(f'[feeds.sync]\ns3 = "{s3}"').feeds.sync.bucket == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('folder = "feeds"', 'feeds.folder: found "feeds", expected an absolute path'),
        ('formats = ["quarry"]', 'did you mean "query"?'),
        ("formats = []", "feeds.formats: found an empty list"),
        ("columns = { lucid = 12 }", "feeds.columns.lucid: found the number 12"),
        ('url = "images.example.com"', "feeds.url: found"),
        ('url = "https://user:x@example.com"', "expected an http:// or https:// URL without user name"),
        ('mirror = "https://e.com/?sig=1"', "feeds.mirror: found"),
        ('origin = "a b"', "feeds.origin: found"),
        ('sign = { home = "/srv/gnupg" }', "feeds.sign.key: missing, expected fingerprint of the OpenPGP key"),
        ('sign = { key = "D2EB4462" }', "expected the whole fingerprint of a key"),
        ('sign = { key = "D2EB4462", passphrase = "hunter2/" }', "passphrase: found a value that is not shown here"),
        ('sync = { s3 = "images-example" }', "feeds.sync.s3: found"),
        ('sync = { s3 = "s3://Images" }', "feeds.sync.s3: found"),
        ('sync = { rsync = "--rsh=touch x:/" }', "feeds.sync.rsync: found"),
        ('sync = { rsync = "nowhere" }', "feeds.sync.rsync: found"),
        ('sync = { cache = "a\\nb" }', "feeds.sync.cache: found"),
    ],
)
def test_what_cannot_be_is_refused(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[feeds]\n{text}")
    assert wanted in str(caught.value)
    assert "hunter2" not in str(caught.value)
