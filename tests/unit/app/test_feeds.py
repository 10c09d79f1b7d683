"""The feeds that a configuration asks for: their names, their formats, their copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ebspub.app.release.feeds import Folder, NoFeeds, configured
from ebspub.config import parse
from ebspub.feeds import files, rsync
from ebspub.store import Store, releases, tables
from ebspub.store.leases import this_process
from tests.contract.store import rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one build that is published."""
    found = Store.open(f"sqlite:///{tmp_path / 'ebspub.db'}")
    (job_id,) = rows.plan(found, rows.spec())
    done = {
        "state": "registered",
        "status": "done",
        "ami_id": "ami-1a2b3c4d",
        "snapshot_id": "snap-1",
        "ended_at": 1.0e9,
    }
    with found.write() as conn:
        conn.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(**done))
        job = releases.jobs_of(conn, "lucid", "server", rows.spec().serial)[0]
        releases.add(conn, job.spec, "release", 2.0e9)
        release = releases.get(conn, releases.release_id(job.spec))
        assert release is not None
        lease = releases.claim(conn, release, owner=this_process(), now=2.0e9, until=3.0e9)
        assert lease is not None
        releases.announce(conn, release.id, lease, [job], 2.0e9)
    return found


def feeds(text: str) -> Folder:
    found = configured(parse(f"[feeds]\n{text}"))
    assert isinstance(found, Folder)
    return found


def test_without_a_folder_there_are_none() -> None:
    assert isinstance(configured(parse("")), NoFeeds)


def test_what_the_configuration_says_is_in_the_files(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    with store:
        feeds(
            f'folder = "{folder}"\nvendor = "com.example.cloud"\nos = "other"\ntitle = "Ours"\n'
            "columns = { lucid = 10 }\n"
            'origin = "example.com"\nendpoints = { us-east-1 = "https://ec2.example.com" }\nurl = "https://i.example.com"\n'
        ).write(store)
    products = json.loads((folder / "streams/v1/com.example.cloud:released:aws.json").read_text())
    ((name, product),) = products["products"].items()
    assert (name.split(":")[0], product["os"]) == ("com.example.cloud", "other")
    assert "https://ec2.example.com" in (folder / "streams/v1/index.json").read_text()
    (row,) = (folder / "query/lucid/server/released.txt").read_text().splitlines()
    assert len(row.split("\t")) == 10
    assert "Ours" in (folder / "locator/ec2/index.html").read_text()
    atom = (folder / "changes.atom").read_text()
    assert "urn:ebspub:example.com:changes" in atom
    assert "https://i.example.com/changes.atom" in atom


def test_a_format_that_is_taken_out_goes_and_others_rows_stay(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    theirs = b"lucid\tserver\trelease\t20100427\tebs\tamd64\teu-west-1\tami-0\t\t\tparavirtual\n"
    (folder / "query/lucid/server").mkdir(parents=True)
    rows_file = folder / "query/lucid/server/released.txt"
    rows_file.write_bytes(theirs)
    with store:
        feeds(f'folder = "{folder}"').write(store)
        assert rows_file.read_bytes().count(b"\n") == 2
        less = feeds(f'folder = "{folder}"\nformats = ["plain"]')
        assert less.check(store)
        less.write(store)
        assert less.check(store) == []
    assert rows_file.read_bytes() == theirs
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()}
    # What held rows of ours only is gone; what lists the newest serials holds theirs.
    assert found == {
        "images.csv",
        "images.json",
        "query/lucid/server/released.txt",
        "query/lucid/server/released.current.txt",
        "query/released.latest.txt",
    }


@pytest.mark.needs_tool("rsync")
def test_a_format_that_is_taken_out_goes_from_the_copies_too(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    told = f'folder = "{folder}"\nsync = {{ s3 = "s3://images-example", region = "us-east-1", rsync = "{copy}/" }}\n'
    with store, mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="images-example")
        feeds(told).write(store)
        (copy / "theirs").touch()
        client.put_object(Bucket="images-example", Key="theirs", Body=b"")
        less = feeds(f'{told}formats = ["plain"]')
        assert "locator/ec2/index.html is stale, missing or left over" in "\n".join(less.check(store))
        done = less.write(store)
        assert {f"{copy}/changes.atom", "s3://images-example/changes.atom"} <= set(done)
        assert less.check(store) == []
        assert less.write(store) == []
        listed = client.list_objects_v2(Bucket="images-example")["Contents"]
    wanted = {"images.csv", "images.json", "theirs"}
    assert {each["Key"] for each in listed if ".ebspub" not in each["Key"]} == wanted
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == wanted


@pytest.mark.needs_tool("rsync")
def test_a_copy_that_cannot_be_looked_at_is_said_and_the_others_are_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    folder = tmp_path / "feeds"
    with store, mock_aws():
        feeds(f'folder = "{folder}"').write(store)
        (folder / "images.csv").unlink()
        dead = feeds(
            f'folder = "{folder}"\nsync = {{ s3 = "s3://no-such-bucket", region = "us-east-1", '
            'rsync = "rsync://127.0.0.1:1/feeds/" }'
        )
        csv, bucket, host = dead.check(store)
    assert csv == f"{folder}/images.csv is stale, missing or left over"
    assert bucket.startswith("what is stale in a copy is not known: s3://no-such-bucket/: ")
    assert host.startswith("what is stale in a copy is not known: rsync://127.0.0.1:1/feeds/: rsync ended with")


@pytest.mark.needs_tool("rsync")
def test_the_copies_are_the_folder(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    folder, copy = tmp_path / "feeds", tmp_path / "copy"
    copy.mkdir()
    (copy / "stray").touch()
    with store, mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="images-example")
        wanted = feeds(
            f'folder = "{folder}"\nsync = {{ s3 = "s3://images-example/ubuntu/", region = "us-east-1", '
            f'cache = "no-store", rsync = "{copy}/", delete = true }}'
        )
        changed = wanted.write(store)
        listed = client.list_objects_v2(Bucket="images-example")["Contents"]
        there = {each["Key"].removeprefix("ubuntu/") for each in listed if ".ebspub" not in each["Key"]}
        assert client.head_object(Bucket="images-example", Key="ubuntu/images.csv")["CacheControl"] == "no-store"
        assert wanted.write(store) == []
        assert wanted.check(store) == []
        client.put_object(Bucket="images-example", Key="ubuntu/images.csv", Body=b"")
        assert wanted.check(store) == ["s3://images-example/ubuntu/images.csv is stale, missing or left over"]
        assert wanted.write(store) == ["s3://images-example/ubuntu/images.csv"]
        (copy / "images.csv").unlink()
        (copy / "stray").touch()
        told = [f"{copy}/images.csv is stale, missing or left over", f"{copy}/stray is stale, missing or left over"]
        assert wanted.check(store) == told
        assert wanted.write(store) == [f"{copy}/images.csv", f"{copy}/stray"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file()}
    assert there == names
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == names
    assert "s3://images-example/ubuntu/images.csv" in changed


@pytest.mark.needs_tool("rsync")
def test_a_copy_is_of_one_moment_whatever_another_writes_meanwhile(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, copy, alone = tmp_path / "feeds", tmp_path / "copy", tmp_path / "alone"
    real = rsync._rsync

    def meanwhile(*words: Any) -> Any:
        files.write({"streams/v1/index.json": b"{}"}, folder)
        return real(*words)

    monkeypatch.setattr(rsync, "_rsync", meanwhile)
    with store:
        feeds(f'folder = "{alone}"').write(store)
        feeds(f'folder = "{folder}"\nsync = {{ rsync = "{copy}/" }}').write(store)
    assert files.kept(folder).keys() == {"streams/v1/index.json"}
    whole = files.kept(alone)
    assert {path.relative_to(copy).as_posix(): path.read_bytes() for path in copy.rglob("*") if path.is_file()} == whole
