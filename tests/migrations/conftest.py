"""Migrations on each database that the state can be in, and a folder of migrations that a test may add to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ebspub.store import migrate
from ebspub.store.database import connect
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]

Later = Callable[[str], str]

_LATER = '''"""A later revision."""
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
{body}


def downgrade() -> None:
    with op.batch_alter_table("jobs") as batch:
        batch.drop_constraint(op.f("ck_jobs_later"), type_="check")
        batch.drop_column("later")
'''


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Return the URL of a database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state' / 'ebspub.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    made = server.create()
    yield made
    server.drop(made)


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    """Return an engine of a database without tables."""
    engine = connect(url)
    yield engine
    engine.dispose()


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Later:
    """Return the means to add a revision after the newest one, given the lines of its upgrade; it returns its name."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.script_folder(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    newest = migrate.HEAD
    monkeypatch.setattr(migrate, "script_folder", lambda: folder)

    def add(body: str) -> str:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (folder / "versions" / "later.py").write_text(_LATER.format(revision="later", before=newest, body=lines))
        monkeypatch.setattr(migrate, "HEAD", "later")
        return "later"

    return add
