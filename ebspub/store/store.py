"""The store: one database, its identity, and transactions on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from ebspub.store import migrate, tables
from ebspub.store.database import connect, insert_if_absent, reading, sqlite_file, told

_META = tables.meta
_KNOWN = sa.select(_META.c.value).where(_META.c.key == sa.bindparam("key"))


class Store:
    """A state database at its newest revision.

    ``id`` names the database in the tags and tokens of everything it makes in EC2, so that two databases in one
    account never touch each other's resources.
    """

    def __init__(self, url: str, engine: sa.Engine) -> None:
        self.url = url
        self.engine = engine
        with self.read() as conn:
            found = conn.execute(_KNOWN, {"key": "store_id"}).scalar()
        self.id: str = found or self._name_it()

    @classmethod
    def open(cls, url: str) -> Store:
        """Open the database, made or upgraded where that is needed. Raises StoreError."""
        with told(url):
            engine = connect(url)
            try:
                migrate.upgrade(engine)
                return cls(url, engine)
            except BaseException:
                engine.dispose()
                raise

    @classmethod
    def open_existing(cls, url: str) -> Store | None:
        """Open the database for reading; None where there is none yet (and none is made). Raises StoreError."""
        file = sqlite_file(url)
        if file is not None and not file.exists():
            return None
        with told(url):
            engine = connect(url)
            try:
                made = migrate.current(engine) is not None
            finally:
                engine.dispose()
        return cls.open(url) if made else None

    def remember(self, key: str, value: str) -> str:
        """Write a fact about the database down unless it is known already; return what is known."""
        with self.write() as conn:
            known = conn.execute(_KNOWN, {"key": key}).scalar()
            if known is None:
                conn.execute(_META.insert(), {"key": key, "value": value})
                return value
            return str(known)

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction that writes; commits at the end, rolls back on any exception."""
        with told(self.url), self.engine.begin() as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """One transaction that reads a consistent state and never blocks a writer."""
        with told(self.url), reading(self.engine) as conn:
            yield conn

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _name_it(self) -> str:
        with self.write() as conn:
            insert_if_absent(conn, _META, {"key": "store_id", "value": uuid.uuid4().hex[:16]}, unique=("key",))
            return str(conn.execute(_KNOWN, {"key": "store_id"}).scalar_one())
