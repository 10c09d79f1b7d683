"""Write a database as the program of the newest revision leaves it, for the tests of every later one.

``python -m tests.migrations.freeze`` writes ``frozen/REVISION.sql``, a dump of the database, and
``frozen/REVISION.json``, the simulated account that the database believes in. Each new revision gets its own, made once
by the program that writes that revision, and never made again: what was written by it in the field does not change
either.

The real engine drives the jobs: into every state and status, and to its death before and after each call, so that there
are open intents of each kind, made and never made.
"""

from __future__ import annotations

import json
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ebspub.spec import Method
from ebspub.states import Kind, State, Status
from ebspub.store import Job, events, jobs, migrate, notices, releases, tables, verifications
from ebspub.store.database import sqlite_file
from tests.simulation.chaos import Chaos, Killed, Weather
from tests.simulation.clients import ACCOUNT
from tests.simulation.ec2 import Region
from tests.simulation.store import SimulatedStore
from tests.simulation.world import World, job_spec

FROZEN = Path(__file__).parent / "frozen"
REGION = "sim-0"
#: The calls at which publishers die: before one that then never is made, and after one whose answer is lost.
CALLS = (
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "RunInstances",
    "CreateVolume",
    "AttachVolume",
    "TerminateInstances",
    "CreateSnapshot",
    "DeleteVolume",
    "DeleteSecurityGroup",
    "RegisterImage",
)
#: The same of the direct method, where they are others.
DIRECT_CALLS = ("StartSnapshot", "CompleteSnapshot")
#: All that the region can be asked: with these refused, a job fails where it is.
_LOOKS = frozenset(f"Describe{what}" for what in ("Instances", "Volumes", "Snapshots", "Images", "SecurityGroups"))


@dataclass
class Deadly(Chaos):
    """No chance: the publisher dies at one moment, named by whoever sets it."""

    deadly: str = ""

    def moment(self, where: str) -> None:
        if where == self.deadly:
            raise Killed(where)


class Account:
    """A simulated region, a database, and jobs that are brought to where they are wanted."""

    def __init__(self, url: str) -> None:
        self.world = World(0, regions=1, weather=Weather())
        self.chaos = Deadly(random.Random(0), self.world.clock, Weather())
        self.region: Region = self.world.regions[REGION]
        self.region.chaos = self.world.chaos = self.chaos
        store = SimulatedStore.open(url)
        assert isinstance(store, SimulatedStore)
        self.world.store = store
        self.world.store.remember("secret", self.world.keyring.fingerprint)
        self._count = 0

    def plan(self, method: Method) -> str:
        """Plan a job of its own serial; return its id."""
        spec = job_spec(REGION, self._count, method)
        self._count += 1
        now = self.world.clock.now()
        with self.world.store.write() as conn:
            assert jobs.add(conn, spec, now)
            events.add(conn, spec.job_id, now, attempt=1, epoch=0, action="planned")
        return spec.job_id

    def job(self, job_id: str) -> Job:
        """Return a job as it is."""
        with self.world.store.read() as conn:
            found = jobs.get(conn, job_id)
        assert found is not None
        return found

    def drive(self, job_id: str, until: Callable[[Job], bool], *, release: bool = False) -> None:
        """Let a publisher drive a job until it is as wanted; then it dies, or gives it back."""
        with self.world.store.write() as conn:
            conn.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(account=ACCOUNT))
        _, scheduler = self.world.publisher()
        assert scheduler.claim([self.job(job_id)], dead=lambda _: True) == [job_id]
        try:
            while not until(self.job(job_id)):
                due = scheduler.tick()
                self.world.clock.wait(max(0.01, due - self.world.clock.now()))
        except Killed:
            return
        if release:
            scheduler.release()

    def bring(self, job_id: str, state: State, status: Status) -> None:
        """Bring a planned job to a state and a status."""
        if state is not State.PENDING or status in (Status.RUNNING, Status.FAILED):
            self.drive(job_id, lambda job: job.state is state, release=status is Status.WAITING)
        if status is Status.FAILED:
            self.region.denied |= _LOOKS
            self.drive(job_id, lambda job: job.status is Status.FAILED)
            self.region.denied -= _LOOKS
        if status in (Status.CANCELLING, Status.CANCELLED):
            with self.world.store.write() as conn:
                assert jobs.request_cancel(conn, job_id, self.world.clock.now())
            self.drive(job_id, lambda job: job.status is status)

    def die(self, moment: str, method: Method) -> None:
        """Let the publisher of a new job die at a moment."""
        self.chaos.deadly = moment
        job_id = self.plan(method)
        self.drive(job_id, lambda job: job.ended)
        assert not self.job(job_id).ended, moment
        self.chaos.deadly = ""

    def lose_builder(self) -> None:
        """Let the builder of a new job die, and its publisher in the next attempt."""
        job_id = self.plan("filesystem")
        self.drive(job_id, lambda job: job.state is State.ATTACHED)
        (builder,) = self.job(job_id).live(Kind.INSTANCE)
        self.region.remove(self.region.things[str(builder.resource_id)], (0.0, "terminated"))
        self.drive(job_id, lambda job: job.attempt == 2 and job.state is State.LAUNCHED)

    def give_up(self) -> None:
        """Let a new job fail for want of a permission, its builder removed."""
        job_id = self.plan("filesystem")
        self.region.denied.add("CreateVolume")
        self.drive(job_id, lambda job: job.status is Status.FAILED)
        self.region.denied.clear()

    def boot(self) -> None:
        """Let the process die that boots the AMI of a new job for a test."""
        job_id = self.plan("filesystem")
        self.drive(job_id, lambda job: job.status is Status.DONE)
        now = self.world.clock.now()
        with self.world.store.write() as conn:
            assert verifications.claim(conn, self.job(job_id), owner="verifier", now=now, until=now + 60.0)

    def publish(self) -> None:
        """Let the process die that makes the build of a new job public, after a call whose answer it never had."""
        job_id = self.plan("filesystem")
        self.drive(job_id, lambda job: job.status is Status.DONE)
        now, job = self.world.clock.now(), self.job(job_id)
        with self.world.store.write() as conn:
            assert releases.add(conn, job.spec, "release", now)
            found = releases.get(conn, releases.release_id(job.spec))
            assert found is not None
            lease = releases.claim(conn, found, owner="publisher", now=now, until=now + 60.0)
            assert lease is not None
            releases.announce(conn, found.id, lease, [job], now)
            row = {"job_id": job_id, "region": REGION, "action": "ModifyImageAttribute", "target": job.ami_id}
            releases.open_change(conn, found.id, lease, {**row, "request": {"add": ["all"]}}, now=now, until=now + 60.0)
            releases.change(conn, found.id, lease, now, state=tables.ReleaseState.PUBLISHED.value, published_at=now)
            public = releases.get(conn, found.id)
            assert public is not None
            assert notices.add(conn, public, now)
            assert notices.take(conn, "publisher", now, lambda _: now + 60.0)

    def document(self) -> dict[str, Any]:
        """Return the account as it will be thawed: what is there, or is believed to be."""
        with self.world.store.read() as conn:
            rows = [row for job in jobs.find(conn) for row in job.live()]
        believed = {row.resource_id for row in rows}
        # A call is made again under its token only where its outcome was never recorded.
        unsettled = {row.token for row in rows if row.resource_id is None}
        now = self.world.clock.now()
        things = [
            {**asdict(thing), "data": _plain(thing.data)}
            for thing in self.region.things.values()
            if thing.id in believed or thing.state(now) not in ("terminated", "deleted")
        ]
        tokens = {token: said for token, said in self.region.tokens.items() if token in unsettled}
        return {"now": now, "region": REGION, "made": len(self.region.things), "things": things, "tokens": tokens}


def possible() -> Iterator[tuple[State, Status]]:
    """Yield every state with every status that it can have."""
    for state in State:
        for status in Status:
            if (state is State.REGISTERED) == (status is Status.DONE):
                yield state, status


def fill(account: Account) -> None:
    """Make all jobs."""
    ways: dict[Method, frozenset[State]] = {
        "filesystem": frozenset(State),
        # Where it has nothing to do it passes through in the same breath.
        "direct": frozenset(State) - {State.LAUNCHED},
    }
    for method, states in ways.items():
        for state, status in possible():
            if state not in states:
                continue
            job_id = account.plan(method)
            account.bring(job_id, state, status)
            job = account.job(job_id)
            assert (job.state, job.status) == (state, status), job
    for call in (*CALLS, *DIRECT_CALLS):
        for when in ("before", "after"):
            account.die(f"{when} {REGION} {call}", "direct" if call in DIRECT_CALLS else "filesystem")
    account.lose_builder()
    account.give_up()
    account.boot()
    account.publish()


def freeze(folder: Path) -> Path:
    """Write the newest revision's dump and account into ``folder``; return the dump. It must not be there yet."""
    dump = folder / f"{migrate.HEAD}.sql"
    if dump.exists():
        raise SystemExit(f"{dump} is there already: what a revision wrote is never written anew")
    with TemporaryDirectory() as scratch:
        url = f"sqlite:///{scratch}/ebspub.db"
        account = Account(url)
        fill(account)
        document = account.document()
        account.world.store.close()
        with closing(sqlite3.connect(str(sqlite_file(url)))) as conn:
            text = "\n".join(conn.iterdump()) + "\n"
    dump.with_suffix(".json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    dump.write_text(text)
    return dump


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(value) if isinstance(value, set) else value for key, value in data.items()}


if __name__ == "__main__":
    FROZEN.mkdir(exist_ok=True)
    sys.stdout.write(f"{freeze(FROZEN)}\n")
