"""[feeds]: what is right, and what is refused when the file is read."""

from __future__ import annotations

import pytest

from ebspub.config import parse
from ebspub.config.feeds import FORMATS
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
