"""Every promise of the store is kept by each database that it can be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebspub.store import Store, tables
from ebspub.store.database import sqlite_file
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URL of an empty store on each of the databases: made once, as that takes longer than most tests."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('template') / 'ebspub.db'}"
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create()
    Store.open(url).close()
    return url


@pytest.fixture
def store(template: str, tmp_path: Path) -> Iterator[Store]:
    """Return an empty store on each of the databases."""
    original = sqlite_file(template)
    if original is not None:
        copy = tmp_path / "ebspub.db"
        shutil.copy(original, copy)
        with Store.open(f"sqlite:///{copy}") as opened:
            yield opened
        return
    with Store.open(template) as opened:
        yield opened
        with opened.write() as conn:
            for table in reversed(tables.metadata.sorted_tables):
                if table is not tables.meta:
                    conn.execute(table.delete())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a SQLite database may be made, in a folder that does not exist yet."""
    return tmp_path / "state" / "ebspub.db"


@pytest.fixture
def sqlite_url(file: Path) -> str:
    """Return the URL of a SQLite database that does not exist yet."""
    return f"sqlite:///{file}"
