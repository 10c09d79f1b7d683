"""The history of a job: one row for whatever happened to it, written in the transaction that made it true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ebspub.states import STEP_AFTER, State, Status
from ebspub.store import tables
from ebspub.store.records import Event

_EVENTS = tables.events
_JOBS = tables.jobs
_ADD = _EVENTS.insert()
_HISTORY = sa.select(_EVENTS).where(_EVENTS.c.job_id == sa.bindparam("job_id")).order_by(_EVENTS.c.id)


def add(  # noqa: PLR0913 - as many as an event has columns
    conn: sa.Connection,
    job_id: str,
    now: float,
    *,
    attempt: int,
    epoch: int,
    action: str,
    message: str = "",
    change: tuple[State, State] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write one event. ``action`` is a machine-readable verb: planned, step, back, failed, resumed, cancelled."""
    conn.execute(
        _ADD,
        {
            "job_id": job_id,
            "at": now,
            "attempt": attempt,
            "epoch": epoch,
            "action": action,
            "from_state": change[0].value if change else None,
            "to_state": change[1].value if change else None,
            "message": _storable(message),
            "facts": dict(facts or {}),
        },
    )


def durations(conn: sa.Connection, limit: int) -> list[tuple[str, str, float]]:
    """Return way, step and seconds of each step of the ``limit`` jobs that were registered last, in their last attempt.

    What was adopted took no steps, and is not among them.
    """
    last = (
        sa.select(_JOBS.c.id, _JOBS.c.method, _JOBS.c.attempt)
        .where(_JOBS.c.status == Status.DONE.value)
        .order_by(_JOBS.c.ended_at.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        sa.select(last.c.method, _EVENTS.c.action, _EVENTS.c.facts)
        .join(last, sa.and_(last.c.id == _EVENTS.c.job_id, last.c.attempt == _EVENTS.c.attempt))
        .where(_EVENTS.c.from_state.is_not(None), _EVENTS.c.action.in_(STEP_AFTER.values()))
        .order_by(_EVENTS.c.id)
    )
    rows = conn.execute(query).all()
    return [(row.method, row.action, float(row.facts["seconds"])) for row in rows if "seconds" in row.facts]


def _storable(text: str) -> str:
    """Replace what a database cannot hold: NUL (PostgreSQL) and lone surrogates. A builder's console may send both."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def history(conn: sa.Connection, job_id: str) -> list[Event]:
    """Return a job's events, oldest first."""
    return [
        Event(
            **{
                **row,
                "from_state": State(row["from_state"]) if row["from_state"] else None,
                "to_state": State(row["to_state"]) if row["to_state"] else None,
            }
        )
        for row in conn.execute(_HISTORY, {"job_id": job_id}).mappings()
    ]
