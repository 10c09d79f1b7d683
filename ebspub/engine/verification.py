"""Effects of a test boot: the same narrow place, fenced by the test boot's own lease.

The job that it belongs to has ended: its columns, which show what it published, stay as they are.
"""

from __future__ import annotations

from typing import Any

from ebspub.engine.effects import Effects
from ebspub.states import Kind
from ebspub.store import Job, verifications


class BootEffects(Effects):
    """Effects for the test boots of one registered job under one lease of :mod:`ebspub.store.verifications`."""

    def note(self, job: Job, **facts: Any) -> None:
        """Keep facts with the job."""
        now = self._clock.now()
        with self._store.write() as conn:
            verifications.change(conn, job.id, self._lease, now, facts={**job.facts, **facts})

    def _hold(
        self, conn: Any, job: Job, now: float, *, until: float | None = None, made: tuple[Kind, str] | None = None
    ) -> None:
        del made
        verifications.change(conn, job.id, self._lease, now, until=until)
