"""Open a database so that what is committed stays committed.

SQLite: WAL (readers never block the writer), ``synchronous=FULL`` (a commit survives a power cut), foreign keys on,
a busy timeout, and BEGIN IMMEDIATE for writers: a transaction that begins as a reader and then writes fails at
once with SQLITE_BUSY, whatever the timeout. PostgreSQL: writers with its default (READ COMMITTED, compare-and-set by
a job's epoch), readers with REPEATABLE READ, so that what several queries of one transaction return is of one moment.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url

from ebspub.errors import StoreError

#: How long a writer waits for another one (seconds). Transactions here are a few statements long.
BUSY_TIMEOUT = 30.0
#: What SQLite needs beside the database to open it: the memory that its processes share (bytes).
_SHM_SIZE = 32 * 1024
#: PostgreSQL's advisory lock that one migration at a time holds; SQLite's write lock does the same.
_MIGRATION_LOCK = 0x65627370
#: The same for transactions that must see all that others of their kind have committed.
_ONE_BY_ONE = 0x65627371


def sqlite_file(url: str | URL) -> Path | None:
    """Return the file of a SQLite URL, or None (in memory, or another database)."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def connect(url: str) -> sa.Engine:
    """Return an engine for ``url``. Nothing is connected yet.

    A SQLite file and its folder are made (modes 0600 and 0700); an existing file is made private to its owner. Raises
    StoreError where that cannot be.
    """
    file = sqlite_file(url)
    if file is not None:
        _make_private(file)
    if make_url(url).get_backend_name() != "sqlite":
        return _server(url)
    memory = {} if file is not None else {"poolclass": sa.pool.StaticPool}
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False, "isolation_level": None}, **memory
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        _into_wal(cursor)
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        writer = connection.get_execution_options().get("ebspub_writer", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _into_wal(cursor: sqlite3.Cursor) -> None:
    """Let a database have its write-ahead log, which it keeps.

    Of two processes that do this to a new file at once, SQLite refuses one without any patience: each holds a read lock
    that the other would have to wait for, so that a busy timeout could only make both wait in vain.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def shown(url: str | URL) -> str:
    """Return ``url`` for messages: a password may stand before the host, or among what goes to the driver."""
    return make_url(url).set(query={}).render_as_string(hide_password=True)


def _server(url: str) -> sa.Engine:
    """Return an engine for a database server. Raises StoreError where its dialect or driver is not installed."""
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
        place = shown(url)
        todo = "Install the driver that the URL names (pip install 'ebspub[postgresql]'), or correct [store] url."
        raise StoreError(f"the state database {place} cannot be used: {error}", todo=todo) from error
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _end_what_hangs)
    return engine


def _end_what_hangs(connection: Any, _record: object) -> None:
    """Let the server end a transaction whose process stands still, or whose host is gone: it would keep its locks."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{BUSY_TIMEOUT:.0f}s'")
    connection.commit()


def _make_private(file: Path) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite would make it by the umask; the files that it keeps beside it get the database's own mode. An existing
        # file is never opened here: to close it would drop the locks that SQLite holds on it in this process.
        with suppress(FileExistsError):
            file.touch(mode=0o600, exist_ok=False)
        for path in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))):
            with suppress(FileNotFoundError):
                if path.stat().st_mode & 0o077:
                    path.chmod(0o600)
    except OSError as error:
        raise StoreError(
            f"the state database {file} cannot be used: {error.strerror}: {error.filename}",
            todo="See that its folder can be written and that the file is yours.",
        ) from error


def insert_if_absent(conn: sa.Connection, table: sa.Table, row: Mapping[str, Any], *, unique: Sequence[str]) -> bool:
    """Insert a row; False where one has the same values in the ``unique`` columns, even one being added just now.

    Raises IntegrityError where the row is refused for any other reason.
    """
    if conn.execute(_insertion(conn.dialect.name, table, tuple(row)), row).rowcount == 1:
        return True
    same = sa.select(sa.literal(1)).select_from(table).where(*(table.c[name] == row[name] for name in unique))
    if conn.execute(same).first() is None:
        conn.execute(table.insert(), row)
    return False


@lru_cache(maxsize=16)
def _insertion(dialect_name: str, table: sa.Table, columns: tuple[str, ...]) -> sa.Insert:
    """Return the statement that inserts a row where none is in conflict with it; the few there are are built once."""
    dialect: Any = postgresql if dialect_name == "postgresql" else sqlite
    values = {name: sa.bindparam(name, type_=table.c[name].type) for name in columns}
    # Whatever is in conflict: a row that another process is adding conflicts in its primary key, too.
    statement: sa.Insert = dialect.insert(table).values(values).on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)


def one_by_one(conn: sa.Connection) -> None:
    """Let a transaction that writes go on only when no other is between this call and its end.

    SQLite's writers are alone anyway. PostgreSQL's see, in READ COMMITTED, what those before them have committed.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_ONE_BY_ONE)))


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that sees the database as it was at one moment, and never blocks a writer."""
    options: dict[str, Any] = {"ebspub_writer": False}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with engine.connect().execution_options(**options) as conn:
        yield conn


@contextmanager
def migrating(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that may change tables; no other migration runs at the same time.

    SQLite changes a table by copying and dropping it. Foreign keys are therefore off, which a transaction cannot change
    for itself, and checked as a whole before the commit.
    """
    with engine.connect() as conn:
        if engine.dialect.name != "sqlite":
            with conn.begin():
                conn.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                yield conn
            return
        driver: Any = conn.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            with conn.begin():
                yield conn
                broken = conn.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise StoreError(f"a migration would leave rows without what they refer to: {broken[:5]}")
        finally:
            driver.execute("PRAGMA foreign_keys=ON")


def _is_full(file: Path | None) -> bool:
    """Whether there is no room beside a SQLite file: where its -shm lacks it, SQLite only speaks of an I/O error."""
    try:
        return file is not None and shutil.disk_usage(file.parent).free < _SHM_SIZE
    except OSError:
        return False


@contextmanager
def told(url: str | URL) -> Iterator[None]:
    """Turn what a database driver raises into a :class:`StoreError` that says what to do."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise  # a constraint refused a row: a defect of ours, never the database's state
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        place = shown(url)
        cause = str(getattr(error, "orig", None) or error).strip()
        todo = "See that the database can be reached and written, then run `ebspub resume`: nothing is lost."
        if "locked" in cause:
            todo = "Another process holds the database for long; see who, then run `ebspub resume`: nothing is lost."
        elif "full" in cause or "No space left" in cause or _is_full(sqlite_file(url)):
            todo = "Free disk space, then run `ebspub resume`: nothing is lost."
        raise StoreError(f"the state database {place} cannot be used: {cause}", todo=todo) from error
