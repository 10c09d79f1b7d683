"""run, resume and cancel: choose jobs, take their leases, drive them, and say how it went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ebspub.app import accounts, fanout
from ebspub.app.runtime import Runtime
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.config import Config
from ebspub.engine.driver import GAVE_UP, Listener, start_over
from ebspub.errors import BusyError, UsageError
from ebspub.spec import JobSpec
from ebspub.states import Lifecycle, State, Status
from ebspub.store import Job, Store, events, jobs, leases, tables

if TYPE_CHECKING:
    from ebspub.app.release import Released


@dataclass
class Result:
    """How a command's jobs ended, as they stand in the store afterwards."""

    jobs: list[Job] = field(default_factory=list)
    busy: list[Job] = field(default_factory=list)
    #: How many of the jobs this process drove.
    driven: int = 0
    signal: int = 0
    #: Calls were still under way when the process had to stop.
    cut_short: bool = False
    #: What came of the builds that were published at the end.
    released: list[Released] = field(default_factory=list)

    def of(self, *statuses: Status) -> list[Job]:
        """Return the jobs that ended in one of ``statuses``."""
        return [job for job in self.jobs if job.status in statuses]

    @property
    def exit_code(self) -> int:
        """The documented exit code (:mod:`ebspub.errors`)."""
        if self.signal:
            return 128 + self.signal
        if self.of(Status.FAILED) or any(each.errors for each in self.released):
            return 3
        if (
            self.busy
            or any(each.busy for each in self.released)
            or self.of(Status.WAITING, Status.RUNNING, Status.CANCELLING)
        ):
            return BusyError.exit_code
        return 0


def run(runtime: Runtime, specs: Sequence[JobSpec], listen: Listener) -> Result:
    """Plan the jobs of ``specs``, skip what is registered, and drive the rest to registered."""
    now = runtime.clock.now()
    with runtime.store.read() as conn:
        known = {job.id: job for job in jobs.find(conn, ids=[spec.job_id for spec in specs])}
    fresh = [spec for spec in specs if spec.job_id not in known]
    begun = [job for job in known.values() if not job.ended]
    if fresh or begun:  # What is wrong with credentials or keys is told before anything is written down.
        check_accounts(runtime, begun, [spec.region for spec in fresh])
        _ = runtime.keyring
        with runtime.store.write() as conn:
            for spec in fresh:
                if jobs.add(conn, spec, now):
                    why = spec.fan_out.why if spec.fan_out is not None else ""
                    events.add(conn, spec.job_id, now, attempt=1, epoch=0, action="planned", message=why)
            for spec in specs:
                if spec.job_id in known:
                    _respecify(conn, known[spec.job_id], spec, now)
    return _drive(runtime, [spec.job_id for spec in specs], listen, again=_go_again)


def _respecify(conn: sa.Connection, job: Job, spec: JobSpec, now: float) -> None:
    """Let a corrected configuration reach a job that nobody drives.

    All of it while nothing of the job exists in EC2; afterwards only what cannot change what is published: how
    builders are launched, and the limits.
    """
    if job.ended or leases.driven(job, now):
        return
    untouched = job.state is State.PENDING and not job.live() and job.seat is None
    # What goes another way now may have no builder at all.
    builder = spec.builder if spec.way == job.spec.way else job.spec.builder
    wanted = spec if untouched else job.spec.model_copy(update={"builder": builder, "limits": spec.limits})
    unproved = wanted.source.sha256 is None and wanted.source.verify != "none"
    if wanted == job.spec or unproved:
        return
    if jobs.respecify(conn, job, wanted, now):
        changed = sorted(name for name in JobSpec.model_fields if getattr(wanted, name) != getattr(job.spec, name))
        message = f"the configuration has changed: {', '.join(changed)}"
        events.add(conn, job.id, now, attempt=job.attempt, epoch=job.epoch, action="respecified", message=message)


def resume(runtime: Runtime, job_ids: Sequence[str], listen: Listener) -> Result:
    """Go on with jobs at their last completed step: the given ones, or all that have not ended.

    A cancelled job that is named starts from the beginning.
    """
    with runtime.store.read() as conn:
        found = jobs.find(conn, ids=job_ids or None)
    _all_known(job_ids, found)
    if not job_ids:
        found = [job for job in found if not job.ended]
    return _drive(runtime, [job.id for job in found], listen, again=_revive if job_ids else _go_again)


def followed(store: Store, job_ids: Sequence[str]) -> list[Job]:
    """Return the jobs that `resume` drives beside ``job_ids``, which it is told, because these copy their snapshots."""
    with store.read() as conn:
        return fanout.followed(conn, jobs.find(conn, ids=job_ids), SystemClock().now())


def cancel(runtime: Runtime, job_ids: Sequence[str], listen: Listener) -> Result:
    """Stop jobs and remove what they made. A job that another process drives is cleaned up by that process."""
    now = runtime.clock.now()
    with runtime.store.read() as conn:
        found = _cancellable(job_ids, jobs.find(conn, ids=job_ids))
    # What is wrong with credentials is told before anything is written down.
    check_accounts(runtime, [job for job in found if not job.ended])
    with runtime.store.write() as conn:
        found = _cancellable(job_ids, jobs.find(conn, ids=job_ids))
        for job in found:
            if jobs.request_cancel(conn, job.id, now):
                events.add(conn, job.id, now, attempt=job.attempt, epoch=job.epoch, action="cancel-requested")
    return _drive(runtime, [job.id for job in found], listen, again=lambda _job: {})


def _cancellable(job_ids: Sequence[str], found: list[Job]) -> list[Job]:
    """Return ``found``; raises UsageError where a job is not known, or is registered."""
    _all_known(job_ids, found)
    for job in found:
        if job.status is Status.DONE:
            raise UsageError(
                f"{job.id} is registered as {job.ami_id}: there is nothing to cancel",
                todo="`ebspub unpublish` takes a published build back; an AMI goes by deregistering it.",
            )
    return found


def _all_known(job_ids: Sequence[str], found: Sequence[Job]) -> None:
    unknown = sorted(set(job_ids) - {job.id for job in found})
    if unknown:
        raise UsageError(f"no such job: {', '.join(unknown)}", todo="`ebspub status` lists the jobs.")


def _drive(
    runtime: Runtime, job_ids: Sequence[str], listen: Listener, *, again: Callable[[Job], dict[str, Any]]
) -> Result:
    with runtime.store.read() as conn:
        todo = [job for job in jobs.find(conn, ids=job_ids) if not job.ended or again(job)]
        more = fanout.followed(conn, todo, runtime.clock.now())
    job_ids = [*job_ids, *(job.id for job in more)]
    todo = [*more, *todo]
    result = Result()
    if todo:
        owners = check_accounts(runtime, todo)
        executor = ThreadPoolExecutor(max_workers=runtime.config.engine.workers, thread_name_prefix="ebspub")
        scheduler = runtime.scheduler(listen, executor)
        for job in todo:
            _prepare(runtime, job, {**again(job), "account": owners.get(job.id, job.account)})
        with runtime.store.read() as conn:
            taken = scheduler.claim(jobs.find(conn, ids=[job.id for job in todo]))
        scheduler.run(runtime.stop.event)
        result.cut_short = scheduler.under_way > 0
        executor.shutdown(wait=not (result.cut_short or runtime.stop.signal), cancel_futures=True)
        result.driven = len(taken)
        result.busy = [job for job in todo if job.id not in taken]
    with runtime.store.read() as conn:
        result.jobs = jobs.find(conn, ids=job_ids)
    busy = {job.id for job in result.busy}
    result.busy = [job for job in result.jobs if job.id in busy and not job.ended]
    result.jobs = [job for job in result.jobs if job.id not in busy or job.ended]
    result.signal = runtime.stop.signal
    return result


def _prepare(runtime: Runtime, job: Job, values: dict[str, Any]) -> None:
    """Write what a fresh go of an undriven job begins with; one that a living process drives is left alone."""
    now = runtime.clock.now()
    if not values or leases.driven(job, now):
        return
    if "status" in values:
        values = {"lease_owner": None, "lease_until": None, **values}
    # Nobody has taken it since; nor has its owner, with a lease that was over, come back and renewed it.
    until = job.lease.until if job.lease else None
    idle = (tables.jobs.c.epoch == job.epoch, tables.jobs.c.lease_until.is_not_distinct_from(until))
    with runtime.store.write() as conn:
        statement = tables.jobs.update().where(tables.jobs.c.id == job.id, *idle)
        changed = conn.execute(statement.values(updated_at=now, **values)).rowcount
        if changed and job.status is not Status.WAITING:
            back = (job.state, Lifecycle().target(job.state, "revive")) if "state" in values else None
            events.add(conn, job.id, now, attempt=job.attempt, epoch=job.epoch, action="resumed", change=back)


def _go_again(job: Job) -> dict[str, Any]:
    """Return the values with which a job that has not ended goes on: tries, limits and waits begin anew."""
    if job.ended:
        return {}
    facts = {key: value for key, value in job.facts.items() if key != GAVE_UP}
    return {
        "status": Status.WAITING.value,
        "attempt_base": job.attempt,
        "facts": facts,
        "retries": 0,
        "not_before": 0.0,
        "step_started_at": None,
    }


def _revive(job: Job) -> dict[str, Any]:
    """Like :func:`_go_again`; a cancelled job starts from the beginning."""
    if job.status is not Status.CANCELLED:
        return _go_again(job)
    again = {**start_over(job), "attempt_base": job.attempt + 1, "status": Status.WAITING.value}
    return {**again, "ended_at": None, "cancel_requested": False, "error": None, "not_before": 0.0}


def check_accounts(runtime: Runtime, todo: Sequence[Job], more: Sequence[str] = ()) -> dict[str, str]:
    """Return the account of each job's credentials where it is known; ``more`` regions are looked at, too.

    A region that does not know it is its own jobs' trouble. Raises ConfigError for credentials that no region accepts,
    UsageError for a job that was begun in another account.
    """
    found = accounts.usable(runtime.clients, [*(job.spec.region for job in todo), *more])
    accounts.refuse_others(todo, found)
    known = {job.id: found[job.spec.region] for job in todo}
    return {job_id: account for job_id, account in known.items() if isinstance(account, str)}


def require_credentials(config: Config, specs: Sequence[JobSpec]) -> None:
    """Raise ConfigError where the credentials for ``specs`` are refused: before a database is made for nothing."""
    accounts.usable(BotoClients(workers=config.engine.workers), [spec.region for spec in specs])
