"""A public build that becomes something else passes every gate of that, and is found as it only where it is it."""

from __future__ import annotations

import itertools

import pytest

from ebspub.app import release as app
from ebspub.app.release.drift import drift, due
from ebspub.app.release.gate import UnverifiedError
from ebspub.config import load, select
from ebspub.errors import JobError
from ebspub.localcloud import Effect, Rule
from ebspub.store import jobs
from tests.local.leftovers import Stage
from tests.local.released import (
    PUBLISH,
    Files,
    boot,
    clients,
    cloud,
    configure,
    publish,
    register,
    register_all,
    runtime_of,
    seen,
    stage,
    state,
)

__all__ = ["clients", "cloud", "stage"]
NAME = "lucid-server-20101020"
BY_LABEL = PUBLISH.replace("/{suite}/current", "/{suite}/{label}/current")


def daily(stage: Stage, of_dailies: str = "", *, regions: int = 2) -> None:
    """Register the build in some regions, and publish it as a daily, as ``of_dailies`` says."""
    configure(stage, BY_LABEL + of_dailies)
    stage.config.write_text(stage.config.read_text().replace('label = "release"', 'label = "daily"'))
    for region, arch in itertools.product(stage.regions[:regions], ("amd64", "i386")):
        register(stage, arch, region)
    publish(stage)
    assert state(stage) == ("published", "daily")


def as_release(stage: Stage, of_releases: str = "") -> None:
    """Configure what a release is, as ``of_releases`` says."""
    configure(stage, BY_LABEL + of_releases)
    stage.config.write_text(stage.config.read_text().replace('label = "daily"', 'label = "release"'))


def labels(stage: Stage) -> set[tuple[str, str]]:
    with stage.store.read() as conn:
        return {(job.spec.region, job.label) for job in jobs.find(conn)}


def amiss(stage: Stage) -> bool:
    config = load(stage.config)
    return any(each.amiss for each in drift(config, stage.store, stage.clients, select(config)))


def promote(stage: Stage) -> app.Released:
    (found,) = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None, label="release").releases
    return found


def test_a_public_daily_that_was_never_booted_is_no_release_where_these_are_verified(stage: Stage) -> None:
    daily(stage)
    as_release(stage, "verify = true\n")
    before = len(stage.cloud.calls())
    assert isinstance(promote(stage).errors[""], UnverifiedError)
    assert stage.mutating(before) == []
    assert state(stage) == ("published", "daily")
    assert {label for _, label in labels(stage)} == {"daily"}


def test_a_public_daily_that_lacks_a_region_is_no_release_where_these_have_all(stage: Stage) -> None:
    daily(stage, "quorum = 1\n", regions=1)
    as_release(stage)
    before = len(stage.cloud.calls())
    told = promote(stage).errors[""]
    assert isinstance(told, JobError)
    assert f"amd64-{stage.regions[1]}" in str(told)
    assert stage.mutating(before) == []
    assert state(stage) == ("published", "daily")


def test_a_region_that_was_never_booted_stays_a_daily_and_keeps_no_run_busy(stage: Stage) -> None:
    good, late = stage.regions
    daily(stage)
    as_release(stage, 'verify = true\nquorum = 1\nwhen = "auto"\n')
    boot(stage, good)
    assert list(promote(stage).errors) == [late]
    assert labels(stage) == {(good, "release"), (late, "daily")}
    config = load(stage.config)
    assert due(config, stage.store, select(config)) == []


def test_what_cannot_become_a_release_everywhere_stays_a_daily_until_it_can(stage: Stage) -> None:
    daily(stage)
    as_release(stage)
    good, bad = stage.regions
    no = Effect(kind="error", code="UnauthorizedOperation", status=403, message="You may not.")
    rule = stage.cloud.add_fault(
        Rule(effects=(no,), actions=frozenset({"CreateTags"}), regions=frozenset({bad}), times=None)
    )
    files = Files(stage)

    (told,) = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None, label="release", feeds=files).releases

    assert list(told.errors) == [bad]
    assert {label for _, label in labels(stage)} == {"daily"}
    assert "/images/lucid/release/current/amd64" not in seen(stage, "amd64", good)["parameters"]
    assert "/images/lucid/daily/current/amd64" in seen(stage, "amd64", good)["parameters"]
    assert amiss(stage)
    stage.cloud.remove_fault(rule)
    publish(stage)  # as what it was to become
    assert {label for _, label in labels(stage)} == {"release"}
    assert "/images/lucid/release/current/amd64" in seen(stage, "amd64", bad)["parameters"]
    assert not amiss(stage)


def test_a_build_that_was_taken_back_meanwhile_is_not_published_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(stage, PUBLISH)
    register_all(stage)
    publish(stage)

    def meanwhile(*_told: object) -> None:
        monkeypatch.setattr(app, "check_accounts", lambda *_told: None)
        assert app.unpublish(runtime_of(stage), [NAME], lambda _: None).exit_code == 0

    monkeypatch.setattr(app, "check_accounts", meanwhile)
    (told,) = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None).releases
    assert told.busy
    assert state(stage)[0] == "unpublished"
    assert seen(stage)["launch"] == []
    config = load(stage.config)
    assert due(config, stage.store, select(config)) == []
