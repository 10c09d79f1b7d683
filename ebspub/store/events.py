"""The history of a job: one row for whatever happened to it, written in the transaction that made it true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ebspub.states import State
from ebspub.store import tables
from ebspub.store.records import Event

_EVENTS = tables.events
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
