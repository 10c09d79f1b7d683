"""Copies of the feeds: in a bucket and in a folder elsewhere, the index last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ebspub.feeds import every
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import LIST, in_order, write
from ebspub.feeds.sync import SyncError, by_rsync, content_type, to_s3
from tests.unit.feeds.facts import image, lucid

FIRST = every.render(Catalog.of([*lucid(), image(region="cn-north-1")]))
SECOND = every.render(Catalog.of(lucid()))
BUCKET = "images-example"


class Recorder:
    """A client that writes down what is changed, in order."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in ("put_object", "delete_object"):
            return method

        def call(**arguments: Any) -> Any:
            self.calls.append((name, arguments["Key"]))
            return method(**arguments)

        return call


@pytest.fixture
def client() -> Iterator[Recorder]:
    with mock_aws():
        made = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        made.create_bucket(Bucket=BUCKET)
        yield Recorder(made)


def objects(client: Recorder, prefix: str) -> dict[str, bytes]:
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {
        each["Key"].removeprefix(prefix): client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
        for each in found
        if not each["Key"].endswith(LIST)
    }


def test_a_bucket_holds_the_rendering_with_the_types_of_its_files(client: Recorder) -> None:
    to_s3(FIRST, client, BUCKET, "/ubuntu/")
    assert objects(client, "ubuntu/") == FIRST
    head = client.head_object(Bucket=BUCKET, Key="ubuntu/locator/ec2/index.html")
    assert (head["ContentType"], head["CacheControl"]) == ("text/html; charset=utf-8", "public, max-age=60")
    assert {content_type(path) for path in FIRST if path.startswith("query/")} == {"text/plain; charset=utf-8"}
    assert content_type("locator/ec2/releasesTable") == "application/json"
    put = [key.removeprefix("ubuntu/") for _, key in client.calls]
    assert put == [LIST, *in_order(FIRST), LIST]


def test_what_is_there_is_not_put_again_and_what_is_no_longer_rendered_goes_last(client: Recorder) -> None:
    to_s3(FIRST, client, BUCKET)
    client.put_object(Bucket=BUCKET, Key="theirs", Body=b"")
    client.calls.clear()
    assert to_s3(FIRST, client, BUCKET).written == ()
    assert client.calls == []
    done = to_s3(SECOND, client, BUCKET)
    assert set(done.removed) == FIRST.keys() - SECOND.keys()
    assert [name for name, key in client.calls if key != LIST] == [
        *["put_object"] * len(done.written),
        *["delete_object"] * len(done.removed),
    ]
    assert objects(client, "") == {**SECOND, "theirs": b""}


def test_a_bucket_that_is_not_there_is_told(client: Recorder) -> None:
    with pytest.raises(SyncError, match="NoSuchBucket"):
        to_s3(FIRST, client, "elsewhere-example")


@pytest.mark.needs_tool("rsync")
def test_a_folder_elsewhere_is_a_copy(tmp_path: Path) -> None:
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    for rendering in (FIRST, SECOND):
        write(rendering, folder)
        by_rsync(folder, rendering, f"{copy}/", delete=rendering is SECOND)
        found = {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        assert found == rendering
    with pytest.raises(SyncError, match="exit status"):
        by_rsync(tmp_path / "nothing", SECOND, f"{copy}/")
