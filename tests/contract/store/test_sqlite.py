"""What SQLite is set up for: durable, private to its owner, and shared by processes that do not wait in vain."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ebspub.errors import StoreError
from ebspub.store import Store, database, jobs
from tests.contract.store import processes
from tests.contract.store.rows import driven, dump, job_of, plan, spec


def modes(folder: Path) -> dict[str, str]:
    """Return the mode of each file of a folder."""
    return {path.name: oct(path.stat().st_mode & 0o777) for path in sorted(folder.iterdir())}


def test_a_commit_survives_and_references_hold(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        for open_connection in (store.read, store.write):
            with open_connection() as conn:
                told = {
                    name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                }
            assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_only_the_owner_reads_the_database_and_what_lies_beside_it(sqlite_url: str, file: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Store.open(sqlite_url) as store:
            plan(store)
            names = ["ebspub.db", "ebspub.db-shm", "ebspub.db-wal"]
            assert modes(file.parent) == dict.fromkeys(names, "0o600")
        assert file.parent.stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_database_that_others_could_read_is_made_private(sqlite_url: str, file: Path) -> None:
    with Store.open(sqlite_url) as store:
        plan(store)
        for path in file.parent.iterdir():
            path.chmod(0o664)
        with Store.open(sqlite_url):
            assert set(modes(file.parent).values()) == {"0o600"}


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    Store.open(f"sqlite:///{tmp_path / 'ebspub.db'}").close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_to_open_a_database_that_is_in_use_keeps_its_locks(sqlite_url: str, file: Path) -> None:
    """POSIX drops all locks of a process on a file when the process closes any descriptor of that file.

    Without them another process takes itself for the last one, and removes the -wal file that is in use here.
    """
    wal = file.with_name(f"{file.name}-wal")
    script = (
        f"import sqlite3; conn = sqlite3.connect({str(file)!r}); print(conn.execute('SELECT 1 FROM meta').fetchall())"
    )
    with Store.open(sqlite_url) as store:
        plan(store)
        before = wal.stat().st_ino
        database.connect(sqlite_url).dispose()
        subprocess.run([sys.executable, "-c", f"{script}; conn.close()", str(file)], check=True)
        assert wal.stat().st_ino == before


# Several processes -------------------------------------------------------------------------------------------------


def test_processes_that_open_a_new_database_at_once_see_one(sqlite_url: str) -> None:
    ids = processes.run("opening", sqlite_url)
    with Store.open(sqlite_url) as store:
        assert ids == [store.id] * 4


def test_a_database_that_is_written_before_it_has_its_log_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself has no patience there, whatever the timeout."""
    file = tmp_path / "new.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        end = threading.Timer(0.5, other.execute, ["COMMIT"])
        end.start()
        engine = database.connect(f"sqlite:///{file}")
        try:
            with engine.connect() as conn:
                assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        finally:
            end.join()
            engine.dispose()


def test_of_processes_that_claim_the_same_jobs_each_job_has_one(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        ids = plan(store, *(spec(f"201010{day}") for day in range(10, 31)))
        taken = processes.run("claiming", sqlite_url)
        assert sorted(job_id for mine in taken for job_id in mine) == sorted(ids)
        with store.read() as conn:
            owners = {job.id: job.lease.owner for job in jobs.find(conn) if job.lease}
            assert {job.epoch for job in jobs.find(conn)} == {1}
    assert owners == {job_id: f"owner-{number}" for number, mine in enumerate(taken) for job_id in mine}


def test_writers_wait_for_each_other_and_none_is_lost(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        plan(store)
    assert processes.run("counting", sqlite_url) == 3 * 40


# When it cannot be used ----------------------------------------------------------------------------------------------


def test_a_database_that_another_process_holds_is_told(
    sqlite_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.1)
    with Store.open(sqlite_url) as store:
        plan(store)
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            before = dump(store)  # reading goes on
            with pytest.raises(StoreError, match=r"ebspub\.db cannot be used.*locked") as told, store.write():
                pass
            other.execute("ROLLBACK")
        assert "Another process holds the database" in told.value.todo
        assert told.value.exit_code == 4
        assert dump(store) == before
        driven(store, spec("20101021"))


def test_a_writer_waits_as_long_as_it_is_told_to(sqlite_url: str, file: Path) -> None:
    with Store.open(sqlite_url) as store, closing(sqlite3.connect(file, isolation_level=None)) as other:
        started = threading.Event()

        def write() -> None:
            started.set()
            plan(store)

        other.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=write)
        thread.start()
        assert started.wait(10)
        thread.join(0.3)
        assert thread.is_alive()
        other.execute("COMMIT")
        thread.join(10)
        assert not thread.is_alive()
        assert job_of(store, spec().job_id).epoch == 0


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare", "mount")
def test_a_full_disk_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ebspub.db'}"
    told = processes.run("filling", url, 1 << 20, tmp_path, prefix=("unshare", "--mount"))
    assert "cannot be used: (sqlite3" not in told["error"]
    assert "full" in told["error"]
    assert "Free disk space" in told["error"]
    assert told["told"] > 10
    assert (told["kept"], told["after"]) == (told["told"], told["told"] + 1)
    assert (told["code"], told["wrong"]) == (4, [])


def test_a_file_that_may_not_grow_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    told = processes.run("filling", f"sqlite:///{tmp_path / 'ebspub.db'}", 600_000)
    assert "cannot be used" in told["error"]
    assert "nothing is lost" in told["error"]
    assert told["told"] > 10
    assert (told["kept"], told["after"]) == (told["told"], told["told"] + 1)
    assert (told["code"], told["wrong"]) == (4, [])


def test_what_is_no_database_is_told_and_left_alone(file: Path, sqlite_url: str) -> None:
    file.parent.mkdir()
    file.write_text("a letter to somebody, " * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(sqlite_url)
    assert file.read_text().startswith("a letter")


def test_a_damaged_database_is_told(sqlite_url: str, file: Path) -> None:
    with Store.open(sqlite_url) as store:
        plan(store)
    content = bytearray(file.read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    file.write_bytes(content)
    with pytest.raises(StoreError, match="malformed"), Store.open(sqlite_url) as store:
        dump(store)


def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with pytest.raises(StoreError, match="plain"):
        Store.open(f"sqlite:///{tmp_path / 'plain' / 'ebspub.db'}")
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open("sqlite:////proc/ebspub/ebspub.db")


# Kills -------------------------------------------------------------------------------------------------------------


def test_a_killed_writer_leaves_no_half_transaction(sqlite_url: str) -> None:
    with Store.open(sqlite_url) as store:
        plan(store, spec("1"), spec("2"), spec("3"))
    told = processes.run("killing", sqlite_url, 15)
    assert told["wrong"] == []
    assert told["commits"] >= 15
