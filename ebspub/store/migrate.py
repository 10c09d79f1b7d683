"""Migrations: bring a database to the revision that this version writes.

A SQLite file is copied beside itself (``NAME.<revision>.bak``, by SQLite's own backup, consistent at any time) before
it is upgraded. A database of a newer version is refused: nothing is lost by starting the newer program.

Every command asks for the revision, and nearly always it is the right one: Alembic, which takes as long to import as a
database to read, is asked only where there is something to migrate.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from ebspub.errors import StoreError
from ebspub.store.database import migrating, reading, sqlite_file

if TYPE_CHECKING:
    from alembic.config import Config

#: The revision that this version writes: the newest of the migrations.
HEAD: Final = "0004"


def script_folder() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise StoreError("the migrations are missing from this installation", todo="Install ebspub again.")


def current(engine: sa.Engine) -> str | None:
    """Return the database's revision; None where it has no tables yet."""
    with reading(engine) as conn:
        return _revision(conn)


def _revision(conn: sa.Connection) -> str | None:
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(engine: sa.Engine, revision: str = "head") -> tuple[str | None, str]:
    """Upgrade the database to ``revision``; return the revisions before and after.

    A SQLite file that holds an older revision is copied first.
    """
    before = current(engine)
    target = HEAD if revision == "head" else revision
    if before == target:
        return before, target
    from alembic import command

    with migrating(engine) as conn:
        # Another process may have upgraded while this one waited for the lock.
        before = _revision(conn)
        if before != target:
            _refuse_newer(before)
            file = sqlite_file(engine.url)
            if before is not None and file is not None:
                # Under the write lock: what is copied is what is upgraded.
                backup(file, file.with_name(f"{file.name}.{before}.bak"))
            command.upgrade(_config(conn), target)
    return before, target


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Take the database back to an older revision (``base``: no tables)."""
    from alembic import command

    with migrating(engine) as conn:
        command.downgrade(_config(conn), revision)


def backup(source: Path, target: Path) -> None:
    """Copy a SQLite database that may be in use; the copy is consistent, and only its owner may read it.

    ``target`` is the whole copy or what it was before. Raises StoreError.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600, exist_ok=False)
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
        with part.open("rb") as copied:
            os.fsync(copied.fileno())
        part.replace(target)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"the state database {source} cannot be copied to {target.name}, so it was not upgraded: {error}",
            todo="Free disk space, or see that the folder can be written, and start again: nothing was changed.",
        ) from error


def _refuse_newer(revision: str | None) -> None:
    if revision is None:
        return
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

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
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(script_folder()).replace("%", "%%"))
    config.attributes["connection"] = conn
    return config
