"""verify: boot registered AMIs in EC2, per instance type, and record what came of it.

One thread a job, under a lease of its own (:mod:`ebspub.store.verifications`). What it makes is recorded before it is
made, tagged in the creating call, and removed at the end; what an earlier process left is removed first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from ebspub.app.publish import check_accounts
from ebspub.app.runtime import Runtime, open_shell
from ebspub.app.verify.settings import Place, nowhere, place
from ebspub.app.verify.trial import Trial
from ebspub.aws import view as views
from ebspub.aws.failures import RETRYABLE, AwsError
from ebspub.engine.outcome import Wait
from ebspub.engine.shells import Shells
from ebspub.engine.step import World
from ebspub.engine.uploads import NoUploads
from ebspub.engine.verification import BootEffects
from ebspub.errors import BusyError, JobError, LeaseLostError, UsageError
from ebspub.states import Kind, Status
from ebspub.steps import door, remains
from ebspub.store import Job, Lease, Resource, Store, events, jobs, verifications
from ebspub.store.leases import this_process

__all__ = ["FACT", "LEFT", "Result", "chosen", "clean_up", "not_passed", "verified", "verify"]

log = logging.getLogger(__name__)

#: The fact of a job that holds the outcome of the last test boot by instance type.
FACT = "verified"
#: What a test boot makes. AMI and snapshot are what it looks at: it never touches them.
_KINDS = (Kind.INSTANCE, Kind.VOLUME, Kind.GROUP)

#: What becomes of what a test boot leaves that does not get to its end.
LEFT = "what was made is removed by the next `ebspub verify` or `ebspub resume`, or by `ebspub sweep`"

#: Told of each outcome: job, instance type, what is recorded of it.
Tell = Callable[[Job, str, dict[str, Any]], None]


@dataclass
class Result:
    """How the test boots went: outcomes by job and instance type; why others came to none."""

    outcomes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    #: Jobs whose AMI had passed on all that was asked for.
    skipped: list[str] = field(default_factory=list)
    signal: int = 0

    @property
    def exit_code(self) -> int:
        """The documented exit code (:mod:`ebspub.errors`)."""
        if self.signal:
            return 128 + self.signal
        failed = any(each["result"] != "verified" for found in self.outcomes.values() for each in found.values())
        if failed or self.errors:
            return JobError.exit_code
        return BusyError.exit_code if self.busy else 0


def verified(job: Job, types: Sequence[str] = ()) -> bool:
    """Whether a gate may let the AMI of a job through.

    It passed its last test boot on every instance type on which it was booted, at least on one, and on all of
    ``types``. A type on which it failed counts until it passes there. ``job`` is what was read of it: read it anew
    after a `verify`, which records each outcome when it ends.
    """
    found = _outcomes(job)
    return bool(found) and all(found.values()) and set(types) <= set(found)


def not_passed(job: Job, types: Sequence[str]) -> tuple[str, ...]:
    """Return those of ``types`` on which the AMI of a job did not pass its last test boot, or was never booted."""
    found = _outcomes(job)
    return tuple(kind for kind in types if not found.get(kind))


def _outcomes(job: Job) -> dict[str, bool]:
    """Return whether the AMI passed its last test boot, by instance type."""
    found = job.facts.get(FACT, {}).items()
    return {kind: told["result"] == "verified" for kind, told in found if told["ami"] == job.ami_id}


def chosen(store: Store, targets: Sequence[str]) -> list[Job]:
    """Return the registered jobs that are meant: by AMI, by id, or all of a build, suite-build-serial.

    suite-build is its newest serial of which anything is registered. Raises UsageError for what names none.
    """
    with store.read() as conn:
        known = jobs.find(conn)
    meant: dict[str, Job] = {}
    for target in targets:
        found = [job for job in known if target in _names(job)]
        registered = [job for job in found if job.status is Status.DONE]
        if not registered:
            what = f"{target} is not registered yet" if found else f"no such AMI, job or build: {target}"
            raise UsageError(what, todo="`ebspub status` lists what there is: only what is registered can be booted.")
        newest = max(_age(job) for job in registered)
        meant |= {job.id: job for job in registered if _age(job) == newest}
    return list(meant.values())


def _age(job: Job) -> tuple[str, int]:
    day, _, number = job.spec.serial.partition(".")
    return day, int(number or 0)


def _names(job: Job) -> tuple[str | None, ...]:
    build = f"{job.spec.suite}-{job.spec.build}"
    return job.ami_id, job.id, build, f"{build}-{job.spec.serial}"


def verify(
    runtime: Runtime, targets: Sequence[str], types: Sequence[str], tell: Tell, *, missing: bool = False
) -> Result:
    """Boot the AMIs that ``targets`` name on ``types``, or on the configured ones.

    ``missing``: only where they have not passed. Raises UsageError and ConfigError before anything is made, and
    StoreError.
    """
    places: dict[str, Place] = {}
    wanted, result = [], Result()
    for job in chosen(runtime.store, targets):
        where = place(runtime.config, job, types)
        if missing:
            where = replace(where, types=not_passed(job, where.types))
        places[job.id] = where
        if where.types:
            wanted.append(job)
        else:
            result.skipped.append(job.id)
    _boot(runtime, wanted, places, tell, result)
    return result


def clean_up(runtime: Runtime) -> Result:
    """Remove what interrupted test boots left; ``outcomes`` then has their jobs. Raises as :func:`verify` does."""
    with runtime.store.read() as conn:
        found, result = verifications.left_over(jobs.find(conn), runtime.clock.now()), Result()
    _boot(runtime, found, {job.id: nowhere(runtime.config) for job in found}, lambda *_: None, result)
    return result


def _boot(runtime: Runtime, wanted: Sequence[Job], places: Mapping[str, Place], tell: Tell, result: Result) -> None:
    """Boot each AMI at its place."""
    if not wanted:
        return
    check_accounts(runtime, wanted)
    _ = runtime.keyring

    def work(job: Job) -> None:
        try:
            _Boots(runtime, job, places[job.id], tell).run(result)
        except LeaseLostError as error:
            log.warning("%s", error)
            result.busy.append(job.id)

    with ThreadPoolExecutor(max_workers=runtime.config.engine.workers, thread_name_prefix="verify") as pool:
        list(pool.map(work, wanted))
    result.signal = runtime.stop.signal


class _Boots:
    """The test boots of one job."""

    def __init__(self, runtime: Runtime, job: Job, where: Place, tell: Tell) -> None:
        self._runtime = runtime
        self._job_id = job.id
        self._place = where
        self._tell = tell
        self._store, self._clock = runtime.store, runtime.clock
        self._clients = runtime.clients.region(job.spec.region)
        self._lease_time = runtime.config.engine.lease

    def run(self, result: Result) -> None:
        """Take the lease, boot, record. Raises LeaseLostError and StoreError."""
        now = self._clock.now()
        with self._store.write() as conn:
            lease = verifications.claim(
                conn, self._job(conn), owner=this_process(), now=now, until=now + self._lease_time
            )
        if lease is None:
            result.busy.append(self._job_id)
            return
        trials = [Trial(self._place, kind, lease.epoch, n) for n, kind in enumerate(self._place.types, 1)]
        try:
            error = self._loop(lease, trials)
        finally:
            # A process that was asked to stop leaves what it made to the next one, and the lease with it.
            with self._store.write() as conn:
                verifications.release(conn, self._job_id, lease, self._clock.now())
        result.outcomes[self._job_id] = {trial.instance_type: trial.result for trial in trials if trial.result}
        if error:
            result.errors[self._job_id] = error + self._left()

    def _left(self) -> str:
        """Return what an error leaves in the account, and what becomes of it; empty where it leaves nothing."""
        with self._store.read() as conn:
            rows = verifications.made(self._job(conn))
        if not rows:
            return ""
        named = ", ".join(row.resource_id or f"a {row.kind}" for row in rows)
        return f"; left behind: {named}: {LEFT}; cloud-init ends an instance {self._place.dead_man} s after its boot"

    def _loop(self, lease: Lease, trials: list[Trial]) -> str:
        """Look and step until all is done and nothing is left; return why it was given up before, or nothing."""
        stop, pause = self._runtime.stop.event, self._runtime.config.engine.poll_interval
        silent_since: float | None = None
        while not stop.is_set():
            try:
                if self._round(lease, trials):
                    return ""
                silent_since = None
            except AwsError as error:
                now = self._clock.now()
                silent_since = silent_since or now
                log.info("%s: %s", self._job_id, error.what)
                if error.cause not in RETRYABLE or now > silent_since + self._place.boot:
                    return error.what
            except (LeaseLostError, UsageError):
                raise
            except JobError as error:
                return error.what
            self._clock.wait(pause, stop)
        return ""

    def _round(self, lease: Lease, trials: list[Trial]) -> bool:
        """Look at the region once and take every trial's next step; return whether all is done and removed."""
        at = self._clock.now()
        with self._store.write() as conn:
            verifications.change(conn, self._job_id, lease, at, until=at + self._lease_time)
        view = views.look(
            self._clients.reader, store=self._store.id, jobs=[self._job_id], names=(), kinds=_KINDS, at=at
        )
        with self._store.read() as conn:
            # After the look: whatever of ours it shows has its row by then.
            job = self._job(conn)
        world = self._world(lease, view)
        others = [row for row in job.own(*_KINDS) if not self._ours(row, lease)]
        if remains.remove(job, world, others) is not None:
            return False
        if all(trial.done for trial in trials):
            mine = [row for row in job.live(Kind.GROUP) if self._ours(row, lease)]
            wait = remains.remove(job, world, mine) or remains.remove_strays(job, world, _KINDS)
            return wait is None
        grouped = self._groups(job, world, lease)
        if grouped is not None:
            for trial in trials:
                if not trial.done:
                    self._step(lease, trial, job, world, grouped)
        return False

    def _step(self, lease: Lease, trial: Trial, job: Job, world: World, grouped: tuple[str, ...]) -> None:
        trial.step(job, world, grouped)
        if trial.done:
            # At once: this process may be killed while others are still under way.
            self._record(lease, trial)
            self._tell(job, trial.instance_type, trial.result)

    def _ours(self, row: Resource, lease: Lease) -> bool:
        return row.purpose.startswith(f"{verifications.PURPOSE}{lease.epoch}.")

    def _groups(self, job: Job, world: World, lease: Lease) -> tuple[str, ...] | None:
        """Return the security groups of the instances; None while the temporary one is being made."""
        if not self._place.needs_group:
            return self._place.security_groups
        wish = door.Door(
            purpose=f"{verifications.PURPOSE}{lease.epoch}.group",
            salt=f"verify.{lease.epoch}",
            description=f"ebspub verify of {job.id}",
            subnet=self._place.places[0][1],
            port=self._place.ssh_port,
            cidr=self._place.ssh_cidr or "",
        )
        row = next((row for row in job.live(Kind.GROUP) if self._ours(row, lease)), None)
        made = door.ensure(job, world, row, wish)
        if isinstance(made, Wait):
            log.info("%s: %s", job.id, made.why)
            return None
        return (made,)

    def _record(self, lease: Lease, trial: Trial) -> None:
        """Write an outcome down: fact and event in one transaction."""
        now, told = self._clock.now(), trial.result
        how = f"identity {told['identity']}, file {told['file']}" if not trial.fault else trial.fault
        with self._store.write() as conn:
            job = self._job(conn)
            facts = {**job.facts, FACT: {**job.facts.get(FACT, {}), trial.instance_type: told}}
            verifications.change(conn, job.id, lease, now, facts=facts)
            events.add(
                conn,
                job.id,
                now,
                attempt=job.attempt,
                epoch=lease.epoch,
                action="verified" if not trial.fault else "verify-failed",
                message=f"{job.ami_id} on {trial.instance_type}: {how}",
                facts={"instance_type": trial.instance_type, **told, "console": trial.console},
            )

    def _job(self, conn: Any) -> Job:
        job = jobs.get(conn, self._job_id)
        assert job is not None
        return job

    def _world(self, lease: Lease, view: views.RegionView) -> World:
        keyring = self._runtime.keyring
        return World(
            clock=self._clock,
            view=view,
            clients=self._clients,
            effects=BootEffects(self._store, self._clock, lease, lease_time=self._lease_time),
            shells=Shells(open_shell, keyring),
            uploads=NoUploads(),
            keyring=keyring,
        )
