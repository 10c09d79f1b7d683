"""Databases as the program of each revision left them (made by :mod:`tests.migrations.freeze`), to be gone on with."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ebspub.app import publish
from ebspub.app.runtime import Runtime, Stop
from ebspub.config import parse
from ebspub.engine.driver import Listener
from ebspub.engine.scheduler import Scheduler
from ebspub.remote.keys import Keyring
from ebspub.store import migrate
from ebspub.store.database import connect, sqlite_file
from tests.migrations.freeze import FROZEN
from tests.simulation.chaos import Weather
from tests.simulation.clients import SimulatedClients
from tests.simulation.ec2 import Thing
from tests.simulation.store import SimulatedStore
from tests.simulation.world import World

#: Seconds that pass between the death of the old program and the start of the new one: every lease has ended.
LATER = 3600.0
#: The rows of each table, by the names of the columns.
Contents = dict[str, list[dict[str, Any]]]


def dump(revision: str) -> Path:
    """Return a revision's dump."""
    file = FROZEN / f"{revision}.sql"
    assert file.exists(), (
        f"no database of revision {revision} is frozen: with the program that writes it, run"
        " `python -m tests.migrations.freeze`, and commit what it makes"
    )
    return file


def lay(url: str, revision: str) -> None:
    """Make the database at ``url`` (it has no tables) as the program of ``revision`` left it."""
    text = dump(revision).read_text()
    file = sqlite_file(url)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file)) as conn:
            conn.executescript(text)
        return
    engine = connect(url)
    try:
        migrate.upgrade(engine, revision)
        with closing(sqlite3.connect(":memory:")) as frozen:
            frozen.executescript(text)
            frozen.row_factory = sqlite3.Row
            _copy(frozen, engine)
    finally:
        engine.dispose()


def _copy(frozen: sqlite3.Connection, engine: sa.Engine) -> None:
    """Copy the rows of a frozen database into the same tables of another database."""
    found = sa.MetaData()
    found.reflect(engine)
    with engine.begin() as conn:
        for table in found.sorted_tables:
            rows = [dict(row) for row in frozen.execute(f'SELECT * FROM "{table.name}"')]
            if table.name == "alembic_version" or not rows:
                continue
            conn.execute(table.insert(), [{c.name: _value(c, row[c.name]) for c in table.columns} for row in rows])
            for column in table.primary_key.columns:
                if isinstance(column.type, sa.Integer):  # the next row goes on from here
                    highest = max(row[column.name] for row in rows)
                    conn.execute(sa.select(sa.func.setval(f"{table.name}_{column.name}_seq", highest)))


def _value(column: sa.Column[Any], stored: Any) -> Any:
    """Return what SQLite keeps as a number or a text, as the column's own type."""
    if isinstance(column.type, sa.JSON):
        return sa.null() if stored is None else json.loads(stored)
    return bool(stored) if isinstance(column.type, sa.Boolean) else stored


def contents(engine: sa.Engine, like: Contents | None = None) -> Contents:
    """Return the rows of every table by name, whatever the revision; with ``like``, of the columns that it has."""
    found = sa.MetaData()
    found.reflect(engine)
    tables = [table for name, table in found.tables.items() if name != "alembic_version"]
    rows: Contents = {}
    with engine.connect().execution_options(ebspub_writer=False) as conn:
        for table in tables:
            query = sa.select(table).order_by(*table.primary_key.columns)
            rows[table.name] = [dict(row) for row in conn.execute(query).mappings()]
    if like is not None:
        for name, made in rows.items():
            columns = like[name][0].keys() if like.get(name) else ()
            rows[name] = [{column: row[column] for column in columns} for row in made]
    return rows


class ThawedRuntime(Runtime):
    """What `ebspub resume` works with, in a simulated account."""

    world: World

    @property
    def keyring(self) -> Keyring:
        """The keys with which the jobs were begun."""
        mine = self.world.keyring
        assert self.store.remember("secret", mine.fingerprint) == mine.fingerprint, "keys are derived otherwise"
        return mine

    def scheduler(self, listen: Listener, executor: ThreadPoolExecutor) -> Scheduler:
        """Return a scheduler that does everything in its turn."""
        del listen, executor
        return self.world.publisher()[1]


@contextmanager
def thawed(url: str, revision: str) -> Iterator[World]:
    """Open the database of ``revision`` at ``url`` with the present program; yield it in its account, some time on."""
    document = json.loads(dump(revision).with_suffix(".json").read_text())
    world = World(0, regions=1, weather=Weather())
    world.clock.time = document["now"] + LATER
    region = world.regions[document["region"]]
    region._ids = itertools.count(document["made"] + 1)
    for found in document["things"]:
        thing = Thing(**{**found, "states": [(since, state) for since, state in found["states"]]})
        thing.data.update({name: set(thing.data[name]) for name in ("ports", "put") if name in thing.data})
        region.things[thing.id] = thing
    region.tokens = {token: (made, said) for token, (made, said) in document["tokens"].items()}
    world.clients = SimulatedClients(world.regions)
    with SimulatedStore.open(url) as store:
        assert isinstance(store, SimulatedStore)
        world.store = store
        yield world


def resume(world: World, job_ids: Sequence[str] = ()) -> publish.Result:
    """Do what `ebspub resume` does."""
    runtime = ThawedRuntime(parse(""), world.store, world.clock, world.clients, Stop())
    runtime.world = world
    return publish.resume(runtime, job_ids, lambda _job, _action: None)
