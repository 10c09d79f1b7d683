"""Intents and their outcomes: what we made, what we were about to make, and every call that changed anything."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ebspub.states import Kind
from ebspub.store import tables
from ebspub.store.records import Effect, Failure, Job
from ebspub.store.tables import EffectStatus, Presence

_RESOURCES = tables.resources
_EFFECTS = tables.effects

# Built once: building a statement costs more than running it.
_INTEND = _RESOURCES.insert()
_OPEN = _EFFECTS.insert()
_OUTCOME: dict[str, sa.BindParameter[Any]] = {name: sa.bindparam(f"new_{name}") for name in ("status", "closed_at")}
_IS_OPEN = _EFFECTS.c.status == EffectStatus.OPEN.value
_CLOSE = (
    _EFFECTS.update()
    .where(_EFFECTS.c.id == sa.bindparam("effect"))
    .values(**_OUTCOME, error=sa.bindparam("new_error", type_=_EFFECTS.c.error.type))
)
_SETTLE = _EFFECTS.update().where(_EFFECTS.c.resource == sa.bindparam("its_resource"), _IS_OPEN).values(_OUTCOME)
_SETTLE_ACTS = (
    _EFFECTS.update()
    .where(
        _EFFECTS.c.job_id == sa.bindparam("its_job"),
        _EFFECTS.c.action == sa.bindparam("its_action"),
        _EFFECTS.c.target == sa.bindparam("its_target"),
        _IS_OPEN,
    )
    .values(_OUTCOME)
)
_MADE = (
    _RESOURCES.update()
    .where(_RESOURCES.c.id == sa.bindparam("resource"), _RESOURCES.c.presence == Presence.INTENDED.value)
    .values(resource_id=sa.bindparam("new_id"), presence=Presence.PRESENT.value, made_at=sa.bindparam("new_made_at"))
)
_GONE = (
    _RESOURCES.update()
    .where(_RESOURCES.c.id == sa.bindparam("resource"), _RESOURCES.c.presence != Presence.GONE.value)
    .values(presence=Presence.GONE.value, gone_at=sa.bindparam("new_gone_at"))
)
_OPEN_CALLS = (
    sa.select(_EFFECTS)
    .where(
        _EFFECTS.c.job_id.in_(sa.bindparam("job_ids", expanding=True)),
        _EFFECTS.c.action.in_(sa.bindparam("actions", expanding=True)),
        _EFFECTS.c.target.is_not(None),
        _IS_OPEN,
    )
    .order_by(_EFFECTS.c.id)
)
_HISTORY = sa.select(_EFFECTS).where(_EFFECTS.c.job_id == sa.bindparam("its_job")).order_by(_EFFECTS.c.id)


def intend(
    conn: sa.Connection, job: Job, *, kind: Kind, purpose: str, token: str, request: Mapping[str, Any], now: float
) -> int:
    """Record that a resource is about to be made; return its row id."""
    return _insert(
        conn,
        _INTEND,
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
        _OPEN,
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


def _insert(conn: sa.Connection, statement: sa.Insert, row: Mapping[str, Any]) -> int:
    key = conn.execute(statement, row).inserted_primary_key
    assert key is not None
    return int(key[0])


def close_effect(conn: sa.Connection, effect: int, now: float, *, failure: Failure | None = None) -> None:
    """Record the outcome of a call: done, or refused with ``failure``."""
    status = EffectStatus.DONE if failure is None else EffectStatus.FAILED
    error = None if failure is None else failure.as_json()
    conn.execute(_CLOSE, {"effect": effect, "new_status": status.value, "new_closed_at": now, "new_error": error})


def unanswered(conn: sa.Connection, effect: int, now: float) -> None:
    """Record that a call ended without an answer: until ``now`` it was under way, and may have taken effect."""
    conn.execute(_EFFECTS.update().where(_EFFECTS.c.id == effect, _IS_OPEN).values(opened_at=now))


def settle(conn: sa.Connection, resource: int, now: float) -> None:
    """Close the open calls of a resource whose outcome has become known."""
    conn.execute(_SETTLE, {"its_resource": resource, "new_status": EffectStatus.DONE.value, "new_closed_at": now})


def settle_acts(conn: sa.Connection, job_id: str, action: str, target: str, now: float) -> None:
    """Close earlier calls of the same action on the same target: the repeated one has settled them."""
    told = {"its_job": job_id, "its_action": action, "its_target": target}
    conn.execute(_SETTLE_ACTS, {**told, "new_status": EffectStatus.DONE.value, "new_closed_at": now})


def made(conn: sa.Connection, resource: int, resource_id: str, now: float) -> None:
    """Record the id of a resource that was made or adopted."""
    conn.execute(_MADE, {"resource": resource, "new_id": resource_id, "new_made_at": now})


def mark(conn: sa.Connection, resource: int, **values: Any) -> None:
    """Change what is known of a resource: ``leaving_at``, ``request``."""
    conn.execute(_RESOURCES.update().where(_RESOURCES.c.id == resource).values(**values))


def gone(conn: sa.Connection, resource: int, now: float) -> None:
    """Record that a resource exists no longer, or was never made."""
    conn.execute(_GONE, {"resource": resource, "new_gone_at": now})


def open_calls(conn: sa.Connection, job_ids: Sequence[str], actions: Collection[str]) -> list[Effect]:
    """Return the calls of ``actions`` on something of some jobs whose answers were lost, oldest first."""
    found: list[Effect] = []
    for start in range(0, len(job_ids), 500):
        told = {"job_ids": list(job_ids[start : start + 500]), "actions": sorted(actions)}
        found += [_effect(row) for row in conn.execute(_OPEN_CALLS, told).mappings()]
    return found


def history(conn: sa.Connection, job_id: str) -> list[Effect]:
    """Return every call made for a job, oldest first."""
    return [_effect(row) for row in conn.execute(_HISTORY, {"its_job": job_id}).mappings()]


def _effect(row: sa.RowMapping) -> Effect:
    return Effect(**{**row, "status": EffectStatus(row["status"]), "error": Failure.from_json(row["error"])})
