"""Stop a job and remove everything of it, an AMI that is not finished included."""

from __future__ import annotations

from ebspub.engine.outcome import Done, Outcome
from ebspub.engine.step import World
from ebspub.errors import JobError
from ebspub.states import Kind
from ebspub.steps import builder, remains, shared
from ebspub.store import Job


class Cancel:
    """Remove what a job made."""

    name = "cancel"
    kinds = frozenset(Kind)

    def advance(self, job: Job, world: World) -> Outcome:
        """Remove everything on record, then whatever else carries the job's tag."""
        world.uploads.drop(job.id)
        wait = shared.depart(job, world) or remains.remove(job, world, job.own())
        return wait or remains.remove_strays(job, world, self.kinds) or Done()

    def overdue(self, job: Job) -> Outcome:
        """What cannot be removed for so long needs a person; the job stays to be cancelled."""
        raise JobError(
            f"{job.id}: cancelling did not end in time{builder.last_word(job)}",
            todo=f"Mend what holds it, then `ebspub cancel {job.id}` goes on.",
            code="clean-up",
        )
