"""One simulated history: publishers that come and go, until every job has ended; then the invariants."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

from ebspub.aws import tags
from ebspub.engine.driver import Tools
from ebspub.engine.scheduler import Pace, Scheduler
from ebspub.engine.shells import Shells
from ebspub.errors import LeaseLostError
from ebspub.remote.keys import Keyring
from ebspub.spec import Builder, FanOut, JobSpec, Limits, Method, Registration, Source, Volume
from ebspub.states import State, Status
from ebspub.steps import CANCEL, STEPS, WAYS
from ebspub.store import Job, events, jobs, tables
from tests.simulation.builders import FixedKeys, SimulatedShell
from tests.simulation.chaos import Chaos, Killed, VirtualClock, Weather
from tests.simulation.clients import SimulatedClients
from tests.simulation.ec2 import Region
from tests.simulation.store import open_store
from tests.simulation.uploads import SimulatedUploads

SHA256 = "5" * 64
#: In how many histories a stranger's AMI holds the name of a job.
_STRANGERS = 0.05
LEASE = 120.0


class InlineExecutor:
    """Runs work at once; a kill goes through it like through everything else."""

    def submit(self, work: Callable[[], object], /) -> Future[object]:
        """Run ``work``."""
        future: Future[object] = Future()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - the future carries it, as an executor's does
            future.set_exception(error)
        return future


class World:
    """Regions, a store, and the publishers that work on them."""

    def __init__(
        self,
        seed: int,
        *,
        regions: int = 1,
        jobs_each: int = 1,
        weather: Weather | None = None,
        lean: bool = True,
        method: Method = "filesystem",
        fan_out: bool = False,
        shared: bool = False,
    ) -> None:
        self.rng = random.Random(seed)
        self.clock = VirtualClock()
        self.chaos = Chaos(self.rng, self.clock, weather or Weather.draw(self.rng))
        self.chaos.during_pause = self._others
        names = [f"sim-{number}" for number in range(regions)]
        self.regions = {name: Region(name, self.chaos) for name in names}
        for region in self.regions.values():
            region.others = self.regions
        self.clients = SimulatedClients(self.regions)
        self.store = open_store(lean=lean)
        self.store.chaos = self.chaos
        self.keyring = FixedKeys()
        primary = names[0] if fan_out else None
        self.shared = shared
        self.specs = [
            job_spec(name, number, method, primary, shared=shared) for name in names for number in range(jobs_each)
        ]
        for region in self.regions.values():
            region.on_terminate = partial(self._ends, region.name)
        #: How often a publisher drives but some of the jobs that share a builder, and leaves the rest to another.
        self.dividing = 0.4 if shared else 0.0
        #: How often somebody asks to cancel a job, per look of a publisher.
        self.cancelling = self.rng.choice((0.0, 0.0, 0.02)) if shared else 0.0
        #: What was done to somebody who still needed it.
        self.harm: list[str] = []
        self.dead: set[str] = set()
        #: A name that somebody else's AMI holds: the job of that name must fail and touch nothing.
        self.taken: str | None = None
        if self.rng.random() < _STRANGERS:
            region = self.regions[names[0]]
            self.taken = self.specs[0].registration.name
            region.make("image", {}, (0.0, "available"), Name=self.taken, snapshot="snap-stranger")
        self.failed: list[str] = []
        self._owners = 0
        self._depth = 0

    def publisher(self) -> tuple[str, Scheduler]:
        """Return a new publisher process: its name, and its scheduler."""
        self._owners += 1
        owner = f"publisher-{self._owners}"
        tools = Tools(
            store=self.store,
            clock=self.clock,
            keyring=self.keyring,
            shells=Shells(self._shell, self.keyring),
            steps=STEPS,
            cleanup=CANCEL,
            rng=self.rng,
            lease_time=LEASE,
            listen=None,
            stopping=lambda: False,
            ways=WAYS,
            uploads=SimulatedUploads(self.regions, SHA256),
        )
        pace = Pace(poll_interval=15.0, renew_interval=LEASE / 3)
        return owner, Scheduler(tools, self.clients, InlineExecutor(), owner=owner, pace=pace)

    def _shell(self, job: Job, address: str, keyring: Keyring) -> SimulatedShell:
        del keyring
        return SimulatedShell(self.regions[job.spec.region], address, job, SHA256)

    def plan(self) -> None:
        """Write the jobs down."""
        with self.store.calm_write() as conn:
            for spec in self.specs:
                if jobs.add(conn, spec, self.clock.now()):
                    events.add(conn, spec.job_id, self.clock.now(), attempt=1, epoch=0, action="planned")

    def go(self, *, until: float | None = None) -> str:
        """Let one publisher work until it has nothing left, is killed, or ``until``; return how it ended."""
        owner, scheduler = self.publisher()
        self.chaos.tell(f"{owner} starts")
        try:
            self._resume_failed()
            with self.store.read() as conn:
                waiting = [job for job in jobs.find(conn) if not job.ended]
            if self.shared and not self.chaos.calm and self.rng.random() < self.dividing:
                waiting = [job for job in waiting if self.rng.random() < 0.5]
            scheduler.claim(waiting, dead=lambda name: name in self.dead)
            while not scheduler.idle and (until is None or self.clock.now() < until):
                due = scheduler.tick()
                self._maybe_cancel()
                self.clock.wait(max(0.01, due - self.clock.now()))
            scheduler.release()
        except Killed:
            if self.rng.random() < 0.5:  # else its host died with it: only the end of its lease tells
                self.dead.add(owner)
            return "killed"
        except LeaseLostError:
            return "lost its lease"
        return "through"

    def _others(self) -> None:
        """What another publisher does while one stands still."""
        if self._depth == 0:
            self._depth = 1
            try:
                self.clock.wait(self.rng.choice((0.0, LEASE + 1.0)))
                self.go(until=self.clock.now() + self.rng.random() * 300.0)
            finally:
                self._depth = 0

    def _maybe_cancel(self) -> None:
        """Somebody asks now and then to cancel one of several jobs that share a builder."""
        if not self.shared or self.chaos.calm or self.rng.random() >= self.cancelling:
            return
        job_id = self.rng.choice(self.specs).job_id
        with self.store.calm_write() as conn:
            if jobs.request_cancel(conn, job_id, self.clock.now()):
                self.chaos.tell(f"{job_id}: somebody asks to cancel it")

    def _resume_failed(self) -> None:
        with self.store.calm_write() as conn:
            values: dict[str, Any] = {"status": Status.WAITING.value, "retries": 0, "not_before": 0.0}
            for job in jobs.find(conn, statuses=[Status.FAILED]):
                self.failed.append(job.error.message if job.error else "")
                facts = {key: value for key, value in job.facts.items() if key != "gave_up"}
                more = {"attempt_base": job.attempt, "step_started_at": None, "facts": facts}
                conn.execute(tables.jobs.update().where(tables.jobs.c.id == job.id).values(**values, **more))

    def history(self, *, starts: int = 30) -> None:
        """Start publishers until everything has ended; the last ones have good weather."""
        self.plan()
        for number in range(starts):
            self.chaos.calm = number >= starts // 2
            ended = self.go()
            self.chaos.tell(f"the publisher is {ended}")
            if self._finished():
                return
            self.clock.wait(self.rng.choice((0.0, LEASE + 1.0, 400.0)))

    def _finished(self) -> bool:
        with self.store.read() as conn:
            return all(job.ended or (self._refused(job) and not job.live()) for job in jobs.find(conn))

    def _ends(self, region: str, instance: str) -> None:
        """See that nobody has a place at a builder that is about to be ended."""
        if not self.shared:
            return
        with self.store.read() as conn:
            for job in jobs.find(conn, regions=[region]):
                row = job.seat.instance if job.seat is not None else None
                if row is not None and row.resource_id == instance:
                    self.harm.append(f"{job.id}: its builder {instance} was ended under it")

    def _refused(self, job: Job) -> bool:
        """Whether the job failed, as it must, because its name is a stranger's, or that of what it was to copy."""
        origin = job.spec.fan_out.region if job.spec.fan_out is not None else job.spec.region
        taken = self.taken == job.spec.registration.name and origin == next(iter(self.regions))
        return taken and job.status is Status.FAILED

    def violations(self) -> list[str]:
        """Return every invariant that does not hold at the end of the history."""
        self.clock.wait(1000.0)
        with self.store.read() as conn:
            found = jobs.find(conn)
        unfinished = [
            job for job in found if job.status is not Status.DONE and not self._refused(job) and not _cancelled(job)
        ]
        wrong = [f"{job.id}: not registered: {job.status} {job.error}" for job in unfinished]
        for name, region in self.regions.items():
            wrong += self._left_over(name, region, *_published_by(found))
        wrong += [f"failed for what trying again mends: {what}" for what in self.failed if not _bounded(what)]
        for job in found:
            wrong += self._published(job) + self._told(job) + self._once(job) + self._copied(job)
            if job.seat is not None or (job.left_behind and not self._refused(job)):
                wrong.append(f"{job.id}: has not left its builder, or left it behind")
        return wrong + self.harm

    def _copied(self, job: Job) -> list[str]:
        """A copy has never had anything but a snapshot and an AMI."""
        if job.spec.primary is None:
            return []
        things = self.regions[job.spec.region].things.values()
        made = {thing.kind for thing in things if thing.tags.get(tags.JOB) == job.id}
        return [f"{job.id}: made {kind}" for kind in sorted(made - {"snapshot", "image"})]

    def _told(self, job: Job) -> list[str]:
        """The history of a job is one chain of states, from pending to where the job is."""
        with self.store.read() as conn:
            changes = [event for event in events.history(conn, job.id) if event.from_state is not None]
        state, wrong = State.PENDING, []
        for event in changes:
            if event.from_state is not state:
                wrong.append(f"{job.id}: {event.action} from {event.from_state}, but the job was {state}")
            state = event.to_state or state
        return wrong if state is job.state else [*wrong, f"{job.id}: is {job.state}, told {state}"]

    def _once(self, job: Job) -> list[str]:
        """Where EC2 honours a token, an intent made one thing; and nothing was written off while it was there."""
        region = self.regions[job.spec.region]
        made = Counter(
            (thing.kind, thing.tags.get(tags.TOKEN))
            for thing in region.things.values()
            if (thing.kind in ("instance", "volume") or "put" in thing.data) and thing.tags.get(tags.JOB) == job.id
        )
        wrong = [f"{job.id}: {count} {kind}s of one intent" for (kind, _), count in made.items() if count > 1]
        for row in job.resources:
            thing = region.things.get(row.resource_id or "")
            if thing is None or row.gone_at is None:
                continue
            went = [since for since, state in thing.states if state in ("deleted", "shutting-down", "terminated")]
            if not went or went[0] > row.gone_at:
                wrong.append(f"{job.id}: {thing.id} was written off while it was there")
        return wrong

    def _left_over(self, name: str, region: Region, amis: set[str | None], snapshots: set[str | None]) -> list[str]:
        region.settle()
        kept = amis | snapshots | self._swept(region)
        return [
            f"{name}: {thing.id} is left over ({thing.state(region.now)})"
            for thing in region.things.values()
            if thing.state(region.now) not in ("terminated", "deleted")
            and thing.id not in kept
            and thing.data.get("snapshot") != "snap-stranger"
        ]

    def _swept(self, region: Region) -> set[str]:
        """What a process that stood still within a call made for a job that had failed meanwhile.

        No process may undo it, and nobody drives that job again: `sweep` finds it by its tags, and by no row. Nor that
        of a job that is through, for which CopySnapshot, without a client token, succeeds once more.
        """
        with self.store.read() as conn:
            refused = {
                job.id: {row.resource_id for row in job.resources}
                for job in jobs.find(conn)
                if self._refused(job) or _cancelled(job)
            }
        marked = [t for t in region.things.values() if t.tags.get(tags.STORE) == self.store.id]
        late = {t.id for t in region.things.values() if t.data.get("late")}
        return late | {t.id for t in marked if t.id not in refused.get(t.tags[tags.JOB], {t.id})}

    def _published(self, job: Job) -> list[str]:
        if self._refused(job) or _cancelled(job):
            return []
        region = self.regions[job.spec.region]
        mine = [t for t in region.of("image") if t.tags.get(tags.JOB) == job.id and t.state(region.now) == "available"]
        if len(mine) != 1:
            return [f"{job.id}: {len(mine)} AMIs"]
        snapshot = region.things[mine[0].data["snapshot"]]
        wrong = []
        if mine[0].id != job.ami_id or snapshot.id != job.snapshot_id:
            wrong.append(f"{job.id}: recorded {job.ami_id}/{job.snapshot_id}, not {mine[0].id}/{snapshot.id}")
        if snapshot.data["content"] != SHA256:
            wrong.append(f"{job.id}: published {snapshot.data['content']!r}")
        if snapshot.data["while_attached"]:
            wrong.append(f"{job.id}: the volume was snapshotted while attached")
        return wrong


def _cancelled(job: Job) -> bool:
    """Whether the job ended, as somebody wished, without an AMI."""
    return job.status is Status.CANCELLED and job.cancel_requested


def _published_by(found: list[Job]) -> tuple[set[str | None], set[str | None]]:
    """Return the AMIs and the snapshots that jobs were registered with, or have kept for a name that gets free."""
    kept = [job for job in found if not _cancelled(job)]
    return {job.ami_id for job in kept}, {job.snapshot_id for job in kept}


def _bounded(what: str) -> bool:
    """Whether a job may fail with this error: it used up what it has, or the name is a stranger's."""
    used_up = ("of 5)", "EC2 failed 5 ", " within ", "did not end in time", "has not answered for", "nobody drives")
    return any(word in what for word in (*used_up, "is taken by"))


def run(
    seed: int,
    weather: Weather | None = None,
    *,
    lean: bool = True,
    method: Method = "filesystem",
    copies: int = 0,
    jobs_each: int = 1,
    shared: bool = False,
) -> tuple[World, list[str]]:
    """Play the history of a seed; return its world and what it violates. ``copies``: to so many further regions."""
    world = World(
        seed,
        weather=weather,
        lean=lean,
        method=method,
        regions=1 + copies,
        fan_out=copies > 0,
        jobs_each=jobs_each,
        shared=shared,
    )
    world.history()
    return world, world.violations()


def story(world: World) -> str:
    """Return what happened in a world, and the history that its store tells of each job."""
    lines = [*world.chaos.story, ""]
    with world.store.read() as conn:
        for job in jobs.find(conn):
            for event in events.history(conn, job.id):
                change = f"{event.from_state} -> {event.to_state}" if event.from_state else ""
                lines.append(f"{event.at - 1_700_000_000.0:10.2f}  {job.id}: {event.action} {change} {event.message}")
    return "\n".join(lines)


def job_spec(
    region: str, number: int, method: Method = "filesystem", primary: str | None = None, *, shared: bool = False
) -> JobSpec:
    """Return the job of a build in a region; it copies the snapshot of its twin in the region ``primary``, if any."""
    copies = primary is not None and primary != region
    kinds = ("t3.medium", "t3.large")
    return JobSpec(
        suite="lucid",
        build="server",
        label="release",
        serial=f"2010{number + 10:02d}20",
        version="10.04",
        arch="amd64",
        region=region,
        source=Source(url="http://images.invalid/x.tar.gz", sha256=SHA256),
        builder=Builder(image="ami-0000b0b0", instance_types=kinds, ssh_cidr="192.0.2.1/32", shared=shared),
        volume=Volume(size=8),
        registration=Registration(name=f"image-{number}", architecture="x86_64"),
        method=method,
        parent="previous",
        fan_out=FanOut(region=str(primary), when="always", copies=True, why="always") if copies else None,
        tags={},
        limits=Limits(attempts=5),
    )
