"""A copy of a SQLite database that processes write to is consistent, if it is taken in one of the ways told here.

SQLite's own ways (its backup API, which ebspub uses before it upgrades, and VACUUM INTO), and a copy of the file and
its ``-wal`` at one moment, as a snapshot of the file system is. To copy the two files one after the other, while
processes write, is none: a checkpoint between the two puts pages of one moment beside the log of another.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from ebspub.store import Store, jobs, migrate
from tests.contract.store import processes
from tests.contract.store.rows import plan, spec, take

Writers = Sequence["subprocess.Popen[bytes]"]
Way = Callable[[Path, Path, Writers], None]


def by_backup(source: Path, copy: Path, _writers: Writers) -> None:
    """As ebspub does before an upgrade: SQLite's backup API."""
    migrate.backup(source, copy)


def by_vacuum(source: Path, copy: Path, _writers: Writers) -> None:
    """VACUUM INTO, from the `sqlite3` program or any other."""
    with closing(sqlite3.connect(source, timeout=30)) as conn:
        conn.execute("VACUUM INTO ?", (str(copy),))


def by_files(source: Path, copy: Path, writers: Writers) -> None:
    """The file and its -wal at one moment: nobody runs meanwhile, but anybody may be within a transaction."""
    with stopped(writers):
        for file in (source, source.with_name(f"{source.name}-wal")):
            if file.exists():  # the -wal is made by the first who opens the database
                shutil.copy(file, copy.with_name(file.name.replace(source.name, copy.name)))


@contextmanager
def stopped(writers: Writers) -> Iterator[None]:
    """Let processes stand still."""
    for writer in writers:
        writer.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, writer.pid, os.WSTOPPED | os.WNOWAIT)
    try:
        yield
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("way", [by_backup, by_vacuum, by_files])
def test_a_copy_while_two_processes_write_is_consistent(sqlite_url: str, tmp_path: Path, way: Way) -> None:
    with Store.open(sqlite_url) as store:
        plan(store, spec("1"), spec("2"), spec("3"))
    source = Path(sqlite_url.removeprefix("sqlite:///"))
    rng = random.Random()
    seen: set[int] = set()
    copy = tmp_path / "none.db"
    with ExitStack() as stack:
        writers = [
            stack.enter_context(subprocess.Popen(processes.command("writing", sqlite_url), cwd=processes.ROOT))
            for _ in range(2)
        ]
        for writer in writers:
            stack.callback(writer.kill)
        deadline = time.monotonic() + 90
        while len(seen) < 12 and time.monotonic() < deadline:
            time.sleep(rng.uniform(0, 0.03))
            copy = tmp_path / f"copy-{len(seen)}-{rng.random()}.db"
            way(source, copy, writers)
            assert processes.disagreements(copy) == []
            with closing(sqlite3.connect(copy)) as conn:
                seen.add(conn.execute("SELECT count(*) FROM events").fetchone()[0])
        assert [writer.poll() for writer in writers] == [None, None]
    assert len(seen) == 12
    goes_on(copy)


def goes_on(copy: Path) -> None:
    """A copy is a database like any other: it can be opened, read, and written."""
    with Store.open(f"sqlite:///{copy}") as store:
        with store.read() as conn:
            ids = [job.id for job in jobs.find(conn)]
        assert len(ids) == 3
        for job_id in ids:
            with store.write() as conn:
                assert jobs.request_cancel(conn, job_id, 1.0)
            assert take(store, job_id, now=2e9) is not None
    assert processes.disagreements(copy) == []


def test_the_copy_that_ebspub_makes_is_its_owners_alone(sqlite_url: str, tmp_path: Path) -> None:
    Store.open(sqlite_url).close()
    copy = tmp_path / "copy.db"
    migrate.backup(Path(sqlite_url.removeprefix("sqlite:///")), copy)
    assert copy.stat().st_mode & 0o777 == 0o600
