"""A builder whose disk is too small says so, with numbers, although nothing can be written on it any more."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ebspub.populate import FATAL_CODES
from ebspub.remote.detached import Task, poll
from ebspub.remote.report import Failed, Succeeded
from tests.conftest import Need
from tests.contract.populate.world import MEMBER, World, make_image, pack, run
from tests.support.localshell import LocalHost

MEBI = 1 << 20
#: Fills the disk by a big file of the task's own, by one of somebody else's, by many small ones.
FILLING = {
    "artefact": "dd if=/dev/zero of=artefact bs=4096 2>/dev/null",
    "others": "dd if=/dev/zero of=../filler bs=512 2>/dev/null",
    "crumbs": "i=0; while head -c 4096 /dev/zero >crumb.$i; do i=$((i + 1)); done 2>/dev/null",
}


@contextmanager
def disk_of(host: LocalHost, size: str) -> Iterator[None]:
    """Give the builder's work folders a disk of ``size`` (as mount takes it)."""
    host.inside(f"mkdir -p .ebspub && mount -t tmpfs -o size={size} tmpfs .ebspub")
    try:
        yield
    finally:
        host.inside("umount -l .ebspub")


@pytest.fixture
def bare(tmp_path: Path, need: Need) -> Iterator[LocalHost]:
    need.tool("unshare", "nsenter", "setpriv")
    host = LocalHost(tmp_path / "host")
    try:
        yield host
    finally:
        host.close()


@pytest.mark.parametrize(
    ("filling", "end"),
    [*((filling, 'fail download "the download failed 6 times"') for filling in FILLING), ("others", "exit 7")],
)
def test_the_last_words_are_written_on_a_full_disk(bare: LocalHost, filling: str, end: str) -> None:
    world = World(bare, bare.shell, bare.folder, None)  # type: ignore[arg-type] # nothing is downloaded
    with disk_of(bare, "512k"):
        task = Task("t", f"phase download\n{FILLING[filling]}\n{end}\n")
        report = world.go(task)
        assert isinstance(report, Failed), report
        assert (report.code, report.phase) == ("disk-full", "download"), report
        assert poll(bare.shell, task) == report
        assert "builder's disk is full" in report.message
        assert "builder.root_size" in report.message
        assert ("6 times" if "fail" in end else "status 7") in report.message
    assert report.code in FATAL_CODES


def test_a_task_that_succeeds_leaves_no_reserve(bare: LocalHost) -> None:
    world = World(bare, bare.shell, bare.folder, None)  # type: ignore[arg-type]
    assert world.go(Task("t", "[ -s reserve ] || fail io reserve\nfact a b\n")) == Succeeded({"a": "b"})
    assert not (bare.work("t") / "reserve").exists()


def test_a_failure_on_a_disk_with_room_keeps_its_own_code(bare: LocalHost) -> None:
    world = World(bare, bare.shell, bare.folder, None)  # type: ignore[arg-type]
    report = world.go(Task("t", 'fail copy "it broke"\n'))
    assert isinstance(report, Failed)
    assert (report.code, report.message) == ("copy", "it broke")


def test_what_is_announced_to_be_larger_than_the_disk_is_not_begun(world: World) -> None:
    (world.server.folder / "big.tar.gz").write_bytes(os.urandom(8 * MEBI))
    with disk_of(world.host, "6m"):
        report = world.fail(world.task("big.tar.gz", None), "disk-full")
    assert f"the artefact has {8 * MEBI} bytes" in report.message
    assert "free at first: " in report.message
    assert {method for method, _, _ in world.server.requests} == {"HEAD"}


def test_an_image_that_does_not_fit_is_told_with_what_it_may_need(world: World, tmp_path: Path) -> None:
    image = tmp_path / "image.img"
    make_image(image, "ext2", size="8M", nasty=False)
    (tmp_path / "noise").write_bytes(os.urandom(5 * MEBI))
    run("debugfs", "-w", "-R", f"write {tmp_path / 'noise'} noise", image)
    pack(world.server.folder / "image.tar.gz", (MEMBER, image))
    with disk_of(world.host, "8m"):
        report = world.fail(world.task("image.tar.gz", None), "disk-full")
    assert report.phase == "extract"
    assert f"image up to {8 * MEBI}" in report.message
    assert not any(world.volume.read_bytes())
