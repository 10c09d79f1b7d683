"""Builds made public and taken back, against the embedded cloud: what others may use and find, and nothing twice."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from ebspub.app import release as app
from ebspub.app.release.drift import drift
from ebspub.app.release.wanted import Phase
from ebspub.app.runtime import Runtime, Stop
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.config import load, select
from ebspub.errors import JobError
from ebspub.localcloud import Cloud, Delays, Effect, Rule, Settings, running
from ebspub.states import Kind, Status
from ebspub.store import Store, leases, releases, tables
from tests.local.leftovers import Stage, staged

REGIONS = itertools.cycle(["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "sa-east-1", "ap-southeast-1"])
FRIEND, OTHER = "111122223333", "444455556666"
ORGANIZATION = "arn:aws:organizations::111122223333:organization/o-abcdefghij"
UNIT = "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678"
PUBLISH = f"""
[publish]
public = true
accounts = ["{FRIEND}"]
organizations = "{ORGANIZATION}"
parameters = ["/images/{{suite}}/{{serial}}/{{arch}}", "/images/{{suite}}/current/{{arch}}"]
tags = {{ Stream = "{{label}}" }}
"""


@pytest.fixture(scope="module")
def clients() -> BotoClients:
    """Return clients for all tests: making them takes longer than most of what they do."""
    return BotoClients()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("cloud"), Settings(delays=Delays.all(0.0), public_images=1000)) as found:
        yield found


@pytest.fixture
def stage(cloud: Cloud, clients: BotoClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(cloud, clients, tmp_path, monkeypatch, (next(REGIONS), next(REGIONS))) as made:
        configure(made, PUBLISH)
        yield made


def configure(stage: Stage, publish: str) -> None:
    """Write the configuration with another [publish] in place of the present one."""
    text = stage.config.read_text().partition("\n# publish")[0]
    stage.config.write_text(f"{text}\n# publish\n{publish}")


def ebspub(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "ebspub", "--config", str(stage.config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=dict(os.environ))


def register(stage: Stage, arch: str, region: str) -> None:
    """Let a job be registered: an AMI with its snapshot, as a run leaves them."""
    job = stage.job(Status.WAITING, arch, region)
    snapshot = stage.make(Kind.SNAPSHOT, job, region=region, row=False)
    stage.finish(job, stage.make(Kind.IMAGE, job, region=region, snapshot=snapshot, row=False), snapshot)


def register_all(stage: Stage) -> None:
    for region, arch in itertools.product(stage.regions, ("amd64", "i386")):
        register(stage, arch, region)


def seen(stage: Stage, arch: str = "amd64", region: str = "") -> dict[str, Any]:
    """Return what the cloud shows of a job's AMI."""
    where = region or stage.region
    job = stage.get(f"lucid-server-20101020-{arch}-{where}")
    ec2, ssm = stage.ec2(where), stage.clients.region(where).ssm
    image = ec2.describe_images(ImageIds=[job.ami_id])["Images"][0]
    launch = ec2.describe_image_attribute(ImageId=job.ami_id, Attribute="launchPermission")["LaunchPermissions"]
    volume = ec2.describe_snapshot_attribute(SnapshotId=job.snapshot_id, Attribute="createVolumePermission")
    found = ssm.get_parameters_by_path(Path=f"/images/{job.spec.suite}", Recursive=True)["Parameters"]
    return {
        "launch": sorted(value for each in launch for value in each.values()),
        "volume": sorted(value for each in volume["CreateVolumePermissions"] for value in each.values()),
        "tags": {tag["Key"]: tag["Value"] for tag in image["Tags"]},
        "parameters": sorted(each["Name"] for each in found if each["Value"] == job.ami_id),
    }


def test_a_build_is_published_once(stage: Stage) -> None:
    register_all(stage)

    done = ebspub(stage, "publish", "lucid-server-20101020")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "lucid-server-20101020: published as release" in done.stdout
    for region, arch in itertools.product(stage.regions, ("amd64", "i386")):
        found = seen(stage, arch, region)
        assert found["launch"] == sorted(["all", FRIEND, ORGANIZATION])
        assert found["volume"] == sorted(["all", FRIEND])
        assert (found["tags"]["Stream"], found["tags"]["ebspub:label"]) == ("release", "release")
        assert found["parameters"] == [f"/images/lucid/20101020/{arch}", f"/images/lucid/current/{arch}"]
    before = len(stage.cloud.calls())
    again = ebspub(stage, "publish", "lucid-server", "--json")
    assert again.returncode == 0, again.stdout + again.stderr
    assert stage.mutating(before) == []
    assert json.loads(again.stdout)["releases"][0]["changes"] == []


class Died(BaseException):
    """The process is gone, at this very moment."""


@dataclass
class Files:
    """Feeds that note what they are called for, and what was public then."""

    stage: Stage
    fault: str = ""
    notes: list[tuple[list[str], int]] = field(default_factory=list)

    def write(self, store: Store) -> list[str]:
        if self.fault:
            raise JobError(self.fault)
        with store.read() as conn:
            names = [each.job_id for each in releases.announced(conn)]
        self.notes.append((names, len(self.stage.cloud.calls())))
        return ["released.txt"]

    def check(self, store: Store) -> list[str]:
        del store
        return []


def runtime_of(stage: Stage) -> Runtime:
    return Runtime(load(stage.config), stage.store, SystemClock(), stage.clients, Stop())


def publish(stage: Stage, *targets: str, label: str | None = None, feeds: Files | None = None) -> list[str]:
    """Publish; return the calls that were made, all of which must have done what they were for."""
    result = app.publish(runtime_of(stage), targets or ("lucid-server",), lambda _: None, label=label, feeds=feeds)
    assert result.exit_code == 0, result
    return [change.action for each in result.releases for change in each.made]


def refused(stage: Stage) -> str:
    """Publish in vain; return why."""
    before = len(stage.cloud.calls())
    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    assert result.exit_code == 3
    assert stage.mutating(before) == []
    return " ".join(str(error) for error in result.releases[0].errors.values())


def state(stage: Stage, name: str = "lucid-server-20101020") -> tuple[str, str]:
    with stage.store.read() as conn:
        found = releases.get(conn, name)
    assert found is not None
    assert found.lease is None
    return found.state.value, found.label


def public(stage: Stage) -> set[str]:
    with stage.store.read() as conn:
        return {each.job_id for each in releases.announced(conn)}


def open_calls(stage: Stage) -> list[str]:
    with stage.store.read() as conn:
        return [each.action for each in releases.history(conn, ["lucid-server-20101020"]) if each.closed_at is None]


DRIFTS: dict[str, Callable[[Any, Any, Any], object]] = {
    "ModifyImageAttribute": lambda ec2, _, job: ec2.modify_image_attribute(
        ImageId=job.ami_id, Attribute="launchPermission", LaunchPermission={"Remove": [{"Group": "all"}]}
    ),
    "ModifySnapshotAttribute": lambda ec2, _, job: ec2.modify_snapshot_attribute(
        SnapshotId=job.snapshot_id, Attribute="createVolumePermission", OperationType="add", UserIds=[OTHER]
    ),
    "CreateTags": lambda ec2, _, job: ec2.create_tags(
        Resources=[job.ami_id], Tags=[{"Key": "Stream", "Value": "other"}]
    ),
    "PutParameter": lambda _, ssm, job: ssm.delete_parameter(Name=f"/images/lucid/current/{job.spec.arch}"),
}


def test_drift_is_shown_by_plan_and_mended_one_by_one(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    whole = seen(stage)
    job = stage.get(f"lucid-server-20101020-amd64-{stage.region}")
    clients, config = stage.clients.region(stage.region), load(stage.config)
    for action, spoil in DRIFTS.items():
        spoil(clients.writer, clients.ssm, job)
        (found,) = drift(config, stage.store, stage.clients, select(config))
        assert [(each.action, each.region) for each in found.changes] == [(action, stage.region)]
        assert publish(stage) == [action]
        assert seen(stage) == whole
    shown = ebspub(stage, "plan", "--json")
    assert shown.returncode == 0, shown.stderr
    assert [each["changes"] for each in json.loads(shown.stdout)["releases"]] == [[]]


def test_a_configuration_that_shrinks_revokes(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    configure(
        stage, f'[publish]\norganizational_units = "{UNIT}"\nparameters = "/images/{{suite}}/{{serial}}/{{arch}}"'
    )

    made = publish(stage)

    found = seen(stage, "i386", stage.regions[1])
    assert (found["launch"], found["volume"]) == ([UNIT], [])
    assert "Stream" not in found["tags"]
    assert found["parameters"] == ["/images/lucid/20101020/i386"]
    assert made.count("DeleteParameter") == 4
    assert publish(stage) == []


def test_a_daily_is_promoted_without_being_registered_again(stage: Stage) -> None:
    labelled = PUBLISH.replace("/{suite}/current", "/{suite}/{label}/current")
    configure(stage, labelled)
    stage.config.write_text(stage.config.read_text().replace('label = "release"', 'label = "daily"'))
    register_all(stage)
    publish(stage)
    assert state(stage) == ("published", "daily")

    made = set(publish(stage, label="release"))

    assert made == {"CreateTags", "PutParameter", "DeleteParameter"}
    assert state(stage) == ("published", "release")
    found = seen(stage)
    assert (found["tags"]["Stream"], found["tags"]["ebspub:label"]) == ("release", "release")
    assert found["parameters"] == ["/images/lucid/20101020/amd64", "/images/lucid/release/current/amd64"]
    assert stage.get(f"lucid-server-20101020-amd64-{stage.region}").label == "release"
    assert publish(stage) == []
    assert state(stage) == ("published", "release")


def test_a_region_that_comes_late_is_added_without_touching_the_others(stage: Stage) -> None:
    for arch in ("amd64", "i386"):
        register(stage, arch, stage.regions[0])
    assert f"amd64-{stage.regions[1]}" in refused(stage)
    configure(stage, PUBLISH + "quorum = 1\n")
    files = Files(stage)
    publish(stage, feeds=files)
    assert len(public(stage)) == 2
    for arch in ("amd64", "i386"):
        register(stage, arch, stage.regions[1])
    before = len(stage.cloud.calls())

    publish(stage, feeds=files)

    calls = [call for call in stage.cloud.calls(before) if call.mutating]
    assert {call.region for call in calls} == {stage.regions[1]}
    assert len(public(stage)) == 4
    assert [len(names) for names, _ in files.notes] == [2, 4]


def test_what_is_unpublished_is_found_no_more_and_then_revoked(stage: Stage) -> None:
    text = stage.config.read_text()
    for serial in ("20101001", "20101020"):
        stage.config.write_text(text.replace('serial = "20101020"', f'serial = "{serial}"'))
        register_all(stage)
        publish(stage, f"lucid-server-{serial}")
    # An older one that is repaired takes nothing from the newer one.
    assert publish(stage, "lucid-server-20101001") == []
    assert seen(stage)["parameters"] == ["/images/lucid/20101020/amd64", "/images/lucid/current/amd64"]
    files, before = Files(stage), len(stage.cloud.calls())

    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=files)

    assert result.exit_code == 0, result
    ((named, when),) = files.notes
    assert {job.partition("-server-")[2][:8] for job in named} == {"20101001"}
    assert [call.action for call in stage.cloud.calls(before)[: when - before] if call.mutating] == []
    found = seen(stage)
    assert (found["launch"], found["volume"], found["parameters"]) == ([], [], [])
    older = stage.get(f"lucid-server-20101001-amd64-{stage.region}")
    ssm = stage.clients.region(stage.region).ssm
    assert ssm.get_parameter(Name="/images/lucid/current/amd64")["Parameter"]["Value"] == older.ami_id
    phases = [change.phase for change in result.releases[0].made if change.region == stage.region]
    assert phases == sorted(phases)
    assert set(phases) == {Phase.UNNAME, Phase.CLOSE_IMAGE, Phase.CLOSE_SNAPSHOT}
    assert state(stage) == ("unpublished", "release")
    assert app.unpublish(runtime_of(stage), ["lucid-server-20101020"], lambda _: None).releases[0].made == []


def test_what_the_account_forbids_is_told_before_anything_is_changed(stage: Stage) -> None:
    register_all(stage)
    ec2 = stage.ec2()
    ec2.enable_image_block_public_access(ImageBlockPublicAccessState="block-new-sharing")
    try:
        assert "block public access for AMIs is on" in refused(stage)
    finally:
        ec2.disable_image_block_public_access()
    ec2.enable_snapshot_block_public_access(State="block-all-sharing")
    try:
        assert "disable-snapshot-block-public-access" in refused(stage)
    finally:
        ec2.disable_snapshot_block_public_access()
    stage.cloud.configure(Settings(delays=Delays.all(0.0), public_images=1))
    try:
        assert "L-0E3CBAB9" in refused(stage)
    finally:
        stage.cloud.configure(Settings(delays=Delays.all(0.0), public_images=1000))
    configure(stage, PUBLISH + "verify = true\n")
    assert "ebspub verify lucid-server-20101020" in refused(stage)


def test_a_region_that_fails_is_named_and_stops_no_other(stage: Stage) -> None:
    register_all(stage)
    configure(stage, PUBLISH + f'required = "{stage.regions[0]}"\npatience = 1\n')
    rule = stage.cloud.region_down(stage.regions[1])
    try:
        result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    finally:
        stage.cloud.remove_fault(rule)
    assert result.exit_code == 3
    assert set(result.releases[0].errors) == {stage.regions[1]}
    assert state(stage) == ("published", "release")
    assert {job.rpartition("-amd64-")[2] for job in public(stage) if "amd64" in job} == {stage.regions[0]}
    publish(stage)
    assert len(public(stage)) == 4


def test_throttled_calls_are_made_again(stage: Stage) -> None:
    register_all(stage)
    slow = Effect(kind="error", code="RequestLimitExceeded", status=503, message="Request limit exceeded.")
    lost = Effect(kind="drop", when="after")
    stage.cloud.add_fault(Rule(effects=(slow,), actions=frozenset({"ModifyImageAttribute"}), times=3))
    stage.cloud.add_fault(Rule(effects=(lost,), actions=frozenset({"ModifySnapshotAttribute"}), times=2))
    publish(stage)
    assert publish(stage) == []
    assert seen(stage)["launch"] == sorted(["all", FRIEND, ORGANIZATION])


def test_feeds_that_cannot_be_written_leave_a_build_unpublished_or_public(stage: Stage) -> None:
    register_all(stage)
    broken = Files(stage, "the folder is full")
    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=broken)
    assert (result.exit_code, state(stage)) == (3, ("publishing", "release"))
    publish(stage)
    before = len(stage.cloud.calls())
    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=broken)
    assert (result.exit_code, state(stage)) == (3, ("unpublishing", "release"))
    assert stage.mutating(before) == []  # what may still be found must stay usable
    assert app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None).exit_code == 0
    assert seen(stage)["launch"] == []


# Killed ---------------------------------------------------------------------------------------------------------------


def dying(clients: BotoClients, region: str, nth: int, when: str) -> Callable[[], None]:
    """Let the process die before or after its ``nth`` call that changes something; return what undoes that."""
    here = clients.region(region)
    counted = itertools.count(1)
    dies = [False]

    def called(model: Any, **_: Any) -> None:
        dies[0] = not model.name.startswith(("Describe", "Get")) and next(counted) == nth
        if dies[0] and when == "before":
            raise Died(model.name)

    def answered(model: Any, **_: Any) -> None:
        if dies[0] and not model.name.startswith(("Describe", "Get")):
            raise Died(model.name)

    hooks = [("before-call", called), ("after-call", answered)]
    for client, (event, hook) in itertools.product((here.writer, here.ssm), hooks):
        client.meta.events.register(event, hook)

    def undo() -> None:
        for client, (event, hook) in itertools.product((here.writer, here.ssm), hooks):
            client.meta.events.unregister(event, hook)

    return undo


def until_dead(stage: Stage, work: Callable[[], object], nth: int, when: str) -> bool:
    """Do ``work`` until it dies; return whether it did. Its lease is left as that of a process that is gone."""
    undo = dying(stage.clients, stage.region, nth, when)
    try:
        work()
    except Died:
        with stage.store.write() as conn:
            conn.execute(tables.releases.update().values(lease_owner="gone", lease_until=0.0))
        return True
    finally:
        undo()
    return False


#: For one region and arch: tags of two, permissions of two (the snapshot's are two calls), two parameters.
PUBLISHING = 7
UNPUBLISHING = 5


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_publish_that_dies_at_any_call_is_finished_by_the_next(stage: Stage, when: str) -> None:
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    for nth in range(1, PUBLISHING + 2):
        serial = f"20101020.{nth}"
        stage.config.write_text(text.replace('serial = "20101020"', f'serial = "{serial}"'))
        register(stage, "amd64", stage.region)
        name, before = f"lucid-server-{serial}", len(stage.cloud.calls())

        died = until_dead(stage, lambda name=name: publish(stage, name), nth, when)  # type: ignore[misc]

        assert died == (nth <= PUBLISHING)
        assert (f"{name}-amd64-{stage.region}" in public(stage)) != died
        publish(stage, name)
        done = [call for call in stage.cloud.calls(before) if call.mutating and call.executed]
        # The one whose answer was lost was made, seen, and not made again.
        assert len(done) == PUBLISHING
        assert state(stage, name) == ("published", "release")
        with stage.store.read() as conn:
            assert [each for each in releases.history(conn, [name]) if each.closed_at is None] == []
        assert publish(stage, name) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_unpublish_that_dies_at_any_call_is_finished_by_the_next(stage: Stage, when: str) -> None:
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    stage.config.write_text(text)
    register(stage, "amd64", stage.region)

    def unpublish() -> object:
        return app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)

    for nth in range(1, UNPUBLISHING + 2):
        publish(stage)
        died = until_dead(stage, unpublish, nth, when)
        assert died == (nth <= UNPUBLISHING)
        assert public(stage) == set()
        unpublish()
        assert state(stage) == ("unpublished", "release")
        found = seen(stage)
        assert (found["launch"], found["volume"], found["parameters"]) == ([], [], [])


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_leaves_a_lease_that_the_next_takes(
    stage: Stage, when: Literal["before", "after"]
) -> None:
    register_all(stage)
    command = [sys.executable, "-m", "ebspub", "--config", str(stage.config), "publish", "lucid-server"]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage.cloud.kill_at(process.pid, 2, when=when, actions=["ModifyImageAttribute"])
    assert process.wait(90) == -signal.SIGKILL
    stage.cloud.heal()
    assert public(stage) == set()

    done = ebspub(stage, "publish", "lucid-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert state(stage) == ("published", "release")
    assert open_calls(stage) == []
    assert seen(stage)["launch"] == sorted(["all", FRIEND, ORGANIZATION])


def test_one_process_at_a_time_is_at_a_release(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    with stage.store.write() as conn:
        found = releases.get(conn, "lucid-server-20101020")
        assert found is not None
        now = time.time()
        assert releases.claim(conn, found, owner=leases.this_process(), now=now, until=now + 60)
    done = ebspub(stage, "publish", "lucid-server")
    assert (done.returncode, "another process is at it" in done.stderr) == (75, True)
