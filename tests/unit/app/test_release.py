"""What is wanted against what is seen: the calls that are missing, and their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.app.release import gate
from ebspub.app.release.wanted import Change, Others, Phase, Seen, Wanted, changes, newest, publish, withdraw
from ebspub.aws.parameters import IMAGE, Parameter
from ebspub.config.publishing import Publishing, Sharing
from ebspub.errors import JobError
from ebspub.states import State, Status
from ebspub.store import Job
from tests.contract.store.rows import NOW, spec

SERIAL, CURRENT = "/i/{suite}/{serial}/{arch}", "/i/{suite}/current/{arch}"
PATHS = ["/i/a", "/i/b", "/i/c"]
PRINCIPALS = ["all", "111122223333", "444455556666"]
ARNS = ["arn:aws:organizations::111122223333:organization/o-abcdefghij"]

some = st.frozensets(st.sampled_from(PRINCIPALS))
more = st.frozensets(st.sampled_from([*PRINCIPALS, *ARNS]))
tagged = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"))


@st.composite
def wishes(draw: st.DrawFn) -> Wanted:
    """Draw what may be wanted of one AMI."""
    kept = draw(st.lists(st.sampled_from(PATHS), unique=True))
    left = {path: draw(st.sampled_from([None, "ami-0"])) for path in PATHS if path not in kept and draw(st.booleans())}
    wanted = draw(tagged)
    return Wanted(
        "job",
        "us-east-1",
        "ami-1",
        "snap-1",
        launch=draw(more),
        volume=draw(some),
        tags=wanted,
        parameters=tuple(kept),
        moving=frozenset(path for path in kept if draw(st.booleans())),
        left=left,
        untag=frozenset(draw(st.sets(st.sampled_from("xyz")))) - wanted.keys(),
    )


held = st.builds(Parameter, st.sampled_from(["ami-0", "ami-1", "ami-2"]), st.sampled_from([IMAGE, "text"]))
sights = st.builds(
    Seen, launch=more, volume=some, image_tags=tagged, snapshot_tags=tagged,
    parameters=st.dictionaries(st.sampled_from(PATHS), held),
)  # fmt: skip


def done(seen: Seen, made: Sequence[Change]) -> Seen:
    """Return what is seen after calls, by EC2's own rules."""
    tags = {"ami-1": dict(seen.image_tags), "snap-1": dict(seen.snapshot_tags)}
    users = {"ami-1": seen.launch, "snap-1": seen.volume}
    paths = dict(seen.parameters)
    for change in made:
        told: Mapping[str, Any] = change.request
        if change.action == "CreateTags":
            tags[change.target].update(told["tags"])
        elif change.action == "DeleteTags":
            tags[change.target] = {k: v for k, v in tags[change.target].items() if k not in told["keys"]}
        elif change.action == "PutParameter":
            paths[change.target] = Parameter(told["value"], IMAGE)
        elif change.action == "DeleteParameter":
            paths.pop(change.target, None)
        else:
            users[change.target] = (users[change.target] | set(told.get("add", ()))) - set(told.get("remove", ()))
    return Seen(users["ami-1"], users["snap-1"], tags["ami-1"], tags["snap-1"], paths)


@given(wishes(), sights, st.data())
def test_whatever_is_done_of_it_the_rest_is_missing_and_then_nothing(
    wanted: Wanted, seen: Seen, data: st.DataObject
) -> None:
    missing = changes([wanted], {"job": seen})
    stop = data.draw(st.integers(0, len(missing)))
    later = done(seen, missing[:stop])
    assert changes([wanted], {"job": later}) == missing[stop:]
    ended = done(later, missing[stop:])
    assert changes([wanted], {"job": ended}) == []
    # The last call once more, because its answer was lost.
    assert changes([wanted], {"job": done(ended, missing[-1:])}) == []
    assert (ended.launch, ended.volume) == (wanted.launch, wanted.volume)
    assert all(ended.parameters[path] == Parameter("ami-1", IMAGE) for path in wanted.parameters)
    assert all(ended.parameters.get(path, Parameter("", "")).value != "ami-1" for path in wanted.left)
    for there in (ended.image_tags, ended.snapshot_tags):
        assert wanted.tags.items() <= there.items()
        assert not wanted.untag & there.keys()


@given(wishes(), sights)
def test_it_can_be_used_before_it_is_found_and_is_found_no_more_before_it_is_closed(wanted: Wanted, seen: Seen) -> None:
    phases = [change.phase for change in changes([wanted], {"job": seen})]
    assert phases == sorted(phases)
    assert Phase.OPEN_SNAPSHOT < Phase.OPEN_IMAGE < Phase.NAME < Phase.MOVE_NAME < Phase.UNNAME < Phase.CLOSE_IMAGE
    assert Phase.CLOSE_IMAGE < Phase.CLOSE_SNAPSHOT


def job(serial: str = "20101020", label: str = "release", **changes_of: Any) -> Job:
    """Return a registered job; its AMI is named after its serial."""
    document = spec(serial, **changes_of)
    return Job(
        id=document.job_id,
        spec=document,
        label=label,
        account=None,
        state=State.REGISTERED,
        status=Status.DONE,
        attempt=1,
        attempt_base=1,
        instance_id=None,
        volume_id=None,
        snapshot_id=f"snap-{serial}",
        ami_id=f"ami-{serial}",
        facts={},
        step_started_at=None,
        progress=None,
        retries=0,
        not_before=0.0,
        error=None,
        cancel_requested=False,
        lease=None,
        epoch=1,
        created_at=NOW,
        updated_at=NOW,
        ended_at=NOW,
    )


def others(*jobs: Job) -> Others:
    return Others(jobs, lambda each: {f"/i/lucid/current/{each.spec.arch}"})


WISH = Sharing(
    parameters=(SERIAL, CURRENT), tags=(("Stream", "{label}-{serial}"),), public=True, organizations=("arn",)
)
NOTHING: tuple[set[str], set[str]] = (set(), set())


def test_what_is_wanted_comes_of_the_configuration_and_the_job() -> None:
    wanted = publish(job(), WISH, "beta1", NOTHING, Others())
    assert (wanted.launch, wanted.volume) == (frozenset({"all", "arn"}), frozenset({"all"}))
    assert wanted.tags == {"Stream": "beta1-20101020", "ebspub:label": "beta1"}
    assert wanted.parameters == ("/i/lucid/20101020/amd64", "/i/lucid/current/amd64")
    assert wanted.moving == {"/i/lucid/current/amd64"}


@pytest.mark.parametrize(
    ("other", "moves"), [("20101021", False), ("20101020.1", False), ("20101019", True), ("20101019.10", True)]
)
def test_a_path_that_moves_belongs_to_the_newest_build(other: str, moves: bool) -> None:
    wanted = publish(job(), WISH, "release", NOTHING, others(job(other)))
    assert ("/i/lucid/current/amd64" in wanted.parameters) == moves
    elsewhere = job("20101021", region="eu-west-1")
    assert publish(job(), WISH, "release", NOTHING, others(elsewhere)).moving


def test_what_is_taken_back_leaves_its_paths_to_the_newest_that_is_public() -> None:
    written = ({"/i/lucid/20101020/amd64", "/i/lucid/current/amd64"}, {"Stream"})
    wanted = withdraw(job(), written, others(job("20100901"), job("20101010.2"), job("20101010.10")))
    assert wanted.left == {"/i/lucid/20101020/amd64": None, "/i/lucid/current/amd64": "ami-20101010.10"}
    assert wanted.withdrawn
    assert (wanted.launch, wanted.volume, wanted.untag) == (frozenset(), frozenset(), frozenset())


def test_what_is_configured_no_more_is_taken_away_where_it_was_ours() -> None:
    written = ({"/i/old", "/i/lucid/current/amd64"}, {"Old", "Stream"})
    wanted = publish(job(), WISH, "release", written, Others())
    assert wanted.left == {"/i/old": None}
    assert wanted.untag == {"Old"}
    held_by_another = Seen(wanted.launch, wanted.volume, wanted.tags, wanted.tags, {"/i/old": Parameter("x", IMAGE)})
    assert {each.target for each in changes([wanted], {wanted.job_id: held_by_another})} == set(wanted.parameters)


def test_the_newest_is_told_by_its_serial() -> None:
    found = newest([job("20101020.2"), job("20101020.10"), job("20101020")])
    assert found is not None
    assert found.spec.serial == "20101020.10"
    assert newest([]) is None


PLAN = Publishing(0, "manual", False, None, None, 300.0, ("us-east-1", "eu-west-1"), ("amd64", "i386"))


def test_all_of_a_build_must_be_registered_and_what_is_not_is_named() -> None:
    absent = gate.missing(PLAN, "lucid", "server", "20101020", [job()])
    assert absent["us-east-1"] == ["lucid-server-20101020-i386-us-east-1"]
    with pytest.raises(JobError, match="lucid-server-20101020-amd64-eu-west-1"):
        gate.require_complete(PLAN, "lucid-server-20101020", absent)
    gate.require_complete(PLAN, "lucid-server-20101020", {})


@pytest.mark.parametrize(
    ("plan", "lacking", "enough"),
    [
        (PLAN, {"eu-west-1"}, False),
        (PLAN, {"sa-east-1"}, True),  # a region that is not configured any more
        (replace(PLAN, quorum=1), {"eu-west-1"}, True),
        (replace(PLAN, quorum=1), {"eu-west-1", "us-east-1"}, False),
        (replace(PLAN, required=("us-east-1",)), {"eu-west-1"}, True),
        (replace(PLAN, required=("us-east-1",)), {"us-east-1"}, False),
    ],
)
def test_a_quorum_or_some_regions_may_be_enough(plan: Publishing, lacking: set[str], enough: bool) -> None:
    assert gate.enough(plan, lacking) is enough
