"""Copies of the feeds: in a bucket and in a folder elsewhere, the index last."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ebspub.feeds import every, rsync
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import LIST, Written, in_order, rank, write
from ebspub.feeds.sync import SyncError, content_type, stale_in_s3, to_s3
from tests.unit.feeds.facts import image, lucid

FIRST = every.render(Catalog.of([*lucid(), image(region="cn-north-1")]))
SECOND = every.render(Catalog.of(lucid()))
BUCKET = "images-example"


class Recorder:
    """A client that writes down what is changed, in order."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.calls: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
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


class Encrypted(Recorder):
    """A bucket that S3 encrypts by a key of KMS: the tags of its objects say nothing of their content."""

    def get_paginator(self, name: str) -> Encrypted:
        self._pages = self.client.get_paginator(name)
        return self

    def paginate(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        for page in self._pages.paginate(**arguments):
            yield {"Contents": [{**each, "ETag": '"0f"'} for each in page.get("Contents", [])]}


def test_what_is_encrypted_is_not_put_again_either(client: Recorder) -> None:
    bucket = Encrypted(client.client)
    assert to_s3(FIRST, bucket, BUCKET).written == tuple(in_order(FIRST))
    before = len(bucket.calls)
    assert to_s3(FIRST, bucket, BUCKET) == Written((), (), len(FIRST))
    assert len(bucket.calls) == before
    assert stale_in_s3(FIRST, bucket, BUCKET) == []
    path = in_order(FIRST)[0]
    client.put_object(Bucket=BUCKET, Key=path, Body=b"other")
    assert stale_in_s3(FIRST, bucket, BUCKET) == [path]
    assert to_s3(FIRST, bucket, BUCKET).written == (path,)


def test_what_caches_are_told_is_brought_up_to_date_on_every_object(client: Recorder) -> None:
    to_s3(FIRST, client, BUCKET)
    assert stale_in_s3(FIRST, client, BUCKET, cache=" max-age=5") == in_order(FIRST)
    assert to_s3(FIRST, client, BUCKET, cache=" max-age=5").written == tuple(in_order(FIRST))
    told = {client.head_object(Bucket=BUCKET, Key=path)["CacheControl"] for path in FIRST}
    assert told == {"max-age=5"}
    assert stale_in_s3(FIRST, client, BUCKET, cache=" max-age=5") == []
    assert to_s3(FIRST, client, BUCKET, cache=" max-age=5").written == ()


def test_who_dies_while_caches_are_told_is_followed_by_one_who_tells_the_others(client: Recorder) -> None:
    to_s3(FIRST, client, BUCKET)
    last = in_order(FIRST)[-1]

    class Dying(Recorder):
        def put_object(self, **arguments: Any) -> Any:
            if arguments["Key"] == last:
                raise KeyboardInterrupt
            return self.client.put_object(**arguments)

    with pytest.raises(KeyboardInterrupt):
        to_s3(FIRST, Dying(client.client), BUCKET, cache="max-age=5")
    assert last in stale_in_s3(FIRST, client, BUCKET, cache="max-age=5")
    to_s3(FIRST, client, BUCKET, cache="max-age=5")
    assert client.head_object(Bucket=BUCKET, Key=last)["CacheControl"] == "max-age=5"


def test_a_bucket_that_is_not_there_is_told(client: Recorder) -> None:
    with pytest.raises(SyncError, match="NoSuchBucket"):
        to_s3(FIRST, client, "elsewhere-example")


def test_what_is_stale_in_a_bucket_is_told_and_so_is_what_is_to_go(client: Recorder) -> None:
    to_s3(FIRST, client, BUCKET, "ubuntu")
    client.put_object(Bucket=BUCKET, Key="ubuntu/theirs", Body=b"")
    client.put_object(Bucket=BUCKET, Key="ubuntu/images.csv", Body=b"")
    client.calls.clear()
    assert stale_in_s3(FIRST, client, BUCKET, "ubuntu") == ["images.csv"]
    less = {path: content for path, content in FIRST.items() if path != "changes.atom"}
    assert stale_in_s3(less, client, BUCKET, "ubuntu") == ["images.csv", "changes.atom"]
    assert client.calls == []
    to_s3(less, client, BUCKET, "ubuntu")
    assert stale_in_s3(less, client, BUCKET, "ubuntu") == []


# A folder elsewhere -------------------------------------------------------------------------------------------------


def content_of(copy: Path) -> dict[str, bytes]:
    return {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()}


@pytest.mark.needs_tool("rsync")
@pytest.mark.parametrize("delete", [False, True])
def test_a_folder_elsewhere_is_a_copy_and_keeps_nothing_of_ours_that_went(delete: bool, tmp_path: Path) -> None:
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    stray = {"streams/theirs": b""}
    less = {path: content for path, content in SECOND.items() if path.startswith("query/")}
    copy.mkdir()
    assert rsync.stale(folder, (), f"{copy}/", delete=delete) == []
    for rendering in (FIRST, SECOND, less, {}):
        write(rendering, folder)
        (copy / "streams").mkdir(exist_ok=True)
        (copy / "streams/theirs").touch()
        before = content_of(copy)
        told = rsync.stale(folder, rendering, f"{copy}/", delete=delete)
        assert content_of(copy) == before
        done = rsync.copy(folder, rendering, f"{copy}/", delete=delete)
        assert sorted([*done.written, *done.removed]) == told != []
        assert content_of(copy) == (rendering if delete else {**rendering, **stray})
        assert rsync.stale(folder, rendering, f"{copy}/", delete=delete) == []
        assert rsync.copy(folder, rendering, f"{copy}/", delete=delete) == Written()


@pytest.mark.needs_tool("rsync")
def test_what_is_stale_in_a_folder_elsewhere_is_told_and_brought(tmp_path: Path) -> None:
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    write(FIRST, folder)
    rsync.copy(folder, FIRST, str(copy))
    damaged = copy / "images.csv"
    times = damaged.stat()
    damaged.write_bytes(bytes(times.st_size))  # of the same size and time
    os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))
    (copy / "changes.atom").unlink()
    (copy / "images.json").chmod(0o600)
    os.utime(copy / "query/lucid/server/released.txt", (1, 1))  # readers do not mind
    assert rsync.stale(folder, FIRST, str(copy)) == ["changes.atom", "images.csv", "images.json"]
    rsync.copy(folder, FIRST, str(copy))
    assert rsync.stale(folder, FIRST, str(copy)) == []
    assert content_of(copy) == FIRST


@pytest.mark.needs_tool("rsync")
def test_what_a_copy_that_died_had_brought_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    write(FIRST, folder)
    with monkeypatch.context() as dying:
        dying.setattr(rsync, "_take", lambda *_: sys.exit("died"))
        with pytest.raises(SystemExit):
            rsync.copy(folder, FIRST, str(copy))
    write(SECOND, folder)
    removed = rsync.copy(folder, SECOND, str(copy)).removed
    ranks = [rank(path) for path in removed]
    assert ranks == sorted(ranks, reverse=True) != []
    assert content_of(copy) == SECOND


@pytest.mark.needs_tool("rsync")
def test_a_copy_that_is_gone_is_made_anew_even_of_a_single_file(tmp_path: Path) -> None:
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    for rendering in ({"a/b.txt": b"1", "c.txt": b"2", "index.html": b"3"}, {"c.txt": b"2"}):
        write(rendering, folder)
        assert set(rsync.stale(folder, rendering, str(copy))) == set(rendering)
        assert set(rsync.copy(folder, rendering, str(copy)).written) == set(rendering)
        assert content_of(copy) == rendering
        shutil.rmtree(copy)


@pytest.mark.needs_tool("rsync")
@pytest.mark.parametrize("call", [rsync.copy, rsync.stale])
def test_what_rsync_cannot_do_is_told(call: Callable[..., object], tmp_path: Path) -> None:
    write(SECOND, tmp_path)
    with pytest.raises(SyncError, match="exit status"):
        call(tmp_path, SECOND, "rsync://127.0.0.1:1/nobody/listens/")
