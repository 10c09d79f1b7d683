"""Drive one job: take steps for as long as they complete, and commit what comes of each.

A step's facts, its event and the change of state are one transaction that checks the lease. Whatever a step raises
ends here: retryable errors become a time to try again, others fail this job and no other.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import RETRYABLE, AwsError, Cause
from ebspub.aws.view import RegionView
from ebspub.clock import Clock
from ebspub.engine import retry
from ebspub.engine.effects import Effects
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.shells import Shells
from ebspub.engine.step import Step, Steps, World
from ebspub.engine.uploads import NoUploads, Uploads
from ebspub.errors import EbspubError, JobError, LeaseLostError, RemoteError, StoreError
from ebspub.remote.keys import Keyring
from ebspub.states import Kind, Lifecycle, State, Status
from ebspub.store import EffectStatus, Failure, Job, Lease, Store, events, jobs
from ebspub.store import effects as records

log = logging.getLogger(__name__)

_LIFECYCLE = Lifecycle()

#: The fact that marks a job that only waits for its remains to be removed before it fails: its last error.
GAVE_UP = "gave_up"

#: Told after each commit that changed something a person may want to see.
Listener = Callable[[Job, str], None]


@dataclass(frozen=True)
class Tools:
    """What all jobs of a process share."""

    store: Store
    clock: Clock
    keyring: Keyring
    shells: Shells
    steps: Steps
    cleanup: Step
    rng: random.Random
    lease_time: float
    listen: Listener | None
    #: Whether the process is about to stop: a step that is complete is then not followed by the next.
    stopping: Callable[[], bool]
    #: The steps of jobs that go another way, by the word in their ``way``.
    ways: Mapping[str, Steps] = field(default_factory=dict)
    uploads: Uploads = field(default_factory=NoUploads)


@dataclass(frozen=True)
class Verdict:
    """When to look at the job again, for what kinds, and for whose things besides its own.

    ``ended`` when this process is through with it.
    """

    due: float = 0.0
    ended: bool = False
    kinds: frozenset[Kind] = frozenset()
    hosts: frozenset[str] = frozenset()


class Driver:
    """Drives jobs, each under its lease."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def kinds(self, job: Job) -> frozenset[Kind]:
        """Return the kinds of resource that the view must show for the job's next step."""
        return self._step(job).kinds

    def drive(self, job_id: str, lease: Lease, view: RegionView, clients: RegionClients) -> Verdict:
        """Take steps until one must wait; return when to go on. Never raises but LeaseLostError and StoreError."""
        while True:
            with self._tools.store.read() as conn:
                job = jobs.get(conn, job_id)
            if job is None or job.ended or job.epoch != lease.epoch:
                return Verdict(ended=True)
            step = self._step(job)
            if not (step.kinds <= view.asked and job.hosts <= view.jobs):
                return Verdict(due=self._tools.clock.now(), kinds=step.kinds, hosts=job.hosts)
            verdict = self._attempt(job, step, lease, self._world(lease, view, clients))
            if verdict is not None:
                return replace(verdict, kinds=step.kinds, hosts=job.hosts)
            if self._tools.stopping():
                return Verdict(due=self._tools.clock.now(), kinds=step.kinds, hosts=job.hosts)

    def unseen(self, job_id: str, lease: Lease, error: EbspubError, *, fatal: bool) -> Verdict:
        """Record that a job's region cannot be looked at; fail the job where that will not mend or lasts too long."""
        with self._tools.store.read() as conn:
            job = jobs.get(conn, job_id)
        if job is None or job.ended or job.epoch != lease.epoch:
            return Verdict(ended=True)
        step = self._step(job)
        failure = Failure(error.what, getattr(error, "code", ""), getattr(error, "request_id", ""), error.todo)
        silent = self._tools.clock.now() > (job.step_started_at or 0.0) + _limit(job, step)
        if silent and not fatal:
            what = f"{job.spec.region} has not answered for {_limit(job, step):.0f} s: {failure.message}"
            failure = replace(failure, message=what, todo="`ebspub resume` when the region answers again.")
        if fatal or silent:
            # What is left in a region that does not answer cannot be removed now: `resume` does it.
            return self._stop(job, lease, step, failure)
        return replace(self._retry(job, lease, step, failure), kinds=step.kinds, hosts=job.hosts)

    def _step(self, job: Job) -> Step:
        if job.cancel_requested:
            return self._tools.cleanup
        return self._tools.ways.get(job.spec.way, self._tools.steps)[job.state]

    def _let_go(self, job_id: str) -> None:
        """End what this process holds of a job: connections to its builder, its uploads."""
        self._tools.shells.drop(job_id)
        self._tools.uploads.drop(job_id)

    def _world(self, lease: Lease, view: RegionView, clients: RegionClients) -> World:
        tools = self._tools
        return World(
            clock=tools.clock,
            view=view,
            clients=clients,
            effects=Effects(tools.store, tools.clock, lease, lease_time=tools.lease_time),
            shells=tools.shells,
            uploads=tools.uploads,
            keyring=tools.keyring,
        )

    def _attempt(self, job: Job, step: Step, lease: Lease, world: World) -> Verdict | None:
        """Take one step; None to go on at once with the next."""
        try:
            outcome = self._outcome(job, step, world)
        except LeaseLostError:
            self._let_go(job.id)
            raise
        except StoreError:
            raise
        except RemoteError as error:
            self._tools.shells.drop(job.id)
            return self._retry(job, lease, step, Failure(error.what, error.code))
        except AwsError as error:
            return self._aws_failed(job, lease, step, error)
        except EbspubError as error:
            code, request_id = getattr(error, "code", ""), getattr(error, "request_id", "")
            return self._fail(job, lease, step, Failure(error.what, code, request_id, error.todo))
        except Exception as error:
            # A defect of ours in one job must not take the others down; the log has the traceback.
            log.exception("%s: unexpected error in step %s", job.id, step.name)
            what = f"unexpected {type(error).__name__}: {error}"
            return self._fail(job, lease, step, Failure(what, code="defect", todo="Please report this with the log."))
        if isinstance(outcome, Wait):
            return self._wait(job, lease, step, outcome)
        if isinstance(outcome, Back):
            return self._back(job, lease, step, outcome)
        return self._done(job, lease, step, outcome)

    def _outcome(self, job: Job, step: Step, world: World) -> Outcome:
        if job.step_started_at is None:
            return step.advance(job, world)
        overdue = world.clock.now() > job.step_started_at + _limit(job, step)
        if overdue and GAVE_UP in job.facts:
            last = job.error.message if job.error else "no answer"
            raise JobError(f"{job.id}: cleaning up did not end in time: {last}", code="clean-up")
        return step.overdue(job) if overdue else step.advance(job, world)

    def _aws_failed(self, job: Job, lease: Lease, step: Step, error: AwsError) -> Verdict | None:
        failure = Failure(f"{error.action}: {error.message}", error.code, error.request_id, error.todo)
        if error.cause in RETRYABLE or error.cause is Cause.DUPLICATE:
            return self._retry(job, lease, step, failure)
        if error.cause is Cause.TOKEN_SPENT:
            return self._back(job, lease, step, Back("lose_builder", error.message, error.code, error.request_id))
        return self._fail(job, lease, step, failure)

    def _done(self, job: Job, lease: Lease, step: Step, done: Done) -> Verdict | None:
        if job.cancel_requested:
            self._end(job, lease, Status.CANCELLED)
            return Verdict(ended=True)
        trigger = done.trigger or step.name
        target = _LIFECYCLE.target(job.state, trigger)
        facts = {**job.facts, **done.facts}
        values: dict[str, Any] = {**done.ids, "facts": facts, "state": target.value}
        values |= {"step_started_at": self._tools.clock.now(), "progress": None, "retries": 0, "error": None}
        if target is State.REGISTERED:
            now = self._tools.clock.now()
            values |= {"status": Status.DONE.value, "ended_at": now, "lease_owner": None, "lease_until": None}
            values["step_started_at"] = None
        told = {**done.facts, **done.ids}
        self._commit(job, lease, trigger, values, change=(job.state, target), facts=told, settled=True)
        if target not in (State.LAUNCHED, State.ATTACHED):
            self._let_go(job.id)  # The builder is about to go: its connection ends before it does.
        return Verdict(ended=True) if target is State.REGISTERED else None

    def _back(self, job: Job, lease: Lease, step: Step, back: Back) -> Verdict | None:
        tried = job.attempt - job.attempt_base + 1
        failure = Failure(back.reason, back.code, back.request_id)
        if tried >= job.spec.limits.attempts:
            what = f"{back.reason} (attempt {tried} of {job.spec.limits.attempts})"
            todo = back.todo or "Mend the cause, then `ebspub resume`: it starts with a new builder."
            failure = Failure(what, back.code, back.request_id, todo)
            return self._give_up(job, lease, step, failure, trigger=back.trigger)
        self._start_over(job, lease, step, back.trigger, failure)
        return None

    def _start_over(
        self, job: Job, lease: Lease, step: Step, trigger: str, failure: Failure, facts: Mapping[str, Any] | None = None
    ) -> None:
        self._let_go(job.id)
        change = (job.state, _LIFECYCLE.target(job.state, trigger))
        values = {
            **start_over(job),
            "step_started_at": self._tools.clock.now(),
            "facts": dict(facts or {}),
            "error": self._failure(step, failure),
        }
        self._commit(job, lease, trigger, values, change=change, message=failure.message)

    def _wait(self, job: Job, lease: Lease, step: Step, wait: Wait) -> Verdict:
        now = self._tools.clock.now()
        progress = {"step": step.name, "what": wait.why, **(wait.progress or {})}
        if progress != job.progress or job.retries:
            with self._tools.store.write() as conn:
                tries = job.retries if wait.trouble else 0
                jobs.change(conn, job.id, lease, now, progress=progress, retries=tries, not_before=now + wait.after)
            self._tell(job.id, "waiting")
        return Verdict(due=now + wait.after)

    def _retry(self, job: Job, lease: Lease, step: Step, failure: Failure) -> Verdict:
        now = self._tools.clock.now()
        tries = job.retries + 1
        due = now + retry.delay(tries, self._tools.rng)
        log.info("%s: %s: %s; trying again in %.0f s", job.id, step.name, failure.message, due - now)
        with self._tools.store.write() as conn:
            error = self._failure(step, failure)
            progress = {"step": step.name, "what": f"trying again: {failure.message}"}
            jobs.change(conn, job.id, lease, now, retries=tries, not_before=due, error=error, progress=progress)
        self._tell(job.id, "retry")
        return Verdict(due=due)

    def _fail(self, job: Job, lease: Lease, step: Step, failure: Failure) -> Verdict | None:
        """Fail the job. A builder and what hangs on it are removed first; finished volumes and snapshots are kept."""
        builder_phase = job.state in (State.PENDING, State.LAUNCHED, State.ATTACHED)
        used = bool(job.own()) or job.seat is not None
        if builder_phase and used and GAVE_UP not in job.facts and not job.cancel_requested:
            return self._give_up(job, lease, step, failure, trigger="lose_builder")
        return self._stop(job, lease, step, failure)

    def _give_up(self, job: Job, lease: Lease, step: Step, failure: Failure, *, trigger: str) -> Verdict | None:
        """Go back to pending, where the remains are removed before the job is marked failed."""
        told = {**self._failure(step, failure)}
        self._start_over(job, lease, step, trigger, failure, facts={GAVE_UP: told})
        return None

    def _stop(self, job: Job, lease: Lease, step: Step, failure: Failure) -> Verdict:
        self._let_go(job.id)
        told = job.facts.get(GAVE_UP) or self._failure(step, failure)
        if GAVE_UP in job.facts and job.own():
            more = f"{told['message']}; and its remains could not be removed: {failure.message}"
            todo = f"{told['todo']} What is left is removed by `ebspub resume` or `ebspub cancel`.".strip()
            told = {**told, "message": more, "todo": todo}
        values: dict[str, Any] = {"status": Status.FAILED.value, "error": told}
        values |= {"lease_owner": None, "lease_until": None, "step_started_at": None, "progress": None}
        facts = {"code": failure.code, "request_id": failure.request_id}
        self._commit(job, lease, "failed", values, message=failure.message, facts=facts)
        return Verdict(ended=True)

    def _end(self, job: Job, lease: Lease, status: Status) -> None:
        self._let_go(job.id)
        now = self._tools.clock.now()
        values: dict[str, Any] = {"status": status.value, "ended_at": now, "lease_owner": None, "lease_until": None}
        values |= {"progress": None, "step_started_at": None}
        self._commit(job, lease, status.value, values, settled=True)

    def _commit(
        self,
        job: Job,
        lease: Lease,
        action: str,
        values: Mapping[str, Any],
        *,
        change: tuple[State, State] | None = None,
        message: str = "",
        facts: Mapping[str, Any] | None = None,
        settled: bool = False,
    ) -> None:
        """The one transaction of a step: facts, event and change of state, under the lease.

        ``settled``: what the calls without an answer were to bring about has been seen.
        """
        now = self._tools.clock.now()
        started = job.step_started_at
        timed = {"seconds": round(now - started, 3)} if change and started is not None else {}
        with self._tools.store.write() as conn:
            jobs.change(conn, job.id, lease, now, **values)
            if settled:
                _settle(conn, job.id, now)
            events.add(
                conn,
                job.id,
                now,
                attempt=job.attempt,
                epoch=lease.epoch,
                action=action,
                message=message,
                change=change,
                facts={**(facts or {}), **timed},
            )
        self._tell(job.id, action)

    def _failure(self, step: Step, failure: Failure) -> dict[str, Any]:
        return {**failure.as_json(), "step": step.name, "at": self._tools.clock.now()}

    def _tell(self, job_id: str, action: str) -> None:
        if self._tools.listen is None:
            return
        with self._tools.store.read() as conn:
            job = jobs.get(conn, job_id)
        if job is not None:
            self._tools.listen(job, action)


def _limit(job: Job, step: Step) -> float:
    """Return the seconds that a step may take; cleaning up may take as long as launching."""
    cleaning = job.cancel_requested or GAVE_UP in job.facts
    return job.spec.limits.launch if cleaning else job.step_limit(step.name)


def _settle(conn: sa.Connection, job_id: str, now: float) -> None:
    """Close the calls that changed or removed something and got no answer; the step that made them is complete."""
    for call in records.history(conn, job_id):
        if call.status is EffectStatus.OPEN and call.target is not None:
            records.settle_acts(conn, job_id, call.action, call.target, now)


def start_over(job: Job) -> dict[str, Any]:
    """Return the values with which a job begins its next attempt: nothing of the last one but its history."""
    return {
        "state": State.PENDING.value,
        "attempt": job.attempt + 1,
        "instance_id": None,
        "volume_id": None,
        "snapshot_id": None,
        "ami_id": None,
        "facts": {},
        "step_started_at": None,
        "progress": None,
        "retries": 0,
    }
