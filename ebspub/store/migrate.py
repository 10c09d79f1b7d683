"""Migrations: bring a database to the revision that this version writes.

A SQLite file is copied beside itself (``NAME.<revision>.bak``, by SQLite's own backup, consistent at any time) before
it is upgraded. A database of a newer version is refused: nothing is lost by starting the newer program.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from ebspub.errors import StoreError
from ebspub.store.database import sqlite_file

#: PostgreSQL's advisory lock that one upgrade at a time holds; SQLite's write lock does the same.
_LOCK = 0x65627370


def script_folder() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise StoreError("the migrations are missing from this installation", todo="Install ebspub again.")


def head() -> str:
    """Return the revision that this version writes."""
    return str(ScriptDirectory(str(script_folder())).get_current_head())


def current(engine: sa.Engine) -> str | None:
    """Return the database's revision; None where it has no tables yet."""
    with engine.connect().execution_options(ebspub_writer=False) as conn:
        return MigrationContext.configure(conn).get_current_revision()


def upgrade(engine: sa.Engine, revision: str = "head") -> tuple[str | None, str]:
    """Upgrade the database to ``revision``; return the revisions before and after.

    A SQLite file that holds an older revision is copied first.
    """
    before = current(engine)
    target = head() if revision == "head" else revision
    if before == target:
        return before, target
    _refuse_newer(before)
    file = sqlite_file(engine.url)
    if before is not None and file is not None:
        backup(file, file.with_name(f"{file.name}.{before}.bak"))
    with engine.begin() as conn:
        if conn.dialect.name == "postgresql":
            conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        # Another process may have upgraded while this one waited for the lock.
        before = MigrationContext.configure(conn).get_current_revision()
        if before != target:
            command.upgrade(_config(conn), target)
    return before, target


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Take the database back to an older revision (``base``: no tables)."""
    with engine.begin() as conn:
        command.downgrade(_config(conn), revision)


def backup(source: Path, target: Path) -> None:
    """Copy a SQLite database that may be in use; the copy is consistent, and only its owner may read it."""
    target.touch(mode=0o600)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


def _refuse_newer(revision: str | None) -> None:
    if revision is None:
        return
    try:
        known = ScriptDirectory(str(script_folder())).get_revision(revision) is not None
    except CommandError:
        known = False
    if not known:
        raise StoreError(
            f"the state database is of revision {revision}, which this version does not know",
            todo="Use the version of ebspub that wrote it, or a later one.",
        )


def _config(conn: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(script_folder()).replace("%", "%%"))
    config.attributes["connection"] = conn
    return config
