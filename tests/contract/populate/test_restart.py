"""Killed, started twice, cancelled, lost: the volume is right in the end, or the task says that it is not."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time

import pytest

from ebspub.remote.detached import cancel, poll, start
from ebspub.remote.report import Absent, Failed, Running
from tests.contract.populate.world import Image, World, tree_of
from tests.support.variants import few

PHASES = ["download", "check", "extract", "mkfs", "copy", "verify", "finish"]


@pytest.fixture
def slow(world: World) -> World:
    """A builder on which some programs take long enough to be killed in the middle."""
    slowed = {
        "curl": "/usr/bin/curl",
        "openssl": "/usr/bin/openssl",
        "sha256sum": "/usr/bin/sha256sum",
        "tar": "/usr/bin/tar",
        "mke2fs": "/usr/sbin/mke2fs",
        "cp": "/usr/bin/cp",
        "e2fsck": "/usr/sbin/e2fsck",
    }
    for name, path in slowed.items():
        real, stub = world.host.home / f"{name}.real", world.host.home / f"{name}.slow"
        shutil.copy(path, real)
        stub.write_text(f'#!/bin/sh\n"{real}" "$@"\nstatus=$?\nsleep "$(cat {world.host.home}/pause)"\nexit $status\n')
        stub.chmod(0o755)
        world.host.inside(f"mount --bind {stub} {path}")
    (world.host.home / "pause").write_text("0.4\n")
    return world


@pytest.mark.parametrize("phase", few(["copy"], PHASES, rest="long"))
def test_killed_in_any_phase_it_vanishes_and_a_second_start_ends_well(
    slow: World, images: dict[str, Image], phase: str
) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, slow.server.folder / "i.tar.gz")
    task = slow.task("i.tar.gz", image.sha256)
    start(slow.shell, task)
    slow.wait_for_phase(task, phase)
    time.sleep(0.1)
    slow.kill_all(task)
    report = poll(slow.shell, task)
    assert isinstance(report, Failed)
    assert (report.code, report.phase) == ("vanished", phase)
    slow.assert_clean()  # the kernel itself has unmounted what was mounted
    (slow.host.home / "pause").write_text("0\n")
    slow.succeed(task)
    assert tree_of(slow.volume) == tree_of(image.file)
    slow.assert_clean()


def test_when_only_its_leader_is_killed_what_is_left_is_ended_before_it_starts_again(
    slow: World, images: dict[str, Image]
) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, slow.server.folder / "i.tar.gz")
    task = slow.task("i.tar.gz", image.sha256)
    (slow.host.home / "pause").write_text("30\n")
    start(slow.shell, task)
    slow.wait_for_phase(task, "download")
    time.sleep(0.3)
    leader = (slow.host.work(task.name) / "leader").read_text().split()[1]
    slow.host.inside(f"kill -KILL {leader}")
    left = set(slow.processes(task))
    assert left
    assert isinstance(poll(slow.shell, task), Failed)
    (slow.host.home / "pause").write_text("0\n")
    start(slow.shell, task)
    assert not left & set(slow.processes(task))
    slow.finish(task)
    slow.succeed(task)
    assert tree_of(slow.volume) == tree_of(image.file)


@pytest.mark.long
def test_many_starts_at_once_download_once(slow: World, images: dict[str, Image]) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, slow.server.folder / "i.tar.gz")
    task = slow.task("i.tar.gz", image.sha256)
    failures: list[BaseException] = []

    def go() -> None:
        try:
            start(slow.shell, task)
        except BaseException as error:  # noqa: BLE001 - shown below
            failures.append(error)

    threads = [threading.Thread(target=go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    slow.succeed(task)
    assert [request[0] for request in slow.server.requests].count("GET") == 1
    start(slow.shell, task)  # it has ended: nothing more happens
    start(slow.shell, task, again=True)
    assert [request[0] for request in slow.server.requests].count("GET") == 1


def test_cancelled_it_ends_with_all_of_its_processes_and_mounts(slow: World, images: dict[str, Image]) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, slow.server.folder / "i.tar.gz")
    task = slow.task("i.tar.gz", image.sha256)
    (slow.host.home / "pause").write_text("1\n")
    start(slow.shell, task)
    slow.wait_for_phase(task, "copy")
    cancel(slow.shell, task)
    assert not slow.processes(task)
    report = poll(slow.shell, task)
    assert isinstance(report, Failed)
    assert report.code == "cancelled"
    slow.assert_clean()
    cancel(slow.shell, task)
    (slow.host.home / "pause").write_text("0\n")
    start(slow.shell, task)  # not without `again`
    assert isinstance(poll(slow.shell, task), Failed)
    slow.succeed(task, again=True)
    assert tree_of(slow.volume) == tree_of(image.file)


def test_after_a_failure_that_can_be_mended_it_starts_again(world: World, images: dict[str, Image]) -> None:
    image = images["lucid"]
    task = world.task("late.tar.gz", image.sha256)
    world.fail(task, "gone")
    shutil.copy(image.tarball, world.server.folder / "late.tar.gz")
    world.fail(task, "gone")  # a plain start leaves a result as it is
    world.succeed(task, again=True)


def test_a_builder_that_was_rebooted_is_told_from_one_that_works(world: World, images: dict[str, Image]) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, world.server.folder / "i.tar.gz")
    task = world.task("i.tar.gz", image.sha256)
    assert isinstance(poll(world.shell, task), Absent)
    work = world.host.work(task.name)
    start(world.shell, task)
    world.finish(task)
    (work / "result").unlink()
    boot, pid, begun = (work / "leader").read_text().split()
    # A process that lives, under the right pid, but started in another boot or at another time, is not the leader.
    alive = world.host.inside("cut -d ' ' -f 22 /proc/1/stat").strip()
    for fake in (f"{boot[::-1]} 1 {alive}", f"{boot} 1 {int(alive) + 1}", f"{boot} {pid} {begun}", "", "x"):
        (work / "leader").write_text(f"{fake}\n")
        report = poll(world.shell, task)
        assert isinstance(report, Failed), fake
        assert report.code == "vanished"
    (work / "leader").write_text(f"{boot} 1 {alive}\n")
    assert isinstance(poll(world.shell, task), Running)


def test_a_host_that_dies_takes_mounts_and_loop_devices_with_it(slow: World, images: dict[str, Image]) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, slow.server.folder / "i.tar.gz")
    task = slow.task("i.tar.gz", image.sha256)
    start(slow.shell, task)
    slow.wait_for_phase(task, "copy")
    time.sleep(0.1)
    os.kill(slow.host.pid, signal.SIGKILL)
    # The fixture's end checks that nothing is left.
