"""Builds made public and taken back, against the embedded cloud: what others may use and find, and nothing twice."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from ebspub.app import release as app
from ebspub.app.release.drift import drift, due
from ebspub.app.release.wanted import Phase
from ebspub.cli.main import app as program
from ebspub.config import load, select
from ebspub.errors import UsageError
from ebspub.localcloud import Effect, Rule
from ebspub.store import Job, tables
from tests.local.leftovers import Stage
from tests.local.released import (
    FRIEND,
    ORGANIZATION,
    OTHER,
    PUBLISH,
    UNIT,
    Files,
    clients,
    cloud,
    configure,
    ebspub,
    open_calls,
    public,
    publish,
    refused,
    register,
    register_all,
    runtime_of,
    seen,
    stage,
    state,
)

__all__ = ["clients", "cloud", "stage"]


def show(stage: Stage, name: str) -> str:
    """Return what `ebspub show` prints; in this process, as it but reads."""
    shown = CliRunner().invoke(program, ["--config", str(stage.config), "show", name])
    assert shown.exit_code == 0, shown.output
    return shown.stdout


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
    shown = show(stage, "lucid-server-20101020")
    assert shown.count("ModifyImageAttribute") == 4
    assert shown.count(" yes ") == 4
    of_job = show(stage, f"lucid-server-20101020-amd64-{stage.region}")
    assert of_job.count("ModifySnapshotAttribute") == 1
    assert " published " in of_job


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
    register(stage, "amd64", stage.regions[1])
    publish(stage, feeds=files)
    assert len(public(stage)) == 3
    register(stage, "i386", stage.regions[1])
    before = len(stage.cloud.calls())

    publish(stage, feeds=files)

    calls = [call for call in stage.cloud.calls(before) if call.mutating]
    assert {call.region for call in calls} == {stage.regions[1]}
    assert {call.service for call in calls} == {"ec2", "ssm"}
    assert len(public(stage)) == 4
    assert [len(names) for names, _ in files.notes] == [3, 4]
    assert stage.mutating(files.notes[-1][1]) == []  # they come last


def test_what_is_public_is_repaired_though_a_region_was_added_that_is_not_there_yet(stage: Stage) -> None:
    alone = PUBLISH + f'required = "{stage.regions[0]}"\n'
    configure(stage, alone)
    for arch in ("amd64", "i386"):
        register(stage, arch, stage.regions[0])
    publish(stage)
    configure(stage, PUBLISH)
    stage.clients.region(stage.region).ssm.delete_parameter(Name="/images/lucid/current/i386")

    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)

    assert [change.action for change in result.releases[0].made] == ["PutParameter"]
    assert (result.exit_code, state(stage), len(public(stage))) == (0, ("published", "release"), 2)
    assert len(result.releases[0].missing) == 2


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


def test_what_was_taken_back_and_is_open_again_is_shown_by_plan_and_taken_back_by_unpublish(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    assert app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None).exit_code == 0
    config, job = load(stage.config), stage.get(f"lucid-server-20101020-amd64-{stage.region}")
    (quiet,) = drift(config, stage.store, stage.clients, select(config))
    assert not quiet.amiss
    stage.ec2().modify_image_attribute(
        ImageId=job.ami_id, Attribute="launchPermission", LaunchPermission={"Add": [{"Group": "all"}]}
    )
    (found,) = drift(config, stage.store, stage.clients, select(config))
    assert [(each.action, each.target) for each in found.changes] == [("ModifyImageAttribute", job.ami_id)]
    shown = CliRunner().invoke(program, ["--config", str(stage.config), "plan"])
    assert "unpublished as release; `ebspub unpublish lucid-server-20101020` makes 1 call" in shown.stdout
    assert due(config, stage.store, select(config)) == []
    assert app.unpublish(runtime_of(stage), ["lucid-server-20101020"], lambda _: None).exit_code == 0
    assert seen(stage)["launch"] == []
    (quiet,) = drift(config, stage.store, stage.clients, select(config))
    assert not quiet.amiss


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


def test_what_cannot_be_used_is_not_named_and_what_cannot_be_unnamed_is_closed_all_the_same(stage: Stage) -> None:
    register_all(stage)
    configure(stage, PUBLISH + f'required = "{stage.regions[0]}"\n')
    rule = stage.cloud.deny("ModifyImageAttribute")
    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    stage.cloud.remove_fault(rule)
    assert set(result.releases[0].errors) == set(stage.regions)
    assert {change.action for change in result.releases[0].made} == {"CreateTags", "ModifySnapshotAttribute"}
    assert (state(stage), public(stage)) == (("publishing", "release"), set())
    publish(stage)
    rule = stage.cloud.deny("DeleteParameter")
    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)
    stage.cloud.remove_fault(rule)
    assert set(result.releases[0].errors) == set(stage.regions)
    assert state(stage) == ("unpublishing", "release")
    found = seen(stage, "i386", stage.regions[1])
    assert (found["launch"], found["volume"], len(found["parameters"])) == ([], [], 2)
    assert app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None).exit_code == 0
    assert seen(stage)["parameters"] == []


@pytest.mark.long
def test_an_image_that_is_gone_is_found_no_more(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    files, lost = Files(stage), stage.get(f"lucid-server-20101020-amd64-{stage.region}")
    stage.ec2().deregister_image(ImageId=lost.ami_id)
    with stage.store.write() as conn:  # long ago, so that EC2 cannot be hiding it
        conn.execute(tables.jobs.update().values(ended_at=time.time() - 1000))

    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=files)

    assert result.exit_code == 3
    assert lost.id in str(result.releases[0].errors[stage.region])
    assert len(public(stage)) == 3
    assert lost.id not in files.notes[-1][0]
    assert _volume_of(stage, lost) == []
    ssm = stage.clients.region(stage.region).ssm
    held = ssm.get_parameters_by_path(Path="/images/lucid", Recursive=True)["Parameters"]
    assert lost.ami_id not in {each["Value"] for each in held}
    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)
    assert result.exit_code == 0, result
    assert ssm.get_parameters_by_path(Path="/images/lucid", Recursive=True)["Parameters"] == []


def _volume_of(stage: Stage, job: Job) -> list[object]:
    found = stage.ec2().describe_snapshot_attribute(SnapshotId=str(job.snapshot_id), Attribute="createVolumePermission")
    return list(found["CreateVolumePermissions"])


def test_the_snapshot_of_an_image_that_somebody_deregistered_is_closed_when_it_is_taken_back(stage: Stage) -> None:
    configure(stage, PUBLISH)
    register_all(stage)
    publish(stage)
    lost = stage.get(f"lucid-server-20101020-amd64-{stage.region}")
    assert _volume_of(stage, lost)
    stage.ec2().deregister_image(ImageId=str(lost.ami_id))
    assert app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None).exit_code == 0
    assert _volume_of(stage, lost) == []


def test_what_names_no_registered_build_or_none_of_the_file_touches_nothing(stage: Stage) -> None:
    register_all(stage)
    before = stage.rows()
    with pytest.raises(UsageError, match="no registered job of lucid-server-20990101"):
        publish(stage, "lucid-server", "lucid-server-20990101")
    with pytest.raises(UsageError, match="never published: lucid-server"):
        app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)
    stage.config.write_text(stage.config.read_text().replace('suite = "lucid"', 'suite = "maverick"'))
    with pytest.raises(UsageError, match="has no build lucid server"):
        publish(stage, "lucid-server")
    assert stage.rows() == before


@pytest.mark.long
def test_throttled_calls_are_made_again(stage: Stage) -> None:
    register_all(stage)
    slow = Effect(kind="error", code="RequestLimitExceeded", status=503, message="Request limit exceeded.")
    lost = Effect(kind="drop", when="after")
    stage.cloud.add_fault(Rule(effects=(slow,), actions=frozenset({"ModifyImageAttribute"}), times=3))
    stage.cloud.add_fault(Rule(effects=(lost,), actions=frozenset({"ModifySnapshotAttribute"}), times=2))
    publish(stage)
    assert open_calls(stage) == []
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


def test_a_run_publishes_what_wishes_it_once_and_not_what_was_taken_back(stage: Stage) -> None:
    for arch in ("amd64", "i386"):
        register(stage, arch, stage.regions[0])
    stage.config.write_text(stage.config.read_text().replace("[builds.source]", 'publish = "auto"\n[builds.source]'))
    config = load(stage.config)
    assert due(config, stage.store, select(config)) == []  # not complete
    for arch in ("amd64", "i386"):
        register(stage, arch, stage.regions[1])

    done = ebspub(stage, "run", "--region", stage.regions[0])

    assert done.returncode == 0, done.stdout + done.stderr
    assert "lucid-server-20101020: published as release" in done.stdout
    before = len(stage.cloud.calls())
    quiet = ebspub(stage, "run")
    assert (quiet.returncode, quiet.stdout, stage.cloud.calls(before)) == (0, "", [])
    assert app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None).exit_code == 0
    assert due(config, stage.store, select(config)) == []
