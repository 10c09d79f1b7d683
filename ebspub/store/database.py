"""Open a database so that what is committed stays committed.

SQLite: WAL (readers never block the writer), ``synchronous=FULL`` (a commit survives a power cut), foreign keys on,
a busy timeout, and BEGIN IMMEDIATE for writers: a transaction that begins as a reader and then writes fails at
once with SQLITE_BUSY, whatever the timeout. PostgreSQL and others: their defaults.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url

from ebspub.errors import StoreError

#: How long a writer waits for another one (seconds). Transactions here are a few statements long.
BUSY_TIMEOUT = 30.0


def sqlite_file(url: str | URL) -> Path | None:
    """Return the file of a SQLite URL, or None (in memory, or another database)."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def connect(url: str) -> sa.Engine:
    """Return an engine for ``url``; a SQLite file's folder is made (mode 0700). Nothing is connected yet."""
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if make_url(url).get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    memory = {} if file is not None else {"poolclass": sa.pool.StaticPool}
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False, "isolation_level": None}, **memory
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writer = connection.get_execution_options().get("ebspub_writer", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


@contextmanager
def told(url: str | URL) -> Iterator[None]:
    """Turn what a database driver raises into a :class:`StoreError` that says what to do."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise  # a constraint refused a row: a defect of ours, never the database's state
    except sa.exc.DBAPIError as error:
        place = make_url(url).render_as_string(hide_password=True)
        cause = str(error.orig).strip()
        todo = "See that the database can be reached and written, then run `ebspub resume`: nothing is lost."
        if "locked" in cause:
            todo = "Another process holds the database for long; see who, then run `ebspub resume`: nothing is lost."
        elif "full" in cause:
            todo = "Free disk space, then run `ebspub resume`: nothing is lost."
        raise StoreError(f"the state database {place} cannot be used: {cause}", todo=todo) from error
