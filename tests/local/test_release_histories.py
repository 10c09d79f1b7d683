"""Random histories of releases, against the embedded cloud: what must never be is not, whatever comes after what.

Builds are published, taken back and labelled anew, regions come late, the configuration shrinks and grows, calls are
refused, answers are lost, and the publisher dies. After every step others can use all that they find; now and then all
is brought to its end, and then `current` names the newest and nothing is left to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ebspub.app import release as app
from ebspub.aws.clients import BotoClients
from ebspub.localcloud import Effect, Rule
from ebspub.states import Status
from ebspub.store import Job, jobs, releases, tables
from ebspub.store.releases import Release
from ebspub.store.tables import ReleaseState
from tests.local.leftovers import Stage
from tests.local.released import FRIEND, Files, clients, cloud, configure, register, runtime_of, stage
from tests.local.test_release_killed import Died, dying
from tests.support.variants import few

__all__ = ["clients", "cloud", "stage"]

SERIALS = ("20101001", "20101010", "20101020")
PATH = "/images/lucid/current/amd64"
#: Whom it is shared with, besides one account that is always among them, and what names it.
TABLES = (
    'public = true\nparameters = ["/images/{suite}/{serial}/{arch}", "/images/{suite}/current/{arch}"]\n',
    'parameters = ["/images/{suite}/current/{arch}"]\ntags = { Stream = "{label}" }\nquorum = 1\n',
    'parameters = ["/images/{suite}/{serial}/{arch}"]\n',
    'parameters = ["/images/{suite}/{label}/{arch}", "/images/{suite}/current/{arch}"]\nquorum = 1\n',
)
REFUSABLE = ("ModifyImageAttribute", "ModifySnapshotAttribute", "CreateTags", "PutParameter", "DeleteParameter")


@dataclass
class History:
    """A stage, what is done to it, and what is known of it."""

    stage: Stage
    rng: random.Random
    text: str = ""
    table: int = 0
    steps: list[str] = field(default_factory=list)
    #: Builds that were taken back, and not published since.
    closed: set[str] = field(default_factory=set)
    files: Files = field(init=False)
    #: What `current` named after the step before.
    named: set[str | None] = field(default_factory=set)
    #: Whether a call was refused since all was brought to its end: a path may then name what is closed.
    refused: bool = False

    def __post_init__(self) -> None:
        self.files = Files(self.stage)
        self.text = self.stage.config.read_text().replace('"amd64", "i386"', '"amd64"')
        self.write()
        for region in self.stage.regions:  # what another history has left there
            self.stage.clients.region(region).ssm.delete_parameters(Names=[PATH])

    def write(self, serial: str = SERIALS[-1]) -> None:
        self.stage.config.write_text(self.text.replace('serial = "20101020"', f'serial = "{serial}"'))
        configure(self.stage, f'[publish]\naccounts = "{FRIEND}"\npatience = 1\n{TABLES[self.table]}')

    def note(self, step: str) -> None:
        self.steps.append(step)

    # --- steps ---------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do one thing, chosen at random."""
        wishes = (self.publish, self.publish, self.publish, self.unpublish, self.arrive, self.reconfigure)
        self.rng.choice(wishes)()

    def arrive(self) -> None:
        """Let one more region of a build be registered."""
        absent = [
            (serial, region)
            for serial in SERIALS
            for region in self.stage.regions
            if (f"lucid-server-{serial}", region)
            not in {(releases.release_id(j.spec), j.spec.region) for j in self.jobs()}
        ]
        if absent:
            serial, region = self.rng.choice(absent)
            self.note(f"arrive {serial} {region}")
            self.write(serial)
            register(self.stage, "amd64", region)
            self.write()

    def reconfigure(self) -> None:
        self.table = self.rng.randrange(len(TABLES))
        self.note(f"reconfigure {self.table}")
        self.write()

    def publish(self) -> None:
        builds = sorted({releases.release_id(job.spec) for job in self.jobs()})
        if builds:
            build, label = self.rng.choice(builds), self.rng.choice([None, None, "daily", "release"])
            self.closed.discard(build)
            self.troubled(f"publish {build} {label}", lambda: self.published(build, label))

    def unpublish(self) -> None:
        known = [release.id for release in self.releases()]
        if known:
            build = self.rng.choice(known)
            done = self.troubled(f"unpublish {build}", lambda: self.unpublished(build))
            if done == 0:
                self.closed.add(build)

    def published(self, build: str, label: str | None = None) -> app.Result:
        return app.publish(runtime_of(self.stage), [build], lambda _: None, label=label, feeds=self.files)

    def unpublished(self, build: str) -> app.Result:
        return app.unpublish(runtime_of(self.stage), [build], lambda _: None, feeds=self.files)

    def troubled(self, name: str, work: Callable[[], app.Result]) -> int | None:
        """Do something while something goes wrong, or not; return its exit code, None where it died over it."""
        trouble = self.rng.choice(("none", "dies", "dies", "refused", "lost"))
        try:
            with self.trouble(trouble):
                code: int | None = work().exit_code
        except Died:
            code = None
            with self.stage.store.write() as conn:
                conn.execute(tables.releases.update().values(lease_owner="gone", lease_until=0.0))
        self.note(f"{name} ({trouble}: {code})")
        return code

    @contextmanager
    def trouble(self, kind: str) -> Iterator[None]:
        region, cloud = self.rng.choice(self.stage.regions), self.stage.cloud
        if kind == "dies":
            undo = dying(self.stage.clients, region, self.rng.randint(1, 7), self.rng.choice(("before", "after")))
            try:
                yield
            finally:
                undo()
        elif kind == "none":
            yield
        else:
            no = Effect(kind="error", code="UnauthorizedOperation", status=403, message="You are not authorized.")
            lost = Effect(kind="drop", when="after")
            actions = frozenset({self.rng.choice(REFUSABLE)})
            effect, times = (no, None) if kind == "refused" else (lost, 2)
            rule = cloud.add_fault(Rule(effects=(effect,), actions=actions, regions=frozenset({region}), times=times))
            self.refused = True
            try:
                yield
            finally:
                cloud.remove_fault(rule)

    # --- what must be ---------------------------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        with self.stage.store.read() as conn:
            return jobs.find(conn, statuses=[Status.DONE])

    def releases(self) -> list[Release]:
        with self.stage.store.read() as conn:
            return releases.find(conn)

    def users(self, job: Job) -> tuple[set[str], set[str]]:
        """Return who may launch, and who may make volumes."""
        ec2 = self.stage.ec2(job.spec.region)
        launch = ec2.describe_image_attribute(ImageId=job.ami_id, Attribute="launchPermission")["LaunchPermissions"]
        found = ec2.describe_snapshot_attribute(SnapshotId=job.snapshot_id, Attribute="createVolumePermission")
        volume = found["CreateVolumePermissions"]
        return {v for each in launch for v in each.values()}, {v for each in volume for v in each.values()}

    def current(self, region: str) -> str | None:
        found = self.stage.clients.region(region).ssm.get_parameters(Names=[PATH])["Parameters"]
        return str(found[0]["Value"]) if found else None

    def check(self) -> None:
        """Look for what must never be."""
        with self.stage.store.read() as conn:
            listed = {each.job_id for each in releases.announced(conn)}
            usable = {each.job_id for each in releases.usable(conn)}
        named = {self.current(region) for region in self.stage.regions} - {None}
        found = set(self.files.notes[-1][0]) if self.files.notes else set()
        launchable = set()
        for job in self.jobs():
            launch, volume = self.users(job)
            assert launch <= volume, f"{job.id} can be launched before its snapshot can be used"
            if launch:
                launchable.add(job.ami_id)
            if job.id in listed | found:
                assert FRIEND in launch, f"{job.id} is found, and cannot be launched"
            if releases.release_id(job.spec) in self.closed:
                assert (launch, volume, job.id in listed) == (set(), set(), False), f"{job.id} was taken back"
            if job.ami_id in named - self.named:
                assert job.id in usable, f"a path went on to {job.id} before all of its build can be used"
        self.named = named
        if not self.refused:
            assert named <= launchable, "a path names what cannot be launched"

    def end(self) -> None:
        """Bring all to its end, undisturbed; then nothing is left to do, and `current` is the newest's."""
        self.note("end")
        for _ in range(2):  # what was once could be complete only now
            for release in self.releases():
                back = release.state in (ReleaseState.UNPUBLISHING, ReleaseState.UNPUBLISHED)
                result = self.unpublished(release.id) if back else self.published(release.id)
                complete = back or not all(
                    "not registered yet" in str(e) for each in result.releases for e in each.errors.values()
                )
                assert result.exit_code == 0 or not complete, result
                if back:
                    self.closed.add(release.id)
        self.refused = False
        self.check()
        with self.stage.store.read() as conn:
            usable = {each.job_id for each in releases.usable(conn)}
            shown = {each.job_id for each in releases.announced(conn)}
        assert usable == shown
        for region in self.stage.regions:
            there = [job for job in self.jobs() if job.spec.region == region and job.id in shown]
            newest = max(there, key=lambda job: job.spec.serial, default=None)
            wanted = newest.ami_id if newest is not None and "/current/" in TABLES[self.table] else None
            assert self.current(region) == wanted
        for release in self.releases():
            if release.state is ReleaseState.PUBLISHED:
                assert [each.made for each in self.published(release.id).releases] == [[]]


@pytest.mark.long
@pytest.mark.parametrize("seed", few([1, 5, 9], range(1, 13)))
def test_whatever_happens_to_releases_what_is_found_can_be_used(stage: Stage, clients: BotoClients, seed: int) -> None:
    history = History(stage, random.Random(seed))
    history.arrive()
    try:
        for number in range(1, 25):
            history.step()
            history.check()
            if number % 8 == 0:
                history.end()
    except BaseException:
        print("\n".join(history.steps))  # noqa: T201 - pytest shows it with the failure
        raise
