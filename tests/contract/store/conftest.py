"""Every promise of the store is kept by each database that it can be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.postgres import Postgres, postgres

from ebspub.store import Store, tables

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """Return the URL of a database that tests use one after the other: to empty its tables is faster than to make it."""
    url = postgres.create()
    Store.open(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Return an empty store on each of the databases."""
    if request.param == "sqlite":
        with Store.open(f"sqlite:///{tmp_path / 'state' / 'ebspub.db'}") as opened:
            yield opened
        return
    with Store.open(request.getfixturevalue("postgres_url")) as opened:
        yield opened
        # The next test starts with empty tables and the first ids; the database keeps its name.
        with opened.write() as conn:
            names = ", ".join(table.name for table in tables.metadata.sorted_tables if table is not tables.meta)
            conn.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a SQLite database may be made, in a folder that does not exist yet."""
    return tmp_path / "state" / "ebspub.db"


@pytest.fixture
def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite database that does not exist yet."""
    return f"sqlite:///{file}"
