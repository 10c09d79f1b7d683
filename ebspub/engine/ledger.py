"""What a job of the direct method has on record: the blocks that were put, and the build before it.

Everything is written under the job's lease, so that whoever lost it learns so here, at the latest.
"""

from __future__ import annotations

from collections.abc import Mapping

from ebspub.clock import Clock
from ebspub.errors import LeaseLostError
from ebspub.states import Kind
from ebspub.store import Job, Lease, Resource, Store, blocks, jobs
from ebspub.store.blocks import Recorded


class Ledger:
    """The record of blocks of one job under one lease."""

    def __init__(self, store: Store, clock: Clock, lease: Lease, *, lease_time: float) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease
        self._lease_time = lease_time
        self._checked = clock.now()

    @property
    def epoch(self) -> int:
        """The epoch of the lease."""
        return self._lease.epoch

    @property
    def doubtful(self) -> bool:
        """Whether the lease was not checked for so long that another process may hold it soon."""
        return self._clock.now() > self._checked + self._lease_time / 2

    def load(self, resource: int) -> Recorded:
        """Return the blocks of a snapshot (the id of its row) that are on record."""
        with self._store.read() as conn:
            return blocks.load(conn, resource)

    def begin(self, job: Job, keep: int | None) -> None:
        """Forget the blocks that no upload of this product needs any more, but for the parent's (its row's id)."""
        now = self._clock.now()
        with self._store.write() as conn:
            jobs.change(conn, job.id, self._lease, now)
            blocks.prune(conn, job.spec, keep)

    def record(self, job: Job, resource: int, sent: Mapping[int, bytes], same: Mapping[int, bytes]) -> None:
        """Record blocks that were put, and others that are the parent's; check the lease and extend it.

        With nothing to record the lease is checked all the same. Raises LeaseLostError.
        """
        now = self._clock.now()
        if now > self._checked + self._lease_time:
            raise LeaseLostError(f"{job.id}: this process was stopped for longer than its lease")
        with self._store.write() as conn:
            jobs.change(conn, job.id, self._lease, now, lease_until=now + self._lease_time)
            blocks.add(conn, resource, sent, sent=True)
            blocks.add(conn, resource, same, sent=False)
        self._checked = now

    def predecessor(self, job: Job) -> tuple[Job, Resource] | str:
        """Return the build of the same product that was registered last and its snapshot; or why there is none."""
        with self._store.read() as conn:
            found = jobs.predecessor(conn, job.spec)
            if found is None:
                return "no earlier build of this product is registered"
            row = next(
                (r for r in found.live(Kind.SNAPSHOT) if r.resource_id == found.snapshot_id and not r.gone_at), None
            )
            if row is None or not blocks.load(conn, row.id).content:
                return f"the blocks of {found.id}, which was registered last, are not on record"
        return found, row
