"""The real store in memory: a process may die or stand still at each of its commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

import sqlalchemy as sa

from ebspub.store import Store, tables
from ebspub.store.database import connect
from tests.simulation.chaos import Chaos
from tests.simulation.lean import Connection


class SimulatedStore(Store):
    """The real store; before and after each commit of a writer the process may die or stand still.

    ``lean``: its statements run on SQLite without SQLAlchemy's connections around them.
    """

    chaos: Chaos | None = None
    lean: Connection | None = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        if self.chaos is not None:
            self.chaos.moment("before a commit")
        with self.calm_write() as conn:
            yield conn
        if self.chaos is not None:
            self.chaos.moment("after a commit")

    @contextmanager
    def calm_write(self) -> Iterator[sa.Connection]:
        """A writer to whom nothing happens."""
        with super().write() if self.lean is None else self.lean.transaction("BEGIN IMMEDIATE") as conn:
            yield cast("sa.Connection", conn)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with super().read() if self.lean is None else self.lean.transaction("BEGIN") as conn:
            yield cast("sa.Connection", conn)


@cache
def _memory() -> tuple[sa.Engine, Connection, bytes]:
    """Return this process's one engine, its connection, and a database with empty tables as SQLite serializes it.

    Making tables, and compiling every statement anew for an engine, takes longer than a short history.
    """
    engine = connect("sqlite://")
    with engine.begin() as conn:
        tables.metadata.create_all(conn)
        conn.execute(tables.meta.insert(), {"key": "store_id", "value": "simulated"})
    with engine.connect() as conn:
        driver: Any = conn.connection.driver_connection
        return engine, Connection(driver), bytes(driver.serialize())


def open_store(*, lean: bool = True) -> SimulatedStore:
    """Return an empty store in memory; the store of an earlier world is gone."""
    engine, connection, empty = _memory()
    connection.raw.deserialize(empty)
    store = SimulatedStore("sqlite://", engine)
    store.lean = connection if lean else None
    return store
