"""Intents and their outcomes: what we made, what we were about to make, and every call that changed anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ebspub.states import Kind
from ebspub.store import tables
from ebspub.store.records import Effect, Failure, Job
from ebspub.store.tables import EffectStatus, Presence

_RESOURCES = tables.resources
_EFFECTS = tables.effects


def intend(
    conn: sa.Connection, job: Job, *, kind: Kind, purpose: str, token: str, request: Mapping[str, Any], now: float
) -> int:
    """Record that a resource is about to be made; return its row id."""
    return _insert(
        conn,
        _RESOURCES,
        {
            "job_id": job.id,
            "attempt": job.attempt,
            "kind": kind.value,
            "purpose": purpose,
            "token": token,
            "region": job.spec.region,
            "presence": Presence.INTENDED.value,
            "request": dict(request),
            "intended_at": now,
        },
    )


def open_effect(
    conn: sa.Connection, job: Job, *, epoch: int, action: str, resource: int | None, target: str | None, now: float
) -> int:
    """Record that a call is about to be made; return the row id of the effect."""
    return _insert(
        conn,
        _EFFECTS,
        {
            "job_id": job.id,
            "attempt": job.attempt,
            "epoch": epoch,
            "action": action,
            "resource": resource,
            "target": target,
            "status": EffectStatus.OPEN.value,
            "opened_at": now,
        },
    )


def _insert(conn: sa.Connection, table: sa.Table, row: Mapping[str, Any]) -> int:
    key = conn.execute(table.insert(), row).inserted_primary_key
    assert key is not None
    return int(key[0])


def close_effect(conn: sa.Connection, effect: int, now: float, *, failure: Failure | None = None) -> None:
    """Record the outcome of a call: done, or refused with ``failure``."""
    status = EffectStatus.DONE if failure is None else EffectStatus.FAILED
    error = None if failure is None else failure.as_json()
    statement = _EFFECTS.update().where(_EFFECTS.c.id == effect)
    conn.execute(statement.values(status=status.value, closed_at=now, error=error))


def settle(conn: sa.Connection, resource: int, now: float) -> None:
    """Close the open calls of a resource whose outcome has become known."""
    statement = _EFFECTS.update().where(_EFFECTS.c.resource == resource, _EFFECTS.c.status == EffectStatus.OPEN.value)
    conn.execute(statement.values(status=EffectStatus.DONE.value, closed_at=now))


def settle_acts(conn: sa.Connection, job_id: str, action: str, target: str, now: float) -> None:
    """Close earlier calls of the same action on the same target: the repeated one has settled them."""
    statement = _EFFECTS.update().where(
        _EFFECTS.c.job_id == job_id,
        _EFFECTS.c.action == action,
        _EFFECTS.c.target == target,
        _EFFECTS.c.status == EffectStatus.OPEN.value,
    )
    conn.execute(statement.values(status=EffectStatus.DONE.value, closed_at=now))


def made(conn: sa.Connection, resource: int, resource_id: str, now: float) -> None:
    """Record the id of a resource that was made or adopted."""
    statement = _RESOURCES.update().where(_RESOURCES.c.id == resource, _RESOURCES.c.presence == Presence.INTENDED.value)
    conn.execute(statement.values(resource_id=resource_id, presence=Presence.PRESENT.value, made_at=now))


def mark(conn: sa.Connection, resource: int, **values: Any) -> None:
    """Change what is known of a resource: ``leaving_at``, ``request``."""
    conn.execute(_RESOURCES.update().where(_RESOURCES.c.id == resource).values(**values))


def gone(conn: sa.Connection, resource: int, now: float) -> None:
    """Record that a resource exists no longer, or was never made."""
    statement = _RESOURCES.update().where(_RESOURCES.c.id == resource, _RESOURCES.c.presence != Presence.GONE.value)
    conn.execute(statement.values(presence=Presence.GONE.value, gone_at=now))


def history(conn: sa.Connection, job_id: str) -> list[Effect]:
    """Return every call made for a job, oldest first."""
    query = sa.select(_EFFECTS).where(_EFFECTS.c.job_id == job_id).order_by(_EFFECTS.c.id)
    return [
        Effect(**{**row, "status": EffectStatus(row["status"]), "error": Failure.from_json(row["error"])})
        for row in conn.execute(query).mappings()
    ]
