"""Every revision goes up and down with data in it, and the last one is what the program expects."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from ebspub.states import State
from ebspub.store import Store, effects, events, jobs, migrate, tables
from tests.migrations import data

SCRIPTS = ScriptDirectory(str(migrate.script_folder()))
#: Oldest first.
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]
EMPTY: dict[str, int] = {}


def test_there_is_one_line_of_revisions_and_each_has_data() -> None:
    assert SCRIPTS.get_heads() == [REVISIONS[-1]] == [migrate.head()]
    assert SCRIPTS.get_bases() == [REVISIONS[0]]
    assert list(data.ROWS) == REVISIONS


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_goes_down_and_up_again_with_data(engine: sa.Engine, revision: str) -> None:
    assert migrate.upgrade(engine, revision) == (None, revision)
    data.fill(engine, revision)
    before = SCRIPTS.get_revision(revision)
    assert before is not None
    migrate.downgrade(engine, str(before.down_revision or "base"))
    assert migrate.current(engine) == before.down_revision
    migrate.upgrade(engine, revision)
    assert migrate.current(engine) == revision


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_program_reads_what_an_older_one_wrote(url: str, engine: sa.Engine, revision: str) -> None:
    migrate.upgrade(engine, revision)
    job_id = data.fill(engine, revision)
    with Store.open(url) as store, store.read() as conn:
        job = jobs.get(conn, job_id)
        assert job is not None
        assert (job.state, job.instance_id, job.facts, job.epoch) == (State.LAUNCHED, "i-1", {"a": 1}, 3)
        assert [r.resource_id for r in job.resources] == ["i-1"]
        assert [e.to_state for e in events.history(conn, job_id)] == [State.LAUNCHED]
        assert [c.action for c in effects.history(conn, job_id)] == ["RunInstances"]


def test_down_to_the_bottom_leaves_nothing(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    data.fill(engine, migrate.head())
    migrate.downgrade(engine, "base")
    assert data.rows(engine) == EMPTY
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
