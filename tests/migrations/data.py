"""Rows as each revision's program wrote them, so that every upgrade is tried with data."""

from __future__ import annotations

import json

import sqlalchemy as sa

from tests.contract.store.rows import NOW, spec

_JOB = """
INSERT INTO jobs (id, suite, build, label, serial, version, arch, region, spec, state, status, attempt, attempt_base,
                  instance_id, facts, retries, not_before, cancel_requested, lease_owner, lease_until, epoch,
                  created_at, updated_at)
VALUES (:id, 'lucid', 'server', 'release', '20101020', '10.04', 'amd64', 'us-east-1', :spec, 'launched', 'running', 1,
        1, 'i-1', '{"a": 1}', 0, 0.0, false, 'me', :now, 3, :now, :now)
"""
_RESOURCE = """
INSERT INTO resources (id, job_id, attempt, kind, purpose, token, region, resource_id, presence, request, intended_at,
                       made_at)
VALUES (1, :id, 1, 'instance', 'builder', 'token', 'us-east-1', 'i-1', 'present', '{}', :now, :now)
"""
_EFFECT = """
INSERT INTO effects (id, job_id, attempt, epoch, action, resource, status, opened_at, closed_at)
VALUES (1, :id, 1, 3, 'RunInstances', 1, 'done', :now, :now)
"""
_EVENT = """
INSERT INTO events (id, job_id, at, attempt, epoch, action, from_state, to_state, message, facts)
VALUES (1, :id, :now, 1, 3, 'step', 'pending', 'launched', '', '{"instance_id": "i-1"}')
"""
_BLOCKS = """
INSERT INTO blocks (id, resource, sent, entries)
VALUES (1, 1, true, CAST('123456789012345678901234567890123456' AS {bytes}))
"""

#: What fills the tables of each revision. A new revision gets a line of its own, even if it is the one before it.
ROWS: dict[str, tuple[str, ...]] = {
    "0001": (_JOB, _RESOURCE, _EFFECT, _EVENT),
    "0002": (_JOB, _RESOURCE, _EFFECT, _EVENT, _BLOCKS),
    "0003": (_JOB, _RESOURCE, _EFFECT, _EVENT, _BLOCKS),
}


def fill(engine: sa.Engine, revision: str) -> str:
    """Write the rows of a revision; return the id of the job."""
    document = spec()
    values = {"id": document.job_id, "spec": json.dumps(document.model_dump(mode="json")), "now": NOW}
    with engine.begin() as conn:
        kind = "BYTEA" if engine.dialect.name == "postgresql" else "BLOB"
        for statement in ROWS[revision]:
            conn.execute(sa.text(statement.replace('": ', '"\\: ').replace("{bytes}", kind)), values)
    return document.job_id


def rows(engine: sa.Engine) -> dict[str, int]:
    """Return the number of rows of each table."""
    with engine.connect().execution_options(ebspub_writer=False) as conn:
        names = sorted(set(sa.inspect(conn).get_table_names()) - {"alembic_version"})
        return {name: int(conn.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one()) for name in names}
