"""Notices: that a build is public, or is so with more or as something else, until all were told who are to know.

A notice is written in the transaction that makes it true, so that no death of a process loses it. Who tells it takes
it first, in the way of :mod:`ebspub.store.leases`: two processes do not tell the same, and that of a dead one is taken
over. It is told at least once; twice where a process dies between the telling and writing that down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from ebspub.store import leases, releases, tables
from ebspub.store.releases import Release

_NOTICES = tables.notices


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told. ``jobs``: ids of what others may find; ``told``: names of those who know already."""

    id: int
    release_id: str
    label: str
    published_at: float
    jobs: frozenset[str]
    told: frozenset[str]
    at: float


def add(conn: sa.Connection, release: Release, now: float) -> bool:
    """Write down that a release is public, unless just this was told, or is to be, already; return whether it was not.

    What is still to be told of the same release is part of it, and is not told apart.
    """
    shown = frozenset(each.job_id for each in releases.announced(conn) if each.release_id == release.id)
    query = sa.select(_NOTICES).where(_NOTICES.c.release_id == release.id).order_by(_NOTICES.c.id.desc()).limit(1)
    last = conn.execute(query).mappings().first()
    if not shown or release.published_at is None:
        return False
    if last is not None and (last["label"], last["published_at"]) == (release.label, release.published_at):
        known = _notice(last)
        if shown <= known.jobs:
            return False
    open_ones = _NOTICES.c.release_id == release.id, _NOTICES.c.ended_at.is_(None), _NOTICES.c.teller.is_(None)
    conn.execute(_NOTICES.update().where(*open_ones).values(ended_at=now))
    row = {"release_id": release.id, "label": release.label, "published_at": release.published_at}
    conn.execute(_NOTICES.insert(), {**row, "jobs": sorted(shown), "told": [], "at": now})
    return True


def take(conn: sa.Connection, owner: str, now: float, until: Callable[[int], float]) -> list[Notice]:
    """Take all that is still to be told and that no living process tells. ``until``: for how many until when."""
    query = sa.select(_NOTICES).where(_NOTICES.c.ended_at.is_(None)).order_by(_NOTICES.c.id)
    rows = [row for row in conn.execute(query).mappings() if not _under_way(row, now)]
    found = []
    for row in rows:
        teller = row["teller"]
        same = _NOTICES.c.teller.is_not_distinct_from(sa.literal(teller, sa.String))
        mine = _NOTICES.update().where(_NOTICES.c.id == row["id"], _NOTICES.c.ended_at.is_(None), same)
        if conn.execute(mine.values(teller=owner, teller_until=until(len(rows)))).rowcount == 1:
            found.append(_notice(row))
    return found


def give_back(
    conn: sa.Connection, notice: Notice, owner: str, told: Collection[str], *, ended_at: float | None = None
) -> None:
    """Write down who knows by now; ``ended_at``: nobody else is to. What somebody else has taken is left alone."""
    row = _NOTICES.c.id == notice.id, _NOTICES.c.teller == owner
    values = {"told": sorted(told), "teller": None, "teller_until": None, "ended_at": ended_at}
    conn.execute(_NOTICES.update().where(*row).values(values))


def history(conn: sa.Connection, names: Iterable[str]) -> list[tuple[Notice, float | None]]:
    """Return all notices of releases, oldest first, each with when it was told to all; None where it is still to be."""
    query = sa.select(_NOTICES).where(_NOTICES.c.release_id.in_(sorted(names))).order_by(_NOTICES.c.id)
    return [(_notice(row), row["ended_at"]) for row in conn.execute(query).mappings()]


def _under_way(row: sa.RowMapping, now: float) -> bool:
    return row["teller"] is not None and row["teller_until"] > now and not leases.is_dead(row["teller"])


def _notice(row: sa.RowMapping) -> Notice:
    plain = {name: row[name] for name in ("id", "release_id", "label", "published_at", "at")}
    return Notice(**plain, jobs=frozenset(row["jobs"]), told=frozenset(row["told"]))
