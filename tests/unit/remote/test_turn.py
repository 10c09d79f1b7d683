"""Tasks of several jobs on one builder: one at a time, whoever dies; and never two of one btrfs. In a plain folder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebspub.remote.detached import Task, cancel, clear, part, poll, start
from ebspub.remote.report import Failed, Report, Running, Succeeded
from tests.support.localshell import LocalShell, loop_device

TURN = f"turn=shared\n{part('turn.sh', 'ebspub.populate')}\n"
UUID = "0d1a5c0e-3b7c-4a52-9d0c-5a5f3d1b7e11"


class Builder:
    """A home folder in which tasks take turns."""

    def __init__(self, home: Path) -> None:
        self.home = home
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "EBSPUB_DEVICES": str(home)}
        self.shell = LocalShell({**environment, "EBSPUB_TEST_SESSION": os.environ.get("EBSPUB_TEST_SESSION", "")})
        self.tasks: list[Task] = []

    def start(self, name: str, script: str) -> Task:
        task = Task(name, TURN + script)
        self.tasks.append(task)
        start(self.shell, task)
        return task

    def poll(self, task: Task) -> Report:
        return poll(self.shell, task)

    def until(self, task: Task, holds: Callable[[Report], bool]) -> Report:
        deadline = time.monotonic() + 60
        while not holds(report := self.poll(task)):
            assert time.monotonic() < deadline, report
            time.sleep(0.05)
        return report

    def phase(self, task: Task, name: str) -> None:
        self.until(task, lambda report: isinstance(report, Running) and report.phase == name)

    def succeeds(self, task: Task) -> None:
        assert isinstance(self.until(task, lambda report: not isinstance(report, Running)), Succeeded)


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path)
    yield made
    for task in made.tasks:
        cancel(made.shell, task)


def busy(home: Path, name: str) -> str:
    """Return a script that works until a file is there."""
    return f"phase work\nuntil [ -e {home}/{name} ]; do sleep 0.05; done\n"


def test_the_second_waits_until_the_first_has_ended(builder: Builder) -> None:
    first = builder.start("first", busy(builder.home, "go"))
    builder.phase(first, "work")
    second = builder.start("second", f"[ -e {builder.home}/go ] || fail early 'the first is still at work'\n")
    builder.phase(second, "queue")
    (builder.home / "go").touch()
    builder.succeeds(first)
    builder.succeeds(second)


def test_who_is_killed_while_at_work_gives_his_turn_back(builder: Builder) -> None:
    first = builder.start("first", busy(builder.home, "never"))
    builder.phase(first, "work")
    second = builder.start("second", "phase work\n")
    builder.phase(second, "queue")
    mark = f"EBSPUB_TASK={builder.home}/.ebspub/first".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mine = mark in (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mine:
            os.kill(int(folder.name), signal.SIGKILL)
    builder.succeeds(second)


def test_who_is_cleared_leaves_neither_work_nor_big_files_nor_a_turn(builder: Builder) -> None:
    first = builder.start("first", "head -c 1048576 /dev/zero >artefact\n" + busy(builder.home, "never"))
    builder.phase(first, "work")
    waiting = builder.start("waiting", "phase work\n")
    last = builder.start("last", "phase work\n")
    for task in (waiting, first):
        clear(builder.shell, task)
        ended = builder.poll(task)
        assert isinstance(ended, Failed)
        assert ended.code == "cancelled"
    assert not (builder.home / ".ebspub/first/artefact").exists()
    builder.succeeds(last)


@pytest.mark.needs_loop
@pytest.mark.needs_tool("mkfs.btrfs", "blkid")
def test_two_volumes_of_one_btrfs_never_meet(builder: Builder, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("mine", "other")]
    for file in files:
        with file.open("wb") as made:
            made.truncate(128 << 20)
        subprocess.run(["mkfs.btrfs", "-q", "-U", UUID, str(file)], check=True, capture_output=True)
    # What the kernel is told is told here: other tests use its list of file systems, too.
    script = f'btrfs() {{ echo "$*" >{tmp_path}/said; }}\ndevice=$mine\nalone {UUID}\n'
    with loop_device(files[0]) as mine:
        with loop_device(files[1]):
            task = builder.start("task", f"mine={mine}\nphase compare\n{script}")
            builder.phase(task, "compare")
            time.sleep(0.5)
            assert isinstance(builder.poll(task), Running)
        builder.succeeds(task)
    assert (tmp_path / "said").read_text() == "device scan --forget\n"
