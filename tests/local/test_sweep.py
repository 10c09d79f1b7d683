"""`ebspub sweep` against the embedded cloud: leftovers go, whatever is needed or not ours stays."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebspub.app.sweep import Action, regions_of
from ebspub.app.sweep.judge import Fate, judge_all
from ebspub.app.sweep.remove import Broom, Outcome
from ebspub.aws import account
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.config import load
from ebspub.errors import UsageError
from ebspub.localcloud import Cloud, Delays, Effect, Rule, Settings, running
from ebspub.states import Kind, Status
from ebspub.store import EffectStatus, Presence, effects, events, jobs, seats, tables
from tests.local.leftovers import QUICK, Stage, make_volume, open_removal, staged, until

pytestmark = pytest.mark.needs_tool("sshd")
ROOT = Path(__file__).resolve().parents[2]
#: What a test leaves in its regions carries the tag of its own store: no other test minds.
REGIONS = itertools.cycle(["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "sa-east-1", "ap-southeast-1"])


@pytest.fixture(scope="module")
def clients() -> BotoClients:
    """Return clients for all tests: making them takes longer than most sweeps."""
    return BotoClients()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("cloud"), Settings(delays=Delays.all(0.05))) as found:
        yield found


@pytest.fixture
def stage(cloud: Cloud, clients: BotoClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(cloud, clients, tmp_path, monkeypatch, (next(REGIONS), next(REGIONS))) as made:
        yield made


def test_leftovers_of_each_kind_go_and_a_second_sweep_finds_nothing(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    before = stage.there()
    group = stage.make(Kind.GROUP, job)
    builder = stage.make(Kind.INSTANCE, job, group=group)
    volume = stage.make(Kind.VOLUME, job, instance=builder)
    snapshot = stage.make(Kind.SNAPSHOT, job, volume=volume)
    image = stage.make(Kind.IMAGE, job, snapshot=snapshot)

    report = stage.sweep()

    assert stage.there() == before
    assert {f.id for f in report.of(Action.REMOVED)} > {group, builder, volume, snapshot, image}
    assert report.exit_code == 0
    assert report.saved > 0
    assert all(row.presence is Presence.GONE for row in stage.get(job).resources)
    with stage.store.read() as conn:
        calls = effects.history(conn, job)
        told = [event.message for event in events.history(conn, job) if event.action == "swept"]
    actions = ["TerminateInstances", "DeleteVolume", "DeleteSecurityGroup", "DeregisterImage", "DeleteSnapshot"]
    assert [call.action for call in calls] == actions
    assert {call.status for call in calls} == {EffectStatus.DONE}
    assert len(told) == 5
    n = len(stage.cloud.calls())
    assert stage.sweep().findings == []
    assert stage.mutating(n) == []


def test_what_carries_another_stores_tag_or_none_is_never_touched(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    others = {
        stage.make(Kind.VOLUME, job, row=False, store="another-store"),
        stage.make(Kind.SNAPSHOT, job, row=False, store="another-store"),
        stage.make(Kind.GROUP, job, row=False, store="another-store"),
        make_volume(stage.ec2(), {}),
    }
    mine = stage.make(Kind.VOLUME, job)
    assert [f.id for f in stage.sweep().of(Action.REMOVED)] == [mine]
    assert others <= stage.there()


def test_a_failed_job_keeps_its_present_attempt_and_loses_earlier_ones(stage: Stage) -> None:
    job = stage.job(Status.FAILED, attempt=2, attempt_base=1)
    builder = stage.make(Kind.INSTANCE, job, attempt=2)
    kept = {builder, stage.make(Kind.VOLUME, job, attempt=2), stage.make(Kind.SNAPSHOT, job, attempt=2, answered=False)}
    old = {stage.make(Kind.VOLUME, job), stage.make(Kind.GROUP, job), stage.make(Kind.SNAPSHOT, job)}
    report = stage.sweep()
    assert {f.id for f in report.of(Action.REMOVED)} == old
    assert kept <= stage.there()
    assert report.needed == 4  # with the builder's own root volume
    assert [f.reason for f in report.of(Action.REMOVED)] == ["was left by attempt 1; its job is at attempt 2"] * 3
    assert stage.get(job).live(Kind.INSTANCE)


def test_a_registered_job_keeps_exactly_its_ami_and_snapshot(stage: Stage) -> None:
    job = stage.job(Status.WAITING)
    snapshot = stage.make(Kind.SNAPSHOT, job)
    image = stage.make(Kind.IMAGE, job, snapshot=snapshot)
    spare = stage.make(Kind.SNAPSHOT, job, answered=False)
    stage.finish(job, image, snapshot)
    report = stage.sweep()
    assert [f.id for f in report.findings] == [spare]
    assert {image, snapshot} <= stage.there()
    assert spare not in stage.there()


def test_of_a_job_that_is_not_in_this_database_what_may_be_published_stays(stage: Stage) -> None:
    stage.job(Status.WAITING)
    gone = {
        stage.make(Kind.INSTANCE, "of-a-later-life", row=False),
        stage.make(Kind.VOLUME, "of-a-later-life", row=False),
        stage.make(Kind.GROUP, "of-a-later-life", row=False),
    }
    snapshot = stage.make(Kind.SNAPSHOT, "of-a-later-life", row=False)
    image = stage.make(Kind.IMAGE, "of-a-later-life", row=False, snapshot=snapshot)
    alone = stage.make(Kind.SNAPSHOT, "of-a-later-life", row=False)
    report = stage.sweep()
    assert {f.id for f in report.of(Action.REMOVED)} > gone
    assert {f.id for f in report.of(Action.REPORT)} == {image, alone}
    assert {image, snapshot, alone} <= stage.there()
    assert all("not in this database" in f.reason for f in report.of(Action.REPORT))


def test_a_copy_of_an_ami_that_carries_its_tags_is_reported_only(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    snapshot = stage.make(Kind.SNAPSHOT, job)
    copy = stage.make(Kind.IMAGE, job, row=False, snapshot=snapshot)
    report = stage.sweep()
    assert [(f.id, f.action) for f in report.findings] == [(copy, Action.REPORT)]
    assert {copy, snapshot} <= stage.there()


def test_what_is_younger_than_the_grace_time_is_left_and_said_so(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    made = {stage.make(kind, job) for kind in (Kind.INSTANCE, Kind.VOLUME, Kind.GROUP, Kind.SNAPSHOT)}
    report = stage.sweep(grace=3600.0)
    assert {f.id for f in report.of(Action.YOUNG)} > made
    assert report.of(Action.REMOVED) == []
    assert made <= stage.there()


def test_a_dry_run_changes_neither_the_account_nor_the_database(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    made = {stage.make(kind, job) for kind in (Kind.VOLUME, Kind.GROUP, Kind.SNAPSHOT)}
    lost = stage.make(Kind.VOLUME, job)
    stage.ec2().delete_volume(VolumeId=lost)
    n, rows = len(stage.cloud.calls()), stage.rows()
    report = stage.sweep(dry_run=True)
    assert {f.id for f in report.of(Action.REMOVE)} == made
    assert [f.id for f in report.of(Action.GONE)] == [lost]
    assert stage.mutating(n) == []
    assert stage.rows() == rows


def test_an_ami_deregistered_behind_our_back_is_reported_once_and_noted(stage: Stage) -> None:
    job = stage.job(Status.WAITING)
    snapshot = stage.make(Kind.SNAPSHOT, job)
    image = stage.make(Kind.IMAGE, job, snapshot=snapshot)
    stage.finish(job, image, snapshot)
    assert stage.sweep().findings == []
    stage.ec2().deregister_image(ImageId=image)
    report = stage.sweep()
    assert [(f.id, f.action) for f in report.findings] == [(image, Action.LOST)]
    assert stage.get(job).status is Status.DONE
    with stage.store.read() as conn:
        assert [e.facts["id"] for e in events.history(conn, job) if e.action == "lost"] == [image]
    assert stage.sweep().findings == []


def test_a_published_ami_without_our_tags_is_not_lost(stage: Stage) -> None:
    job = stage.job(Status.WAITING)
    snapshot = stage.make(Kind.SNAPSHOT, job, store="another-store")
    image = stage.make(Kind.IMAGE, job, store="another-store", snapshot=snapshot)
    stage.finish(job, image, snapshot)
    assert stage.sweep().findings == []


def test_an_intent_that_made_nothing_is_marked_gone(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    made = stage.make(Kind.VOLUME, job, answered=False)
    stage.ec2().delete_volume(VolumeId=made)
    assert [f.action for f in stage.sweep().findings] == [Action.GONE]
    assert stage.get(job).live() == ()


def test_nothing_of_a_driven_job_is_touched(stage: Stage) -> None:
    job = stage.job(Status.WAITING, attempt=2)
    old, lost = stage.make(Kind.VOLUME, job), stage.make(Kind.VOLUME, job, attempt=2)
    stage.ec2().delete_volume(VolumeId=lost)
    open_removal(stage, job, "DeleteVolume", lost)
    stage.claim(job)
    rows = stage.rows()
    report = stage.sweep()
    assert report.findings == []
    assert old in stage.there()
    assert stage.rows() == rows


def _condemn_then(stage: Stage, job: str, change: Callable[[], object]) -> dict[str, Outcome]:
    """Judge everything as it is to be removed, change the database, and only then let the broom go."""
    clients = stage.clients.region(stage.region)
    things = account.owned(clients.reader, stage.region, stage.store.id)
    verdicts, around = judge_all(things, {job: stage.get(job)}, now=time.time(), grace=0.0)
    assert {verdict.fate for _, verdict in verdicts} == {Fate.REMOVE}
    change()
    done: dict[str, Outcome] = {}
    n = len(stage.cloud.calls())
    Broom(stage.store, SystemClock(), clients, around, QUICK, threading.Event()).sweep(verdicts, (), done)
    assert stage.mutating(n) == []
    return done


def test_a_job_that_is_taken_up_after_the_look_is_not_touched(stage: Stage) -> None:
    job = stage.job(Status.WAITING, attempt=2)
    old = stage.make(Kind.VOLUME, job)
    done = _condemn_then(stage, job, lambda: stage.claim(job))
    assert done[old].action is Action.LATER


def test_what_is_published_after_the_look_is_not_touched(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    snapshot = stage.make(Kind.SNAPSHOT, job)
    image = stage.make(Kind.IMAGE, job, snapshot=snapshot)
    done = _condemn_then(stage, job, lambda: stage.finish(job, image, snapshot))
    assert {name: outcome.action for name, outcome in done.items()} == {image: Action.LATER, snapshot: Action.LATER}


def test_a_job_is_held_only_as_it_was_read(stage: Stage) -> None:
    job = stage.job(Status.WAITING)
    before = stage.get(job)
    with stage.store.write() as conn:
        assert jobs.hold(conn, before)
    stage.claim(job)
    with stage.store.write() as conn:
        assert not jobs.hold(conn, before)
        assert not jobs.hold(conn, stage.get(job))


def test_what_ec2_refuses_to_remove_is_told_and_recorded(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    volume, group = stage.make(Kind.VOLUME, job), stage.make(Kind.GROUP, job)
    stage.cloud.deny("DeleteVolume")
    report = stage.sweep()
    assert report.exit_code == 3
    assert [f.id for f in report.of(Action.FAILED)] == [volume]
    assert [f.id for f in report.of(Action.REMOVED)] == [group]
    with stage.store.read() as conn:
        refused = next(call for call in effects.history(conn, job) if call.action == "DeleteVolume")
    assert refused.status is EffectStatus.FAILED
    assert refused.error is not None
    assert refused.error.code == "UnauthorizedOperation"


def test_a_group_that_somebody_uses_waits_for_the_next_sweep(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    group = stage.make(Kind.GROUP, job)
    user = stage.make(Kind.INSTANCE, job, store="another-store", row=False, group=group)
    report = stage.sweep()
    assert [(f.id, f.action) for f in report.findings] == [(group, Action.LATER)]
    assert "DependencyViolation" in report.findings[0].reason
    assert report.exit_code == 0
    stage.ec2().terminate_instances(InstanceIds=[user])
    until(lambda: user not in stage.there())
    time.sleep(0.5)
    assert [f.action for f in stage.sweep().findings] == [Action.REMOVED]


def test_a_volume_of_a_terminating_builder_is_waited_for(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    builder = stage.make(Kind.INSTANCE, job)
    volume = stage.make(Kind.VOLUME, job, instance=builder)
    stage.ec2().terminate_instances(InstanceIds=[builder])
    report = stage.sweep()
    assert volume in {f.id for f in report.of(Action.REMOVED)}
    assert stage.sweep().of(Action.REMOVED, Action.LATER) == []
    assert stage.get(job).live() == ()


def test_a_region_that_fails_does_not_stop_the_others(stage: Stage) -> None:
    here, there = stage.regions
    job = stage.job(Status.CANCELLED)
    stage.job(Status.CANCELLED, region=there)
    volume = stage.make(Kind.VOLUME, job)
    refusal = Effect(kind="error", code="OptInRequired", status=401, message="not enabled")
    stage.cloud.add_fault(Rule(effects=(refusal,), regions=frozenset({there}), times=None))
    report = stage.sweep(regions=(here, there))
    assert [f.id for f in report.of(Action.REMOVED)] == [volume]
    assert list(report.errors) == [there]
    assert report.exit_code == 3


def test_credentials_of_another_account_sweep_nothing(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    stage.make(Kind.VOLUME, job)
    with stage.store.write() as conn:
        conn.execute(tables.jobs.update().values(account="999999999999"))
    n = len(stage.cloud.calls())
    with pytest.raises(UsageError, match="999999999999"):
        stage.sweep()
    assert stage.mutating(n) == []


def test_regions_are_those_of_the_file_and_of_the_database(stage: Stage) -> None:
    stage.job(Status.CANCELLED)
    with stage.store.write() as conn:
        conn.execute(tables.jobs.update().values(region="af-south-1"))
    config = load(stage.config)
    assert regions_of(config, stage.store) == tuple(sorted({*stage.regions, "af-south-1"}))
    assert regions_of(config, stage.store, ["us-gov-west-1"]) == ("us-gov-west-1",)
    with pytest.raises(UsageError, match="us-east-1"):
        regions_of(config, stage.store, ["us-esat-1"])


def test_the_command_prints_what_it_did_as_json_and_then_nothing(stage: Stage) -> None:
    job = stage.job(Status.CANCELLED)
    volume = stage.make(Kind.VOLUME, job)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ebspub", "sweep", "--config", str(stage.config), *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)

    shown = run("--dry-run", "--grace", "0")
    assert (shown.returncode, volume in shown.stdout, "$0.08" in shown.stdout) == (0, True, True), shown.stderr
    done = run("--json", "--grace", "0", "--region", stage.region)
    document = json.loads(done.stdout)
    assert [(thing["id"], thing["action"]) for thing in document["things"]] == [(volume, "removed")]
    assert document["monthly_saved"] == 0.08
    again = run("--grace", "0")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_shared_builder_stays_while_anybody_has_a_place_at_it(stage: Stage) -> None:
    host, guest = stage.job(Status.CANCELLED), stage.job(Status.WAITING, arch="i386")
    group = stage.make(Kind.GROUP, host)
    builder = stage.make(Kind.INSTANCE, host, group=group)
    with stage.store.write() as conn:
        for name, purpose in ((group, "group"), (builder, "builder.0")):
            row = tables.resources.c.resource_id == name
            conn.execute(tables.resources.update().where(row).values(purpose=purpose))
    for job_id in (host, guest):
        job = stage.get(job_id)
        with stage.store.write() as conn:
            assert seats.board(conn, job, time.time())

    def leave(job_id: str) -> None:
        seat = stage.get(job_id).seat
        assert seat is not None
        with stage.store.write() as conn:
            seats.leave(conn, seat, time.time(), seal=False)

    leave(host)
    n = len(stage.cloud.calls())
    assert stage.sweep().findings == []
    assert stage.mutating(n) == []
    leave(guest)
    assert {builder, group} <= {f.id for f in stage.sweep().of(Action.REMOVED)}
    assert all(row.presence is Presence.GONE for row in stage.get(host).resources)
