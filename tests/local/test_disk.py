"""Whole disks published by the disk method with the whole tool: as they are, killed and resumed, refused in time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebspub.demo.image import serve
from tests.local.disks import configure
from tests.local.publisher import Publisher
from tests.support.disks import data_blocks, gpt_complaints, make_disk

pytestmark = [pytest.mark.needs_loop, pytest.mark.needs_tool("sgdisk", "sfdisk")]
_GIB = 1 << 30


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    folder = tmp_path / "mirror"
    folder.mkdir()
    return folder


@pytest.fixture
def url(mirror: Path) -> Iterator[str]:
    with serve(mirror) as served:
        yield served


@pytest.fixture
def disk(mirror: Path) -> Path:
    """A raw disk of 48 MiB with 20 MiB of data."""
    return make_disk(mirror / "disk.raw")


def holds(snapshot: Path, disk: Path) -> None:
    """See that a snapshot is the disk block by block, its GPT at the ends aside, and nothing else."""
    wanted, found = data_blocks(disk), data_blocks(snapshot)
    last = _GIB // (512 * 1024) - 1
    table = {0, last, disk.stat().st_size // (512 * 1024) - 1}
    assert {index: data for index, data in found.items() if index not in table} == {
        index: data for index, data in wanted.items() if index not in table
    }
    assert snapshot.stat().st_size == _GIB
    assert gpt_complaints(snapshot) == ""


def published(publisher: Publisher) -> dict[str, Any]:
    (job,) = publisher.status()
    assert (job["state"], job["status"]) == ("registered", "done"), job
    return job


def test_a_disk_is_published_as_it_is_with_its_proof(publisher: Publisher, disk: Path, url: str) -> None:
    packed = disk.with_suffix(".gz")
    with packed.open("wb") as file:
        subprocess.run(["gzip", "-1", "-c", disk], stdout=file, check=True)
    configure(publisher, packed, url)
    done = publisher.call("run")
    assert done.returncode == 0, done.stdout + done.stderr
    job = published(publisher)
    holds(publisher.cloud.snapshot_path(job["snapshot_id"]), disk)
    facts = job["facts"]
    assert (facts["way"], facts["table"], facts["moved"]) == ("disk", "gpt", "yes")
    assert facts["bytes"] <= 1.02 * (20 << 20) + 64 * 1024
    (image,) = publisher.mine(publisher.cloud.inventory().images)
    assert image.tags["ebspub:content-digest"] == f"disk:{facts['digest']}"
    assert facts["digest"] in publisher.call("show", job["id"]).stdout
    publisher.assert_nothing_left({job["snapshot_id"]})


def test_killed_while_the_builder_writes_it_is_resumed(publisher: Publisher, disk: Path, url: str) -> None:
    configure(publisher, disk, url)
    process = publisher.start("run")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 90
    while (done := publisher.call("resume")).returncode == 75:  # until the killed one's lease has ended
        assert time.monotonic() < deadline, done.stderr
        time.sleep(1)
    assert done.returncode == 0, done.stdout + done.stderr
    job = published(publisher)
    holds(publisher.cloud.snapshot_path(job["snapshot_id"]), disk)
    publisher.assert_nothing_left({job["snapshot_id"]})


@pytest.mark.long
def test_what_the_method_cannot_publish_is_refused_before_anything_is_launched(
    publisher: Publisher, disk: Path, mirror: Path, url: str
) -> None:
    (mirror / "tree/etc").mkdir(parents=True)
    (mirror / "tree/usr").mkdir()
    tree, large, gone = mirror / "tree.tar.gz", mirror / "large.qcow2", mirror / "gone.raw"
    subprocess.run(["tar", "-C", mirror / "tree", "-czf", tree, "etc", "usr"], check=True)
    large.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(16) + (3 * _GIB).to_bytes(8, "big") + bytes(1000))
    gone.write_bytes(b"nobody serves it any more")
    calls = len(publisher.cloud.calls(0))
    for artefact, method, said in (
        (disk, "filesystem", "whole disk"),
        (tree, "disk", "tree of files"),
        (tree, "direct", "tree of files"),
        (large, "disk", "raise volume.size to 3"),
        (gone, "disk", "the server answers 404"),
    ):
        configure(publisher, artefact, url, method)
        if artefact is gone:
            gone.unlink()
        planned = publisher.call("plan")
        assert planned.returncode == 3, planned.stderr
        assert "refuse" in planned.stdout
        assert said in planned.stdout
        done = publisher.call("run")
        assert done.returncode == 2, done.stdout + done.stderr
        assert said in done.stderr
    assert publisher.mutating_calls(calls) == []
    assert publisher.status() == []
