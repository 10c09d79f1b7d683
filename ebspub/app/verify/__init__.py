"""verify: boot registered AMIs in EC2, per instance type, and record what came of it.

One thread a job, under a lease of its own (:mod:`ebspub.store.verifications`). What it makes is recorded before it is
made, tagged in the creating call, and removed at the end; what an earlier process left is removed first.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ebspub.app.publish import check_accounts
from ebspub.app.runtime import Runtime, open_shell
from ebspub.app.verify.settings import Place, place
from ebspub.app.verify.trial import Trial
from ebspub.aws import groups
from ebspub.aws import view as views
from ebspub.aws.failures import RETRYABLE, AwsError
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Wait
from ebspub.engine.shells import Shells
from ebspub.engine.step import World
from ebspub.engine.uploads import NoUploads
from ebspub.engine.verification import BootEffects
from ebspub.errors import BusyError, JobError, LeaseLostError, UsageError
from ebspub.states import Kind, Status
from ebspub.steps import remains
from ebspub.store import Job, Lease, Resource, Store, events, jobs, verifications
from ebspub.store.leases import this_process

__all__ = ["FACT", "Result", "chosen", "verified", "verify"]

log = logging.getLogger(__name__)

#: The fact of a job that holds the outcome of the last test boot by instance type.
FACT = "verified"
#: What a test boot makes. AMI and snapshot are what it looks at: it never touches them.
_KINDS = (Kind.INSTANCE, Kind.VOLUME, Kind.GROUP)

#: Told of each outcome: job, instance type, what is recorded of it.
Tell = Callable[[Job, str, dict[str, Any]], None]


@dataclass
class Result:
    """How the test boots went: outcomes by job and instance type; why others came to none."""

    outcomes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
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
    """Whether the AMI of a job passed its last test boot on every instance type tried, and on all of ``types``."""
    found = {kind: told for kind, told in job.facts.get(FACT, {}).items() if told["ami"] == job.ami_id}
    passed = {kind for kind, told in found.items() if told["result"] == "verified"}
    return bool(found) and passed == set(found) and passed >= set(types)


def chosen(store: Store, targets: Sequence[str]) -> list[Job]:
    """Return the registered jobs that are meant: by AMI, by id, or all of a build (suite-build[-serial]).

    Raises UsageError for what names none.
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
        meant |= {job.id: job for job in registered}
    return list(meant.values())


def _names(job: Job) -> tuple[str | None, ...]:
    build = f"{job.spec.suite}-{job.spec.build}"
    return job.ami_id, job.id, build, f"{build}-{job.spec.serial}"


def verify(runtime: Runtime, targets: Sequence[str], types: Sequence[str], tell: Tell) -> Result:
    """Boot the AMIs that ``targets`` name on ``types``, or on the configured ones.

    Raises UsageError and ConfigError before anything is made, and StoreError.
    """
    wanted = chosen(runtime.store, targets)
    places = {job.id: place(runtime.config, job, types) for job in wanted}
    check_accounts(runtime, wanted)
    _ = runtime.keyring
    result = Result()

    def work(job: Job) -> None:
        try:
            _Boots(runtime, job, places[job.id], tell).run(result)
        except LeaseLostError as error:
            log.warning("%s", error)
            result.busy.append(job.id)

    with ThreadPoolExecutor(max_workers=runtime.config.engine.workers, thread_name_prefix="verify") as pool:
        list(pool.map(work, wanted))
    result.signal = runtime.stop.signal
    return result


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
            self._record(lease, trials)
        finally:
            # A process that was asked to stop leaves what it made to the next one, and the lease with it.
            with self._store.write() as conn:
                verifications.release(conn, self._job_id, lease, self._clock.now())
        result.outcomes[self._job_id] = {trial.instance_type: trial.result for trial in trials if trial.result}
        if error:
            result.errors[self._job_id] = error

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
                    self._step(trial, job, world, grouped)
        return False

    def _step(self, trial: Trial, job: Job, world: World, grouped: tuple[str, ...]) -> None:
        trial.step(job, world, grouped)
        if trial.done:
            self._tell(job, trial.instance_type, trial.result)

    def _ours(self, row: Resource, lease: Lease) -> bool:
        return row.purpose.startswith(f"verify.{lease.epoch}.")

    def _groups(self, job: Job, world: World, lease: Lease) -> tuple[str, ...] | None:
        """Return the security groups of the instances; None while the temporary one is being made."""
        if not self._place.needs_group:
            return self._place.security_groups
        row = next((row for row in job.live(Kind.GROUP) if self._ours(row, lease)), None)
        if row is None or row.resource_id is None:
            request = row.request if row is not None else self._group_request(job, lease)

            def create(told: Any, _token: str, marks: dict[str, str]) -> str:
                return groups.create(world.clients.writer, told, tags=marks)

            purpose = f"verify.{lease.epoch}.group"
            making = Making(Kind.GROUP, purpose, "CreateSecurityGroup", request, create, token_honoured=False)
            made = world.effects.make(job, world.view, making)
            log.info("%s: %s", job.id, made.why if isinstance(made, Wait) else f"security group {made} made")
            return None
        seen = world.view.group(row.resource_id)
        if seen is None or self._place.ssh_port not in seen.open_ports:
            cidr = self._place.ssh_cidr or ""
            admit = partial(_admit, world, row.resource_id, self._place.ssh_port, cidr)
            world.effects.act(job, "AuthorizeSecurityGroupIngress", admit, target=row.resource_id)
        return (row.resource_id,)

    def _group_request(self, job: Job, lease: Lease) -> dict[str, Any]:
        subnet = self._place.places[0][1]
        vpc = groups.vpc_of(self._clients.reader, subnet)
        if vpc is None:
            raise JobError(
                f"{job.id}: {job.spec.region} has no default VPC and no subnet is configured",
                todo=f"Set builder.subnets under [regions.{job.spec.region}].",
            )
        unique = hashlib.sha256(f"{job.id}\0verify.{lease.epoch}\0{self._store.id}".encode()).hexdigest()[:10]
        return {"name": f"ebspub-{unique}", "vpc": vpc, "description": f"ebspub verify of {job.id}"[:255]}

    def _record(self, lease: Lease, trials: Sequence[Trial]) -> None:
        """Write the outcomes down: facts and events in one transaction."""
        ended = [trial for trial in trials if trial.result]
        now = self._clock.now()
        with self._store.write() as conn:
            job = self._job(conn)
            found = {trial.instance_type: trial.result for trial in ended}
            facts = {**job.facts, FACT: {**job.facts.get(FACT, {}), **found}} if found else None
            verifications.change(conn, job.id, lease, now, facts=facts)
            for trial in ended:
                told = trial.result
                how = f"identity {told['identity']}, file {told['file']}" if not trial.fault else trial.fault
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


def _admit(world: World, group: str, port: int, cidr: str) -> None:
    try:
        groups.admit(world.clients.writer, group, port=port, cidr=cidr)
    except AwsError as error:
        if error.code != "InvalidPermission.Duplicate":
            raise
