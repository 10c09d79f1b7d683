"""Which blocks a snapshot of the direct method holds, as far as it is on record.

A block is 512 KiB of the volume; it is known by its index and its SHA-256. Rows are only ever added while a snapshot is
filled: a few hundred blocks each, 36 bytes a block, so that 10 GiB of data take 720 KiB.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from ebspub.spec import JobSpec
from ebspub.store import tables

_BLOCKS = tables.blocks
_RESOURCES = tables.resources
_JOBS = tables.jobs
_ENTRY = struct.Struct(">I32s")
_ADD = _BLOCKS.insert()
_LOAD = (
    sa.select(_BLOCKS.c.sent, _BLOCKS.c.entries)
    .where(_BLOCKS.c.resource == sa.bindparam("its_resource"))
    .order_by(_BLOCKS.c.id)
)
_PRODUCT = ("suite", "build", "arch", "region")
# Built once: building a statement costs more than running it.
_UNNEEDED = (
    sa.select(_RESOURCES.c.id)
    .join(_JOBS, _JOBS.c.id == _RESOURCES.c.job_id)
    .where(*(_JOBS.c[name] == sa.bindparam(name) for name in _PRODUCT))
    .where(_RESOURCES.c.id != sa.bindparam("keep"))
    .where(sa.or_(_JOBS.c.ended_at.is_not(None), _RESOURCES.c.gone_at.is_not(None)))
)
_PRUNE = _BLOCKS.delete().where(_BLOCKS.c.resource.in_(_UNNEEDED))


@dataclass
class Recorded:
    """The blocks of one snapshot by index: ``sent`` were put, ``same`` are the parent's."""

    sent: dict[int, bytes] = field(default_factory=dict)
    same: dict[int, bytes] = field(default_factory=dict)

    @property
    def content(self) -> dict[int, bytes]:
        """The SHA-256 of every block that is on record, wherever it came from."""
        return {**self.same, **self.sent}


def add(conn: sa.Connection, resource: int, entries: Mapping[int, bytes], *, sent: bool) -> None:
    """Record blocks of a snapshot: index and SHA-256. A later record of a block replaces an earlier one."""
    if entries:
        packed = b"".join(_ENTRY.pack(index, digest) for index, digest in sorted(entries.items()))
        conn.execute(_ADD, {"resource": resource, "sent": sent, "entries": packed})


def load(conn: sa.Connection, resource: int) -> Recorded:
    """Return what is on record of a snapshot."""
    found = Recorded()
    for row in conn.execute(_LOAD, {"its_resource": resource}):
        into, other = (found.sent, found.same) if row.sent else (found.same, found.sent)
        for index, digest in _ENTRY.iter_unpack(row.entries):
            into[index] = digest
            other.pop(index, None)
    return found


def prune(conn: sa.Connection, spec: JobSpec, keep: int | None) -> None:
    """Forget the blocks of snapshots that no upload of this product needs: of jobs that ended, and of what is gone.

    ``keep``: the row of the snapshot that is the parent. Without this the database would grow by every build.
    """
    told = {name: getattr(spec, name) for name in _PRODUCT}
    conn.execute(_PRUNE, {**told, "keep": -1 if keep is None else keep})
