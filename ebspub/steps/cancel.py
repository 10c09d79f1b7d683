"""Stop a job and remove everything of it, an AMI that is not finished included."""

from __future__ import annotations

from ebspub.engine.outcome import Done, Outcome
from ebspub.engine.step import World
from ebspub.states import Kind
from ebspub.steps import remains
from ebspub.store import Job


class Cancel:
    """Remove what a job made."""

    name = "cancel"
    kinds = frozenset(Kind)

    def advance(self, job: Job, world: World) -> Outcome:
        """Remove everything on record, then whatever else carries the job's tag."""
        world.uploads.drop(job.id)
        wait = remains.remove(job, world, job.live()) or remains.remove_strays(job, world, self.kinds)
        return wait or Done()

    def overdue(self, job: Job) -> Outcome:
        """Cleaning up has no time limit: what is left must go."""
        raise AssertionError(f"{job.id}: cleaning up is never overdue")
