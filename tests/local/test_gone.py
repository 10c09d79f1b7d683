"""What the database believes in and the account does not have: marked on EC2's own word only, whoever's it is."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ebspub.app import publish
from ebspub.app.runtime import Runtime, Stop
from ebspub.app.sweep import Action
from ebspub.app.sweep.judge import judge_all
from ebspub.app.sweep.remove import Broom, Outcome
from ebspub.aws import account
from ebspub.aws.clients import BotoClients, RegionClients
from ebspub.clock import SystemClock
from ebspub.config import load
from ebspub.localcloud import Cloud, Delays, Effect, Rule, Settings, running
from ebspub.states import Kind, State, Status
from ebspub.store import EffectStatus, effects, leases, tables
from tests.local.leftovers import QUICK, Stage, make_volume, open_removal, staged, until

pytestmark = pytest.mark.needs_tool("sshd")
#: What a test leaves in its regions carries the tag of its own store: no other test minds.
REGIONS = itertools.cycle(["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "sa-east-1", "ap-southeast-1"])


@pytest.fixture(scope="module")
def clients() -> BotoClients:
    return BotoClients()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("cloud"), Settings(delays=Delays.all(0.05))) as found:
        yield found


@pytest.fixture
def stage(cloud: Cloud, clients: BotoClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(cloud, clients, tmp_path, monkeypatch, (next(REGIONS), next(REGIONS))) as made:
        yield made


class Blank:
    """A reader whose listings by filters are empty: a replica without data, behind a good status.

    ``blind``: what it does not show by its id either.
    """

    LISTS: ClassVar = {
        "describe_instances": "Reservations",
        "describe_volumes": "Volumes",
        "describe_snapshots": "Snapshots",
        "describe_images": "Images",
        "describe_security_groups": "SecurityGroups",
    }

    def __init__(self, real: Any, *, blind: bool) -> None:
        self._real, self._blind = real, blind

    def __getattr__(self, name: str) -> Any:
        def call(**how: Any) -> Any:
            asked = [value for key, value in how.items() if key.endswith("Ids") and key != "OwnerIds"]
            return real(**how) if asked and not self._blind else {self.LISTS[name]: []}

        real = getattr(self._real, name)
        return call if name in self.LISTS else real


def blank(real: Any, *, blind: bool) -> Any:
    return Blank(real, blind=blind)


class BlankClients(BotoClients):
    """Clients of which every region's reader is a :class:`Blank`."""

    def __init__(self, *, blind: bool) -> None:
        super().__init__()
        self._blind = blind

    def region(self, region: str) -> RegionClients:
        real = super().region(region)
        return replace(real, reader=blank(real.reader, blind=self._blind))


@pytest.mark.parametrize("blind", [False, True], ids=["listing", "everything"])
def test_an_empty_answer_marks_nothing(stage: Stage, blind: bool) -> None:
    """Something published, leftovers, what an intent made, the target of a removal without an answer: all are there."""
    published, cancelled = stage.job(Status.WAITING), stage.job(Status.CANCELLED, "i386")
    snapshot = stage.make(Kind.SNAPSHOT, published)
    image = stage.make(Kind.IMAGE, published, snapshot=snapshot)
    stage.finish(published, image, snapshot)
    volume, group = stage.make(Kind.VOLUME, cancelled), stage.make(Kind.GROUP, cancelled)
    stage.make(Kind.VOLUME, cancelled, answered=False)
    stray = stage.make(Kind.VOLUME, cancelled, row=False)
    open_removal(stage, cancelled, "DeleteVolume", stray)
    rows = stage.rows()
    stage.clients = BlankClients(blind=blind)
    report = stage.sweep()
    unsure = {image, snapshot, volume, group} if blind else set()
    assert {(f.id, f.action) for f in report.findings} == {(name, Action.UNSURE) for name in unsure}
    assert stage.rows() == rows
    assert {image, snapshot, volume, group, stray} <= stage.there()


def test_a_volume_whose_builder_has_gone_is_removed_only_where_ec2_says_so(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    builder = stage.make(Kind.INSTANCE, job)
    volume = stage.make(Kind.VOLUME, job, instance=builder)
    clients = stage.clients.region(stage.region)
    things = account.owned(clients.reader, stage.region, stage.store.id)
    verdicts, around = judge_all(things, {job: stage.get(job)}, now=time.time(), grace=0.0)
    blinded = replace(clients, reader=blank(clients.reader, blind=True))
    done: dict[str, Outcome] = {}
    patience = replace(QUICK, builders=0.3)
    Broom(stage.store, SystemClock(), blinded, around, patience, threading.Event()).sweep(verdicts, (), done)
    assert (done[builder].action, done[volume].action) == (Action.REMOVED, Action.LATER)
    assert {row.resource_id for row in stage.get(job).live()} == {builder, volume}


@pytest.mark.parametrize("kind", list(Kind))
def test_what_is_gone_is_told_apart_from_what_is_there(stage: Stage, kind: Kind) -> None:
    """In one batch, whatever EC2 says of it: which are missing, only one of them, or none."""
    job = stage.job(Status.CANCELLED)
    how: dict[str, Any] = {"snapshot": stage.make(Kind.SNAPSHOT, job, row=False)} if kind is Kind.IMAGE else {}
    kept, lost = (stage.make(kind, job, row=False, **how) for _ in range(2))
    remove, key = REMOVALS[kind]
    getattr(stage.ec2(), remove)(**{key: [lost] if key.endswith("s") else lost})
    until(lambda: lost not in stage.there())
    other = f"{lost[:-17]}{'0' * 17}"
    reader = stage.clients.region(stage.region).reader
    until(lambda: kind is not Kind.INSTANCE or account.look_up(reader, stage.region, kind, [lost]).gone)
    found = account.look_up(reader, stage.region, kind, [kept, lost, other])
    assert (set(found.there), found.gone) == ({kept}, {lost, other})


REMOVALS = {
    Kind.INSTANCE: ("terminate_instances", "InstanceIds"),
    Kind.VOLUME: ("delete_volume", "VolumeId"),
    Kind.SNAPSHOT: ("delete_snapshot", "SnapshotId"),
    Kind.IMAGE: ("deregister_image", "ImageId"),
    Kind.GROUP: ("delete_security_group", "GroupId"),
}


def test_a_removal_whose_answer_was_lost_is_settled_by_the_next_sweep(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    stray = stage.make(Kind.VOLUME, job, row=False)
    lost = Effect(kind="drop", when="after")
    stage.cloud.add_fault(Rule(effects=(lost,), actions=frozenset({"DeleteVolume"})))
    assert [f.action for f in stage.sweep().findings] == [Action.FAILED]
    assert stray not in stage.there()

    def calls() -> list[EffectStatus]:
        with stage.store.read() as conn:
            return [call.status for call in effects.history(conn, job)]

    assert calls() == [EffectStatus.OPEN]
    assert [(f.id, f.action) for f in stage.sweep(dry_run=True).findings] == [(stray, Action.GONE)]
    assert calls() == [EffectStatus.OPEN]
    assert [(f.id, f.action) for f in stage.sweep().findings] == [(stray, Action.GONE)]
    assert calls() == [EffectStatus.DONE]
    assert stage.sweep().findings == []


def test_a_removal_without_an_answer_stays_open_while_its_target_is_there(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    volume = make_volume(stage.ec2(), {})
    open_removal(stage, job, "DeleteVolume", volume)
    assert stage.sweep().findings == []
    with stage.store.read() as conn:
        assert [call.status for call in effects.history(conn, job)] == [EffectStatus.OPEN]


def test_a_protected_builder_is_told_as_such(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    builder = stage.make(Kind.INSTANCE, job)
    refusal = Effect(kind="error", code="OperationNotPermitted", status=400, message="may not be terminated")
    stage.cloud.add_fault(Rule(effects=(refusal,), actions=frozenset({"TerminateInstances"})))
    report = stage.sweep()
    assert [f.id for f in report.of(Action.FAILED)] == [builder]
    assert "termination" in report.of(Action.FAILED)[0].reason
    assert "iam-policy" not in report.of(Action.FAILED)[0].reason


def lose_driver(stage: Stage, job: str) -> None:
    """Let a job be driven by a process that has been killed."""
    dead = leases.this_process().split("/")
    dead[2:4] = ["999999999", "1"]
    with stage.store.write() as conn:
        now = time.time()
        lease = leases.claim(conn, job, owner="/".join(dead), now=now, until=now + 600, status=Status.RUNNING)
    assert lease is not None


@pytest.mark.parametrize("how", ["failed", "waiting", "interrupted"])
def test_what_a_job_that_nobody_drives_has_lost_is_marked_once(stage: Stage, how: str) -> None:
    """Of every attempt; an intent of the present one is its next driver's to settle."""
    job = stage.job(Status.FAILED if how == "failed" else Status.WAITING, attempt=2, attempt_base=1)
    old, volume = stage.make(Kind.VOLUME, job), stage.make(Kind.VOLUME, job, attempt=2)
    kept = stage.make(Kind.SNAPSHOT, job, attempt=2)
    hoped = stage.make(Kind.GROUP, job, attempt=2, answered=False)
    for name in (old, volume):
        stage.ec2().delete_volume(VolumeId=name)
    if how == "interrupted":
        lose_driver(stage, job)
    before = stage.get(job)
    rows = stage.rows()
    assert {(f.id, f.action) for f in stage.sweep(dry_run=True).findings} == {
        (old, Action.MISSING),
        (volume, Action.MISSING),
    }
    assert stage.rows() == rows
    report = stage.sweep()
    assert {(f.id, f.action) for f in report.findings} == {(old, Action.MISSING), (volume, Action.MISSING)}
    after = stage.get(job)
    assert [row.resource_id for row in after.live()] == [kept, None]
    assert (after.state, after.status, after.epoch, after.lease) == (
        before.state,
        before.status,
        before.epoch,
        before.lease,
    )
    assert hoped in stage.there()
    assert stage.sweep().findings == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (State.LAUNCHED, Kind.INSTANCE),
        (State.ATTACHED, Kind.VOLUME),
        (State.POPULATED, Kind.VOLUME),
        (State.SNAPSHOTTED, Kind.SNAPSHOT),
    ],
)
def test_a_job_goes_on_without_what_was_marked(stage: Stage, state: State, kind: Kind) -> None:
    """It goes back to where it can be made again; here a first new thing may not be made, which is how it ends."""
    job = stage.job(Status.FAILED)
    builder = stage.make(Kind.INSTANCE, job) if state is State.ATTACHED else None
    name = stage.make(kind, job)
    ids = {"instance_id": builder or "i-0", "volume_id": "vol-0", "snapshot_id": "snap-0"}
    with stage.store.write() as conn:
        conn.execute(tables.jobs.update().values({**ids, f"{kind}_id": name, "state": state.value}))
    remove, key = REMOVALS[kind]
    getattr(stage.ec2(), remove)(**{key: [name] if key.endswith("s") else name})
    until(lambda: stage.sweep().of(Action.MISSING))
    assert [row.resource_id for row in stage.get(job).live()] == [each for each in (builder,) if each]
    stage.cloud.deny("CreateSecurityGroup")
    runtime = Runtime(load(stage.config), stage.store, SystemClock(), stage.clients, Stop())
    publish.resume(runtime, [], lambda _job, _action: None)
    after = stage.get(job)
    assert after.error is not None
    assert (after.state, after.error.code) == (State.PENDING, "UnauthorizedOperation")
    assert after.attempt > 1


def test_nothing_is_marked_of_a_job_that_is_taken_up_after_the_look(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = stage.job(Status.FAILED)
    volume = stage.make(Kind.VOLUME, job)
    stage.ec2().delete_volume(VolumeId=volume)
    look_up = account.look_up

    def taken_up(*arguments: Any) -> account.LookUp:
        if not stage.get(job).lease:
            stage.claim(job)
        return look_up(*arguments)

    monkeypatch.setattr(account, "look_up", taken_up)
    assert stage.sweep().findings == []
    assert [row.resource_id for row in stage.get(job).live()] == [volume]
