"""A program of several processes at one SQLite database: ``python -m tests.contract.store.processes WHAT URL ...``.

It loads everything once and forks, so that a test can kill or race dozens of processes in a second. It prints what
the test is to judge as JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ebspub.errors import StoreError
from ebspub.states import State, Status
from ebspub.store import Store, events, jobs, leases, tables
from tests.contract.store.rows import NOW, spec

ROOT = Path(__file__).resolve().parents[3]
_PR_SET_PDEATHSIG = 1


def command(*arguments: object) -> list[str]:
    """Return the command line of this program; run it in ROOT."""
    return [sys.executable, "-W", "error", "-m", "tests.contract.store.processes", *map(str, arguments)]


def run(*arguments: object, prefix: tuple[str, ...] = ()) -> Any:
    """Run this program to its end; return what it printed."""
    done = subprocess.run(
        [*prefix, *command(*arguments)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What is true of the database at every moment ------------------------------------------------------------------------


def disagreements(file: Path) -> list[str]:
    """Return what is wrong with a database in which ``write_on`` wrote: damage, or half a transaction."""
    with closing(sqlite3.connect(file)) as conn:
        damage = [line for (line,) in conn.execute("PRAGMA integrity_check") if line != "ok"]
        damage += [f"foreign key of {row}" for row in conn.execute("PRAGMA foreign_key_check")]
        newest = """
            SELECT j.id, j.state, e.to_state, j.facts, e.facts, (SELECT count(*) FROM events c WHERE c.job_id = j.id)
            FROM jobs j JOIN events e ON e.id = (SELECT max(id) FROM events n WHERE n.job_id = j.id)
        """
        for job_id, state, to_state, facts, told, count in conn.execute(newest):
            number = json.loads(facts)["number"]
            if (state, facts, number) != (to_state, told, count):
                damage.append(f"{job_id}: {state} {facts} but its {count} events end with {to_state} {told}")
        return damage + broken_chains(conn)


def broken_chains(conn: sqlite3.Connection) -> list[str]:
    """Return where the history of a job is not one chain of states from pending to where the job is."""
    broken = []
    for job_id, state in conn.execute("SELECT id, state FROM jobs").fetchall():
        last = "pending"
        changes = "SELECT from_state, to_state FROM events WHERE job_id = ? AND to_state IS NOT NULL ORDER BY id"
        for source, target in conn.execute(changes, (job_id,)):
            if source != last:
                broken.append(f"{job_id}: from {source}, but the job was {last}")
            last = target
        if last != state:
            broken.append(f"{job_id}: is {state}, told {last}")
    return broken


def write_on(url: str, told: Callable[[], None] = lambda: None) -> None:
    """Change jobs for ever, each with its event in one transaction; call ``told`` after each commit."""
    rng = random.Random()
    states = [State.PENDING, State.LAUNCHED, State.ATTACHED, State.POPULATED]
    ids = {"instance_id": "i-1", "volume_id": "vol-1"}
    with Store.open(url) as store:
        with store.read() as conn:
            waiting = [job.id for job in jobs.find(conn)]
        while True:
            with store.write() as conn:
                job = jobs.get(conn, rng.choice(waiting))
                assert job is not None
                lease = leases.claim(
                    conn, job.id, owner="me", now=NOW, until=NOW, status=Status.RUNNING, dead=lambda _: True
                )
                assert lease is not None
                state = rng.choice(states)
                facts = {"number": job.facts.get("number", 0) + 1}
                jobs.change(conn, job.id, lease, NOW, state=state.value, facts=facts, **ids)
                change = (job.state, state)
                events.add(conn, job.id, NOW, attempt=1, epoch=1, action="step", change=change, facts=facts)
            told()


# Processes ---------------------------------------------------------------------------------------------------------


def fork(work: Callable[[], None]) -> int:
    """Run ``work`` in a process of its own, which ends when this one does; return its id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - a fork never returns into what its parent does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def all_at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work(number)`` in ``count`` processes that start together; return what each returned."""
    gate, opened = os.pipe()
    results = []
    for number in range(count):
        reader, writer = os.pipe()

        def one(number: int = number, writer: int = writer) -> None:
            os.close(opened)
            os.read(gate, 1)
            os.write(writer, json.dumps(work(number)).encode())

        results.append((fork(one), reader))
        os.close(writer)
    os.close(opened)  # everybody's read returns
    answers = []
    for pid, reader in results:
        with os.fdopen(reader, "rb") as pipe:
            answers.append(json.loads(pipe.read() or b'"died"'))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return answers


# What the tests ask for ----------------------------------------------------------------------------------------------


def opening(url: str) -> Any:
    """Open a database that does not exist yet, four processes at once; return the ids that they see."""

    def work(_: int) -> Any:
        with Store.open(url) as store:
            return store.id

    return all_at_once(4, work)


def claiming(url: str) -> Any:
    """Claim every job, four processes at once; return for each process the jobs that it got."""

    def work(number: int) -> Any:
        taken = []
        with Store.open(url) as store:
            with store.read() as conn:
                ids = [job.id for job in jobs.find(conn)]
            for job_id in ids:
                owner = f"owner-{number}"
                with store.write() as conn:
                    lease = leases.claim(conn, job_id, owner=owner, now=NOW, until=NOW + 60, status=Status.RUNNING)
                taken += [job_id] if lease else []
        return taken

    return all_at_once(4, work)


def counting(url: str) -> Any:
    """Read a number and write the next one, 40 times each in three processes at once; return the end."""
    column = tables.jobs.c.retries

    def work(_: int) -> Any:
        with Store.open(url) as store:
            for _turn in range(40):
                with store.write() as conn:
                    number = conn.execute(sa.select(column)).scalar_one()
                    conn.execute(tables.jobs.update().values(retries=number + 1))
        return None

    all_at_once(3, work)
    with Store.open(url) as store, store.read() as conn:
        return conn.execute(sa.select(column)).scalar_one()


def killing(url: str, rounds: str) -> Any:
    """Kill a writer at a random moment, again and again; return the number of commits and what was wrong."""
    rng = random.Random()
    file = Path(url.removeprefix("sqlite:///"))
    commits, wrong = 0, []
    for _ in range(int(rounds)):
        reader, writer = os.pipe()
        pid = fork(partial(write_on, url, partial(_dot, writer)))
        os.close(writer)
        os.read(reader, 1)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with os.fdopen(reader, "rb") as pipe:
            commits += 1 + len(pipe.read())
        wrong += disagreements(file)
        with Store.open(url) as store, store.read() as conn:
            kept = sum(job.facts.get("number", 0) for job in jobs.find(conn))
        if not commits <= kept <= commits + 1:  # the last one may have been committed, but not told
            wrong.append(f"{commits} commits were told, {kept} are there")
        commits = kept
    return {"commits": commits, "wrong": wrong}


def _dot(pipe: int) -> None:
    os.write(pipe, b".")


def filling(url: str, limit: str, mount: str = "") -> Any:
    """Write events until the disk is full (``mount``: a folder; or files may grow to ``limit`` bytes), then go on.

    Returns how often a commit was told, how many are there, the error, and the number of commits after room was made.
    """
    if mount:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={limit}", "tmpfs", mount], check=True)
    with Store.open(url) as store:
        with store.write() as conn:
            assert jobs.add(conn, spec(), NOW)
        ballast = Path(mount) / "ballast"
        if mount:
            ballast.write_bytes(b"\0" * (int(limit) // 3))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
        told, error = _fill(store)
        kept = _count(store)
        if mount:
            ballast.unlink()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        _event(store)
    with Store.open(url) as store:
        after = _count(store)
    return {
        "told": told,
        "kept": kept,
        "after": after,
        "error": str(error),
        "code": error.exit_code,
        "wrong": _damage(url),
    }


def _fill(store: Store) -> tuple[int, StoreError]:
    for told in range(100_000):
        try:
            _event(store)
        except StoreError as error:
            return told, error
    raise AssertionError("the disk is never full")


def _event(store: Store) -> None:
    with store.write() as conn:
        events.add(conn, spec().job_id, NOW, attempt=1, epoch=1, action="noted", message="x" * 2000)


def _count(store: Store) -> int:
    with store.read() as conn:
        return len(events.history(conn, spec().job_id))


def _damage(url: str) -> list[str]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
        return [line for (line,) in conn.execute("PRAGMA integrity_check") if line != "ok"]


WHAT: dict[str, Callable[..., Any]] = {
    "opening": opening,
    "claiming": claiming,
    "counting": counting,
    "killing": killing,
    "filling": filling,
    "writing": write_on,
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(WHAT[sys.argv[1]](*sys.argv[2:])))
