"""Every revision goes up and down with data in it, and the last one is what the program expects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ebspub.store import migrate, tables
from tests.migrations import thaw

SCRIPTS = ScriptDirectory(str(migrate.script_folder()))
#: Oldest first.
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]


def test_there_is_one_line_of_revisions() -> None:
    assert SCRIPTS.get_heads() == [REVISIONS[-1]] == [migrate.HEAD]
    assert SCRIPTS.get_bases() == [REVISIONS[0]]


#: What going down changes beside what the revision below has no place for, by table.
DOWN: dict[str, dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    # Without a builder a job can only be where it began.
    "0002": {
        "jobs": lambda row: (
            {"state": "pending"}
            if row["method"] in ("direct", "copy") and row["state"] in ("launched", "attached", "populated")
            else {}
        )
    }
}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_goes_down_and_up_again_and_keeps_what_the_one_below_knows(
    url: str, engine: sa.Engine, revision: str
) -> None:
    thaw.lay(url, revision)
    before = thaw.contents(engine)
    below = SCRIPTS.get_revision(revision).down_revision

    migrate.downgrade(engine, str(below or "base"))

    assert migrate.current(engine) == below
    kept = thaw.contents(engine)
    for name, rows in kept.items():
        change = DOWN.get(revision, {}).get(name)
        told = [row | change(row) for row in before[name]] if change else before[name]
        assert [{key: row[key] for key in rows[0]} for row in told] == rows, name
    assert (kept == {}) == (below is None)
    migrate.upgrade(engine, revision)
    assert migrate.current(engine) == revision
    assert {name: rows for name, rows in thaw.contents(engine, like=kept).items() if name in kept} == kept


def test_down_to_the_bottom_leaves_nothing(url: str, engine: sa.Engine) -> None:
    thaw.lay(url, migrate.HEAD)
    migrate.downgrade(engine, "base")
    assert thaw.contents(engine) == {}
    assert migrate.current(engine) is None


def test_models_equal_schema(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []


def test_models_equal_schema_in_what_alembic_does_not_compare(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    migrated = schema(engine)
    migrate.downgrade(engine, "base")
    tables.metadata.create_all(engine)
    assert migrated == schema(engine)
    assert len(migrated["jobs"]["checks"]) > 10


def schema(engine: sa.Engine) -> dict[str, dict[str, Any]]:
    """Return what the database itself says of our tables."""
    look = sa.inspect(engine)
    partial = f"{engine.dialect.name}_where"
    found = {
        name: {
            "columns": {c["name"]: (str(c["type"]), c["nullable"]) for c in look.get_columns(name)},
            "primary": look.get_pk_constraint(name),
            "checks": {c["name"]: c["sqltext"] for c in look.get_check_constraints(name)},
            "unique": sorted(str(c) for c in look.get_unique_constraints(name)),
            "indexes": sorted(
                f"{i['name']} {i['column_names']} {i['unique']} WHERE {i.get('dialect_options', {}).get(partial)}"
                for i in look.get_indexes(name)
            ),
            "references": sorted(str(f) for f in look.get_foreign_keys(name)),
        }
        for name in look.get_table_names()
        if name != "alembic_version"
    }
    look.bind.engine.dispose()
    return found
