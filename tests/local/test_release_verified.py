"""`[publish] verify`: what has not passed a test boot is left out, and holds up only what needs it."""

from __future__ import annotations

import itertools

import pytest
from typer.testing import CliRunner

from ebspub.app import release as app
from ebspub.app.publish import Result
from ebspub.app.release.auto import publish_complete
from ebspub.app.release.drift import Drift, drift, due
from ebspub.app.release.gate import UnverifiedError
from ebspub.cli.main import app as program
from ebspub.config import load, select
from ebspub.store import tables
from tests.local.leftovers import Stage
from tests.local.released import (
    PUBLISH,
    boot,
    clients,
    cloud,
    configure,
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
NAME = "lucid-server-20101020"


def job_id(arch: str, region: str) -> str:
    return f"{NAME}-{arch}-{region}"


def wish(stage: Stage, publish: str) -> None:
    """Let `run` publish the build, and only what has passed its test boot."""
    text = stage.config.read_text()
    if 'publish = "auto"' not in text:
        stage.config.write_text(text.replace("[builds.source]", 'publish = "auto"\n[builds.source]'))
    configure(stage, PUBLISH + "verify = true\n" + publish)


def left(stage: Stage) -> list[str]:
    config = load(stage.config)
    return due(config, stage.store, select(config))


def amiss(stage: Stage) -> Drift:
    config = load(stage.config)
    (found,) = drift(config, stage.store, stage.clients, select(config))
    return found


def partly(stage: Stage) -> app.Released:
    """Publish; return what came of it, of which something must stand in the way."""
    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    assert result.exit_code == 3
    return result.releases[0]


@pytest.mark.long
@pytest.mark.parametrize("rule", ["quorum = 1\n", "required"])
def test_a_region_the_build_can_do_without_is_left_out_until_its_amis_are_verified(stage: Stage, rule: str) -> None:
    good, late = stage.regions
    wish(stage, f'required = ["{good}"]\n' if rule == "required" else rule)
    register_all(stage)
    boot(stage, good)
    boot(stage, late, "amd64")
    assert left(stage) == [NAME]

    done = partly(stage)

    assert list(done.errors) == [late]
    error = done.errors[late]
    assert isinstance(error, UnverifiedError)
    untested = stage.get(job_id("i386", late))
    assert f"{untested.ami_id} ({untested.id})" in error.what
    assert f"ebspub verify {NAME} --missing" in error.todo
    assert str(stage.get(job_id("amd64", late)).ami_id) not in error.what
    assert state(stage)[0] == "published"
    assert public(stage) == {job_id(arch, good) for arch in ("amd64", "i386")}
    assert [seen(stage, arch, late)["launch"] for arch in ("amd64", "i386")] == [[], []]

    assert left(stage) == []  # a run from cron does not try it again and again
    before = len(stage.cloud.calls())
    assert publish_complete(runtime_of(stage), select(load(stage.config)), Result()).exit_code == 0
    assert stage.cloud.calls(before) == []
    told = amiss(stage)
    assert (told.changes, list(told.errors), told.unannounced) == ([], [late], [])
    assert "--missing" in told.errors[late]

    boot(stage, late)
    assert left(stage) == [NAME]
    publish(stage)
    assert public(stage) == {job_id(*each) for each in itertools.product(("amd64", "i386"), stage.regions)}
    assert (left(stage), amiss(stage).amiss) == ([], False)


def test_nothing_is_published_where_too_little_is_verified(stage: Stage) -> None:
    wish(stage, "")
    register_all(stage)
    boot(stage, stage.regions[0])
    boot(stage, stage.regions[1], result="failed")
    assert left(stage) == []
    told = refused(stage)
    assert "nothing was published" in told
    assert f"ebspub verify {NAME} --missing" in told
    for arch in ("amd64", "i386"):
        assert str(stage.get(job_id(arch, stage.regions[0])).ami_id) not in told
        assert str(stage.get(job_id(arch, stage.regions[1])).ami_id) in told
    boot(stage, stage.regions[1])
    assert left(stage) == [NAME]


def test_what_is_public_is_repaired_beside_a_late_region_that_is_not_verified(stage: Stage) -> None:
    good, late = stage.regions
    wish(stage, "quorum = 1\n")
    for arch in ("amd64", "i386"):
        register(stage, arch, good)
    boot(stage, good)
    publish(stage)
    for arch in ("amd64", "i386"):
        register(stage, arch, late)
    assert left(stage) == []
    image = stage.get(job_id("amd64", good)).ami_id
    boot(stage, good, result="failed")  # what is public waits for nothing, and is not taken back
    stage.ec2(good).modify_image_attribute(
        ImageId=image, Attribute="launchPermission", LaunchPermission={"Remove": [{"Group": "all"}]}
    )

    done = partly(stage)

    assert list(done.errors) == [late]
    assert [(each.action, each.target) for each in done.made] == [("ModifyImageAttribute", image)]
    assert "all" in seen(stage, "amd64", good)["launch"]
    assert (state(stage)[0], public(stage)) == ("published", {job_id(arch, good) for arch in ("amd64", "i386")})
    assert seen(stage, "amd64", late)["launch"] == []
    assert left(stage) == []


def test_what_is_public_is_repaired_beside_a_late_job_of_its_region_that_is_not_verified(stage: Stage) -> None:
    good, region = stage.regions
    ours = {job_id("amd64", good), job_id("i386", good), job_id("amd64", region)}
    wish(stage, "quorum = 1\n")
    for job in (("amd64", good), ("i386", good), ("amd64", region)):
        register(stage, *job)
        boot(stage, job[1], job[0])
    publish(stage)
    register(stage, "i386", region)
    image = stage.get(job_id("amd64", region)).ami_id
    stage.ec2(region).modify_image_attribute(
        ImageId=image, Attribute="launchPermission", LaunchPermission={"Remove": [{"Group": "all"}]}
    )
    told = amiss(stage)
    assert ([each.target for each in told.changes], list(told.errors)) == ([image], [region])
    assert left(stage) == []

    done = partly(stage)

    assert isinstance(done.errors[region], UnverifiedError)
    assert [(each.action, each.target) for each in done.made] == [("ModifyImageAttribute", image)]
    assert seen(stage, "i386", region)["launch"] == []
    assert public(stage) == ours
    assert left(stage) == []
    boot(stage, region, "i386")
    assert left(stage) == [NAME]
    publish(stage)
    assert public(stage) == {*ours, job_id("i386", region)}


def test_what_is_registered_behind_the_gate_waits_for_the_next_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, region = stage.regions
    ours = {job_id("amd64", good), job_id("i386", good), job_id("amd64", region)}
    wish(stage, "quorum = 1\n")
    for job in (("amd64", good), ("i386", good), ("amd64", region)):
        register(stage, *job)
        boot(stage, job[1], job[0])

    def meanwhile(*_told: object) -> None:
        register(stage, "i386", region)

    monkeypatch.setattr(app, "check_accounts", meanwhile)
    publish(stage)
    assert public(stage) == ours
    assert seen(stage, "i386", region)["launch"] == []


def test_the_plan_tells_of_what_could_be_used_and_was_never_announced(stage: Stage) -> None:
    late = stage.regions[1]
    configure(stage, PUBLISH + "quorum = 1\n")
    register_all(stage)
    publish(stage)
    lost = job_id("amd64", late)
    with stage.store.write() as conn:  # as if it had been killed after its last call
        conn.execute(tables.announced.delete().where(tables.announced.c.job_id == lost))

    told = amiss(stage)

    assert (told.changes, told.errors, told.unannounced, told.amiss) == ([], {}, [lost], True)
    shown = CliRunner().invoke(program, ["--config", str(stage.config), "plan"])
    assert f"not to be found yet: {lost}" in shown.stdout
    assert lost not in public(stage)
    publish(stage)
    assert lost in public(stage)
    assert not amiss(stage).amiss


def test_what_is_not_registered_is_named_beside_what_fails(stage: Stage) -> None:
    good, late = stage.regions
    configure(stage, PUBLISH + "quorum = 1\nverify = true\n")
    register(stage, "amd64", good)
    register(stage, "i386", good)
    register(stage, "amd64", late)
    boot(stage, good)

    shown = CliRunner().invoke(program, ["--config", str(stage.config), "publish", "lucid-server"])

    absent = job_id("i386", late)
    assert shown.exit_code == 3
    assert f"{late}: not verified" in shown.stderr
    assert f"{NAME}: not registered yet: {absent}; publish again" in shown.stderr
    planned = CliRunner().invoke(program, ["--config", str(stage.config), "plan"])
    assert f"not registered yet: {absent}" in planned.stdout
