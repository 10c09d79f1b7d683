"""The state database in trouble under the whole tool: the error says what to do, nothing is lost, `resume` goes on."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ebspub.localcloud import Effect, Rule
from tests.conftest import Need
from tests.local.publisher import Publisher

#: Seconds for which the cloud keeps an answer back, so that the disk is full when it comes.
_KEPT_BACK = 4.0
pytestmark = pytest.mark.long


class Disk:
    """A small file system that can be filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave no room for anything more."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 16, 1 << 9, 1):
                try:
                    while True:
                        ballast.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017 - every other error is none of ours

    def free(self) -> None:
        """Make room again."""
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path, need: Need) -> Iterator[Disk]:
    """Yield a file system of 4 MiB."""
    need.root()
    need.tool("mount", "umount")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def on(publisher: Publisher, disk: Disk) -> None:
    """Let the publisher keep its state on a disk."""
    old, new = f"{publisher.folder}/", f"{disk.folder}/"
    publisher.configure(
        "us-east-1", edit=lambda text: text.replace(f"sqlite:///{old}", f"sqlite:///{new}").replace(f"{old}state", new)
    )


def assert_told(code: int, stderr: str, *words: str) -> None:
    """The documented exit code, and words of what happened and what to do, without a traceback."""
    assert code == 4, stderr
    assert "Traceback" not in stderr
    assert stderr.count("ebspub: the state database sqlite:///") == 1, stderr
    for word in (*words, "ebspub resume", "nothing is lost"):
        assert word in stderr


def assert_resumed(publisher: Publisher) -> None:
    """`resume` publishes, and leaves nothing else."""
    done = publisher.call("resume")
    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_published(["us-east-1"])


def assert_made_once(publisher: Publisher, since: int, *actions: str) -> None:
    """Since the ``since``-th call each of the two jobs made these calls once."""
    calls = publisher.mutating_calls(since)
    assert {name: calls.count(name) for name in actions} == dict.fromkeys(actions, 2)


def test_on_a_full_disk_a_run_ends_with_what_to_do_and_resume_goes_on(publisher: Publisher, disk: Disk) -> None:
    """The disk is full when EC2 answers with the id of a snapshot: what was made then is known to EC2 only."""
    on(publisher, disk)
    since = len(publisher.cloud.calls())
    late = Effect(kind="delay", when="after", seconds=_KEPT_BACK)
    publisher.cloud.add_fault(Rule(effects=(late,), actions=frozenset({"CreateSnapshot"}), times=None))
    process = publisher.start("run")
    deadline = time.monotonic() + 90
    while "CreateSnapshot" not in publisher.mutating_calls(since):
        assert process.poll() is None, (publisher.folder / "err").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    disk.fill()

    code = process.wait(100)

    full = ("database or disk is full", "Free disk space")
    assert_told(code, (publisher.folder / "err").read_text(), *full)
    told = publisher.call("resume")
    assert_told(told.returncode, told.stderr, *full)
    assert {job["status"] for job in publisher.status()} == {"interrupted"}  # reading needs no room
    # To the last byte: now there is no room for what SQLite shares between processes, either.
    disk.fill()
    told = publisher.call("resume")
    assert_told(told.returncode, told.stderr, "Free disk space")

    disk.free()
    assert_resumed(publisher)
    assert_made_once(publisher, since, "RunInstances", "CreateSnapshot", "RegisterImage")


@pytest.mark.timeout(300)  # nearly all of it is waiting: a writer is patient for 30 s, each time
def test_a_database_that_somebody_holds_is_told_and_resume_goes_on(publisher: Publisher) -> None:
    since = len(publisher.cloud.calls())
    running = publisher.start("run")
    publisher.wait_for(lambda jobs: len(jobs) == 2 and any(job["state"] != "pending" for job in jobs))
    with closing(sqlite3.connect(publisher.folder / "ebspub.db", isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")

        another = subprocess.Popen(
            publisher.command("resume"), env=publisher.environment, stderr=subprocess.PIPE, text=True
        )
        publisher.started.append(another)
        assert len(publisher.status()) == 2  # reading goes on
        _, told = another.communicate(timeout=120)
        code = running.wait(200)

    assert_told(another.returncode, told, "locked", "Another process holds the database")
    assert_told(code, (publisher.folder / "err").read_text(), "locked", "Another process holds the database")
    assert_resumed(publisher)
    assert_made_once(publisher, since, "RunInstances", "CreateSnapshot", "RegisterImage")


def test_a_copy_taken_while_two_processes_write_is_gone_on_with(publisher: Publisher) -> None:
    """What the original published after the copy was taken is found in the account, and is not published again."""
    since = len(publisher.cloud.calls())
    both = [publisher.start("run", "--arch", arch) for arch in ("amd64", "i386")]
    publisher.wait_for(lambda jobs: len(jobs) == 2 and all(job["state"] != "pending" for job in jobs))
    original, copy = publisher.folder / "ebspub.db", publisher.folder / "copy.db"
    with closing(sqlite3.connect(original)) as conn:
        conn.execute("VACUUM INTO ?", (str(copy),))
    publisher.wait_for(lambda jobs: any(job["state"] in ("snapshotted", "registered") for job in jobs))
    for process in both:
        process.kill()
        process.wait()
    for file in publisher.folder.glob("ebspub.db*"):
        file.unlink()
    copy.rename(original)

    assert_resumed(publisher)
    assert_made_once(publisher, since, "RegisterImage")
