"""One builder for several jobs of a region: joining it, filling volumes on it one after another, leaving it.

Who is where is :mod:`ebspub.store.seats`'s to say. What a step here relies on:

- a job that has a place may be sure that nobody ends the builder; who has given his back only lets others know that he
  needs no builder any more. A volume still attached by then is detached from a builder that lives on, or comes free
  with one that is ended; there is therefore nothing to wait for before leaving;
- a builder at which nobody has a place is removed by whoever comes by first, each job looking at those it was at;
- trouble of one job on a builder (a copy that failed, a volume that does not appear) seals it: its others go on, the
  next attempt and whoever comes now get another one. What was the builder's fault is thus not met again.

Volumes are filled one at a time (`turn.sh`): a builder's disk is made for one image, and two file systems of one
image, which have one UUID, never meet in one kernel while either is mounted.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from ebspub.engine.outcome import Wait
from ebspub.engine.step import World
from ebspub.errors import HostKeyError, RemoteError
from ebspub.populate.filesystem import task_name
from ebspub.remote import detached
from ebspub.remote.detached import Task
from ebspub.states import Kind, State
from ebspub.steps import builder, remains
from ebspub.store import Job, Seat

log = logging.getLogger(__name__)


def board(job: Job, world: World) -> Wait:
    """Take a place at a builder, or become the host of one."""
    return Wait(world.effects.board(job) or "another job is opening a builder")


def await_builder(job: Job, world: World, seat: Seat) -> Wait | None:
    """Return what a guest waits for until its host has made the builder; None when it is there.

    A host that gives up, or that nobody drives any more, is not waited for: the guest looks for another builder, which
    costs it no attempt, as nothing of it was there.
    """
    row = seat.instance
    if row is not None and row.resource_id is not None:
        return None
    driven = seat.host_until is not None and seat.host_until > world.clock.now()
    if seat.hosted and driven:
        return Wait(f"{seat.host_job} launches the builder that this job shares")
    world.effects.leave(job, seat, seal=True)
    return Wait(f"{seat.host_job} does not launch the builder that this job was to share; looking for another")


def clear(job: Job, world: World) -> Wait | None:
    """Leave the builder of an earlier attempt, and remove builders that nobody needs; None when that is done."""
    if job.seat is not None and job.seat.attempt < job.attempt:
        return depart(job, world, trouble=True)
    return remains.remove(job, world, job.left_behind)


def depart(job: Job, world: World, *, trouble: bool = False, finished: bool = False) -> Wait | None:
    """Leave the builder that the job has a place at; remove those that nobody needs. None when that is done.

    ``trouble``: it is given up, and nobody else shall join it. ``finished``: the volume is filled, nothing of the job
    is at work there.
    """
    seat = job.seat
    if seat is None:
        return remains.remove(job, world, job.left_behind)
    if not finished and seat.active > 1:
        _stop_work(job, world, seat)
    world.shells.drop(job.id)
    # Whoever waits for it to be launched by this job waits in vain.
    unmade = job.state is State.PENDING and seat.hosted_by(job.id, job.attempt)
    world.effects.leave(job, seat, seal=trouble or unmade or seat.attempt < job.attempt)
    return Wait(f"left the builder of {seat.host_job}")


def in_turn(job: Job, task: Task) -> Task:
    """Return ``task`` as it is run on a shared builder: when no other one is at work there."""
    if job.seat is None:
        return task
    return replace(task, script=f"turn=shared\n{detached.part('turn.sh', 'ebspub.populate')}\n{task.script}")


def _stop_work(job: Job, world: World, seat: Seat) -> None:
    """End what the job has at work on a builder that others go on with, as far as it can be reached."""
    volumes = [row for row in job.live(Kind.VOLUME) if row.attempt == seat.attempt]
    seen = world.view.instance(seat.instance.resource_id) if seat.instance is not None else None
    where = builder.address(job, seen) if seen is not None and seen.state == "running" else ""
    if not volumes or not where:
        return
    try:
        shell = world.shells.get(replace(job, facts={**job.facts, "address": where}))
        detached.clear(shell, Task(task_name(job.id, seat.attempt), ""))
    except (RemoteError, HostKeyError) as error:
        # It then ends when its volume is gone, or with the builder.
        log.info("%s: its work on the shared builder could not be ended: %s", job.id, error.what)
