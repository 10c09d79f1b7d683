"""An upgrade: copied first, whole or not at all, by one process at a time, and never of a newer database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from ebspub.errors import StoreError
from ebspub.store import Store, database, migrate
from tests.migrations import thaw
from tests.migrations.conftest import Later

ROOT = Path(__file__).resolve().parents[2]
#: Copies, changes and drops a table that others refer to (SQLite), with all its rows.
ADD_COLUMN = """\
with op.batch_alter_table("jobs", recreate="auto") as batch:
    batch.add_column(sa.Column("later", sa.Text))
    batch.create_check_constraint(op.f("ck_jobs_later"), "later IS NULL OR later <> ''")"""
#: Opens a database with the migrations of a folder.
OPEN = """
import sys
from pathlib import Path
from ebspub.store import Store, migrate
migrate.script_folder, migrate.HEAD = lambda: Path(sys.argv[2]), sys.argv[3]
sys.stdin.readline()
with Store.open(sys.argv[1]) as store:
    print(store.id, migrate.current(store.engine))
"""


def old(url: str, engine: sa.Engine) -> thaw.Contents:
    """Make a database of the newest real revision, with data; return its rows."""
    thaw.lay(url, migrate.HEAD)
    return thaw.contents(engine)


def file_of(url: str) -> Path:
    """Return the file of a SQLite database."""
    file = database.sqlite_file(url)
    assert file is not None
    return file


def together(count: int, url: str) -> list[str]:
    """Open a database in several processes that start together; return what each saw."""
    command = [sys.executable, "-W", "error", "-c", OPEN, url, str(migrate.script_folder()), migrate.HEAD]
    started = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    try:
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.communicate(timeout=60)[0] for process in started]
    finally:
        for process in started:
            with process:
                process.kill()


def test_an_upgrade_keeps_every_row(url: str, engine: sa.Engine, later: Later) -> None:
    before, revision = old(url, engine), migrate.HEAD
    later(ADD_COLUMN)
    assert migrate.upgrade(engine) == (revision, "later")
    assert thaw.contents(engine, like=before) == before
    assert migrate.upgrade(engine) == ("later", "later")
    with engine.connect() as conn:
        assert conn.exec_driver_sql("SELECT count(*) FROM jobs WHERE later IS NULL").scalar_one() == len(before["jobs"])
    migrate.downgrade(engine, revision)
    assert thaw.contents(engine) == before


def test_references_are_checked_again_after_an_upgrade(url: str, engine: sa.Engine, later: Later) -> None:
    old(url, engine)
    later(ADD_COLUMN)
    migrate.upgrade(engine)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
        conn.exec_driver_sql("DELETE FROM jobs")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_an_upgrade_that_would_break_a_reference_is_not_made(url: str, engine: sa.Engine, later: Later) -> None:
    before, revision = old(url, engine), migrate.HEAD
    later('op.execute("DELETE FROM jobs")')
    with pytest.raises(StoreError, match="refer to"):
        migrate.upgrade(engine)
    assert (migrate.current(engine), thaw.contents(engine)) == (revision, before)


def test_an_upgrade_that_fails_changes_nothing(url: str, engine: sa.Engine, later: Later) -> None:
    before, revision = old(url, engine), migrate.HEAD
    later(f'{ADD_COLUMN}\nop.drop_table("events")\nraise RuntimeError("half way")')
    with pytest.raises(RuntimeError, match="half way"):
        Store.open(url)
    assert (migrate.current(engine), thaw.contents(engine)) == (revision, before)
    columns = {column["name"] for column in sa.inspect(engine).get_columns("jobs")}
    assert "later" not in columns


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_file_is_copied_before_it_is_upgraded(url: str, engine: sa.Engine, later: Later) -> None:
    before, revision = old(url, engine), migrate.HEAD
    with engine.connect():  # what is committed, but only in the -wal file yet, is copied, too
        later(ADD_COLUMN)
        Store.open(url).close()
    copy = file_of(url).with_name(f"ebspub.db.{revision}.bak")
    assert copy.stat().st_mode & 0o777 == 0o600
    copied = database.connect(f"sqlite:///{copy}")
    assert (migrate.current(copied), thaw.contents(copied)) == (revision, before)
    copied.dispose()
    engine.dispose()
    assert sorted(path.name for path in copy.parent.iterdir()) == ["ebspub.db", copy.name]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_new_file_and_one_that_is_up_to_date_are_not_copied(url: str, engine: sa.Engine) -> None:
    old(url, engine)
    Store.open(url).close()
    assert list(file_of(url).parent.glob("*.bak*")) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_process_that_comes_second_does_not_copy_over_the_first_copy(
    url: str, engine: sa.Engine, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It saw the old revision, then waited for the lock while the first one copied and upgraded."""
    old(url, engine)
    revision = migrate.HEAD
    later(ADD_COLUMN)
    migrate.upgrade(engine)
    monkeypatch.setattr(migrate, "current", lambda _: revision)
    assert migrate.upgrade(engine) == ("later", "later")
    with closing(sqlite3.connect(file_of(url).with_name(f"ebspub.db.{revision}.bak"))) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_cannot_be_copied_is_not_upgraded(url: str, engine: sa.Engine, later: Later) -> None:
    before, revision = old(url, engine), migrate.HEAD
    later(ADD_COLUMN)
    file_of(url).with_name(f"ebspub.db.{revision}.bak").mkdir()
    with pytest.raises(StoreError, match="cannot be copied") as told:
        Store.open(url)
    assert "nothing was changed" in told.value.todo
    assert (migrate.current(engine), thaw.contents(engine)) == (revision, before)
    assert list(file_of(url).parent.glob("*.part")) == []


def test_a_database_of_a_newer_version_is_refused(url: str, engine: sa.Engine) -> None:
    before = old(url, engine)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for opener in (Store.open, Store.open_existing):
        with pytest.raises(StoreError, match="9999") as told:
            opener(url)
        assert "version of ebspub that wrote it" in told.value.todo
    assert thaw.contents(engine) == before


def test_a_database_that_becomes_newer_while_we_wait_is_refused(
    url: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    old(url, engine)
    with engine.begin() as conn:
        conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    monkeypatch.setattr(migrate, "current", lambda _: None)
    with pytest.raises(StoreError, match="9999"):
        migrate.upgrade(engine)


def test_one_process_at_a_time_migrates(url: str, engine: sa.Engine) -> None:
    waiting = threading.Thread(target=lambda: Store.open(url).close())
    with database.migrating(engine):
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
    waiting.join(30)
    assert migrate.current(engine) == migrate.HEAD


def test_processes_that_make_a_database_at_once_make_one(url: str) -> None:
    told = together(2, url)
    assert len(set(told)) == 1
    assert told[0].split()[1] == migrate.HEAD


def test_processes_that_upgrade_at_once_upgrade_once(url: str, engine: sa.Engine, later: Later) -> None:
    before = old(url, engine)
    later(ADD_COLUMN)
    told = together(2, url)
    assert len(set(told)) == 1
    assert told[0].split()[1] == "later"
    assert thaw.contents(engine, like=before) == before


# Where the migrations are --------------------------------------------------------------------------------------------


def test_the_alembic_command_upgrades_from_the_checkout(url: str, engine: sa.Engine) -> None:
    environment = {**os.environ, "EBSPUB_DATABASE": url}

    def alembic(*arguments: str) -> str:
        command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), *arguments]
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        return run.stdout

    alembic("upgrade", "head")
    assert migrate.current(engine) == migrate.HEAD
    assert migrate.HEAD in alembic("current")


def test_migrations_are_found_in_an_installed_package_and_beside_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "ebspub" / "store" / "migrate.py"
    monkeypatch.setattr(migrate, "__file__", str(module))
    with pytest.raises(StoreError, match="missing"):
        migrate.script_folder()
    for folder in (tmp_path / "migrations", tmp_path / "ebspub" / "migrations"):
        folder.mkdir(parents=True)
        (folder / "env.py").touch()
        assert migrate.script_folder() == folder  # the package's own before what lies beside it
