"""What the sweep takes and what it leaves: the rules alone, without a cloud and without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.app.sweep.judge import Fate, Verdict, judge_all
from ebspub.aws import tags
from ebspub.aws.account import Owned
from ebspub.spec import Builder, JobSpec, Registration, Source, Volume
from ebspub.states import Kind, State, Status
from ebspub.store import Failure, Job, Lease, Presence, Resource, Seat

NOW, OLD = 1_000_000.0, 900_000.0
SPEC = JobSpec(
    suite="lucid",
    build="server",
    label="release",
    serial="20101020",
    version="10.04",
    arch="amd64",
    region="us-east-1",
    source=Source(url="http://127.0.0.1/x"),
    builder=Builder(image="ami-1", instance_types=("t3.medium",), ssh_cidr="127.0.0.1/32"),
    volume=Volume(size=8),
    registration=Registration(name="name", architecture="x86_64"),
    tags={},
)
ENDED = {Status.DONE, Status.CANCELLED}


def job(status: Status = Status.FAILED, *rows: Resource, attempt: int = 2, **values: Any) -> Job:
    driven = status in (Status.RUNNING, Status.CANCELLING)
    return Job(
        id=SPEC.job_id,
        spec=SPEC,
        label="release",
        account=None,
        state=State.REGISTERED if status is Status.DONE else State.PENDING,
        status=status,
        attempt=attempt,
        attempt_base=1,
        instance_id=None,
        volume_id=None,
        snapshot_id=values.get("snapshot_id"),
        ami_id=values.get("ami_id"),
        facts={},
        step_started_at=None,
        progress=None,
        retries=0,
        not_before=0.0,
        error=Failure("broken") if status is Status.FAILED else None,
        cancel_requested=False,
        lease=Lease("somebody", NOW + 60, 3) if driven else None,
        epoch=3,
        created_at=OLD,
        updated_at=OLD,
        ended_at=OLD if status in ENDED else None,
        resources=rows,
    )


def row(
    kind: Kind, name: str | None, *, attempt: int = 2, presence: Presence = Presence.PRESENT, number: int = 1
) -> Resource:
    return Resource(
        id=number,
        job_id=SPEC.job_id,
        attempt=attempt,
        kind=kind,
        purpose="root",
        token=f"token-{kind}",
        region=SPEC.region,
        resource_id=name,
        presence=presence,
        request={},
        intended_at=OLD,
        made_at=OLD,
        leaving_at=None,
        gone_at=OLD if presence is Presence.GONE else None,
    )


def thing(kind: Kind, name: str, *, attempt: int = 2, token: str = "", of: str = SPEC.job_id, **values: Any) -> Owned:
    marks = {tags.STORE: "ours", tags.JOB: of, tags.ATTEMPT: str(attempt), tags.TOKEN: token or f"token-{kind}"}
    told: dict[str, Any] = {"region": SPEC.region, "state": "there", "created": OLD, **values}
    return Owned(kind=kind, id=name, tags=marks, **told)


def fates(things: Sequence[Owned], known: Job | None, *, grace: float = 3600.0) -> dict[str, Verdict]:
    verdicts, _ = judge_all(things, {known.id: known} if known else {}, now=NOW, grace=grace)
    return {each.id: verdict for each, verdict in verdicts}


def fate(each: Owned, known: Job | None, **how: Any) -> Fate:
    return fates([each], known, **how)[each.id].fate


KINDS = st.sampled_from(list(Kind))
STATUSES = st.sampled_from(list(Status))


@given(kind=KINDS, status=st.sampled_from([Status.RUNNING, Status.CANCELLING]), attempt=st.integers(0, 4))
def test_nothing_of_a_driven_job_goes(kind: Kind, status: Status, attempt: int) -> None:
    assert fate(thing(kind, "x", attempt=attempt), job(status)) is Fate.KEEP


@given(kind=KINDS, status=st.sampled_from([Status.WAITING, Status.FAILED]), answered=st.booleans())
def test_what_the_present_attempt_made_or_may_have_made_stays(kind: Kind, status: Status, answered: bool) -> None:
    presence = Presence.PRESENT if answered else Presence.INTENDED
    known = job(status, row(kind, "x" if answered else None, presence=presence))
    assert fate(thing(kind, "x"), known) is Fate.KEEP


@given(kind=KINDS, status=STATUSES, age=st.floats(0, 3599))
def test_nothing_young_is_ever_removed(kind: Kind, status: Status, age: float) -> None:
    recent = row(kind, "x", attempt=1)
    recent = Resource(**{**{name: getattr(recent, name) for name in recent.__slots__}, "made_at": NOW - age})
    assert fate(thing(kind, "x", created=NOW - age), job(status, recent)) is not Fate.REMOVE
    assert fate(thing(kind, "x", created=NOW - age), None) is not Fate.REMOVE or kind is Kind.GROUP


@given(kind=st.sampled_from([Kind.IMAGE, Kind.SNAPSHOT]), attempt=st.integers(0, 9), region=st.booleans())
def test_what_may_be_published_by_a_job_unknown_here_is_never_removed(kind: Kind, attempt: int, region: bool) -> None:
    where = SPEC.region if region else "eu-west-1"
    found = thing(kind, "x", attempt=attempt, region=where)
    assert fate(found, None, grace=0.0) is Fate.REPORT
    for status in ENDED:
        assert fate(found, job(status), grace=0.0) is Fate.REPORT


@pytest.mark.parametrize("kind", list(Kind))
def test_what_an_earlier_attempt_left_goes(kind: Kind) -> None:
    assert fate(thing(kind, "x", attempt=1), job(Status.FAILED, row(kind, "x", attempt=1))) is Fate.REMOVE


@pytest.mark.parametrize("kind", list(Kind))
def test_of_a_cancelled_job_everything_that_it_made_goes(kind: Kind) -> None:
    assert fate(thing(kind, "x"), job(Status.CANCELLED, row(kind, "x"))) is Fate.REMOVE


@pytest.mark.parametrize("kind", [Kind.INSTANCE, Kind.VOLUME, Kind.GROUP])
def test_of_a_job_unknown_here_what_only_costs_money_goes(kind: Kind) -> None:
    assert fate(thing(kind, "x"), None) is Fate.REMOVE


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.SNAPSHOT])
def test_what_a_later_life_of_the_job_published_is_reported(kind: Kind) -> None:
    # The database was restored from a backup of attempt 2; the account has what attempt 3 made.
    known = job(Status.CANCELLED, row(kind, None, presence=Presence.INTENDED))
    verdict = fates([thing(kind, "x", attempt=3, token="other")], known)["x"]
    assert (verdict.fate, verdict.reason.startswith("is of attempt 3")) == (Fate.REPORT, True)


def test_an_ami_that_a_waiting_job_would_adopt_stays_and_its_snapshot_with_it() -> None:
    image = thing(Kind.IMAGE, "ami", token="another", uses=("snap",))
    snapshot = thing(Kind.SNAPSHOT, "snap", attempt=1)
    found = fates([snapshot, image], job(Status.WAITING, row(Kind.SNAPSHOT, "snap", attempt=1)))
    assert {name: verdict.fate for name, verdict in found.items()} == {"ami": Fate.KEEP, "snap": Fate.KEEP}


def test_a_registered_job_needs_its_ami_and_snapshot_and_nothing_else() -> None:
    things = [thing(kind, name) for kind, name in ((Kind.IMAGE, "ami"), (Kind.SNAPSHOT, "snap"), (Kind.VOLUME, "vol"))]
    rows = [row(each.kind, each.id) for each in things]
    found = fates(things, job(Status.DONE, *rows, ami_id="ami", snapshot_id="snap"))
    assert [found[name].fate for name in ("ami", "snap", "vol")] == [Fate.KEEP, Fate.KEEP, Fate.REMOVE]


def test_a_builders_own_root_shares_its_fate() -> None:
    root = thing(Kind.VOLUME, "vol", token="token-instance", uses=("i",))
    builder = thing(Kind.INSTANCE, "i")
    kept = fates([root, builder], job(Status.FAILED, row(Kind.INSTANCE, "i")))
    assert kept["vol"].fate is Fate.KEEP
    gone = fates([root, builder], job(Status.CANCELLED, row(Kind.INSTANCE, "i")))
    assert gone["vol"].fate is Fate.REMOVE


def test_a_volume_that_somebody_attached_to_an_instance_of_theirs_is_reported() -> None:
    volume = thing(Kind.VOLUME, "vol", uses=("i-of-somebody",))
    assert fate(volume, job(Status.CANCELLED, row(Kind.VOLUME, "vol"))) is Fate.REPORT


def test_a_second_snapshot_of_our_volume_goes_and_a_copy_with_its_tags_stays() -> None:
    known = job(Status.CANCELLED, row(Kind.VOLUME, "vol"), row(Kind.SNAPSHOT, "first"))
    assert fate(thing(Kind.SNAPSHOT, "second", uses=("vol",)), known) is Fate.REMOVE
    assert fate(thing(Kind.SNAPSHOT, "copy", uses=("vol-ffffffff",)), known) is Fate.REPORT


def test_a_copy_of_an_ami_is_not_taken_for_the_one_whose_token_it_carries() -> None:
    found = fates([thing(Kind.IMAGE, "ami"), thing(Kind.IMAGE, "copy")], job(Status.CANCELLED, row(Kind.IMAGE, "ami")))
    assert {name: verdict.fate for name, verdict in found.items()} == {"ami": Fate.REMOVE, "copy": Fate.REPORT}


def test_a_builder_that_terminates_already_is_left_to_it() -> None:
    assert fate(thing(Kind.INSTANCE, "i", state="shutting-down"), job(Status.CANCELLED)) is Fate.GOING


def test_a_group_without_a_row_is_as_old_as_the_rest_of_its_job() -> None:
    group = thing(Kind.GROUP, "sg", of="unknown", created=None)
    young = thing(Kind.INSTANCE, "i", of="unknown", created=NOW - 10)
    assert fates([group, young], None)["sg"].fate is Fate.YOUNG
    assert fates([group], None)["sg"].fate is Fate.REMOVE


def test_an_attempt_that_is_no_number_counts_as_none() -> None:
    assert thing(Kind.VOLUME, "vol").attempt == 2
    assert Owned(Kind.VOLUME, "vol", "us-east-1", "", OLD, {tags.ATTEMPT: "²"}).attempt == 0


@pytest.mark.parametrize(("until", "expected"), [(NOW + 1, Fate.KEEP), (NOW - 1, Fate.REMOVE)])
def test_a_test_boot_is_left_alone_for_as_long_as_its_lease(until: float, expected: Fate) -> None:
    ended = job(Status.DONE, ami_id="ami-1", snapshot_id="snap-1")
    booted = replace(ended, verification=Lease("somebody", until, 1))
    assert fate(thing(Kind.INSTANCE, "i-1"), booted) is expected


def test_a_copy_that_the_job_made_once_too_often_goes_and_one_by_hand_stays() -> None:
    told = {"snapshot": "snap-0", "region": "eu-west-1", "description": f"name (ebspub {SPEC.job_id})"}
    known = job(Status.DONE, replace(row(Kind.SNAPSHOT, "snap-1"), request=told), ami_id="ami-1", snapshot_id="snap-1")
    again = thing(Kind.SNAPSHOT, "snap-2", uses=("vol-ffffffff",), description=told["description"])
    by_hand = thing(Kind.SNAPSHOT, "snap-3", uses=("vol-ffffffff",), description="[Copied snap-1 from us-east-1]")
    found = fates([again, by_hand, thing(Kind.SNAPSHOT, "snap-1", description=told["description"])], known)
    assert {name: verdict.fate for name, verdict in found.items()} == {
        "snap-1": Fate.KEEP,
        "snap-2": Fate.REMOVE,
        "snap-3": Fate.REPORT,
    }


# A builder that several jobs share ---------------------------------------------------------------------------------


def host(status: Status, active: int, *, attempt: int = 2) -> Job:
    """Return the job that launched a shared builder and has left it; ``active`` others have not."""
    rows = (row(Kind.INSTANCE, "i-1", number=1), row(Kind.GROUP, "sg-1", number=2))
    left = OLD if not active else None
    seat = Seat(
        id=1,
        job_id=SPEC.job_id,
        builder=1,
        host_job=SPEC.job_id,
        host_attempt=2,
        attempt=2,
        slot=0,
        sealed_at=left,
        left_at=OLD,
        crowd=active + 1,
        active=active,
        quiet_at=left,
        hosted=False,
        host_until=None,
        rows=rows,
    )
    return replace(job(status, *rows, attempt=attempt), seats=(seat,))


def builder_things() -> list[Owned]:
    """Return what there is of that builder, its own root included."""
    root = thing(Kind.VOLUME, "vol-root", token=f"token-{Kind.INSTANCE}", uses=("i-1",))
    return [thing(Kind.INSTANCE, "i-1"), root, thing(Kind.GROUP, "sg-1")]


@pytest.mark.parametrize("attempt", [2, 3])
@pytest.mark.parametrize("status", [Status.DONE, Status.CANCELLED, Status.FAILED, Status.WAITING])
def test_a_builder_that_others_share_stays_whatever_became_of_its_host(status: Status, attempt: int) -> None:
    told = fates(builder_things(), host(status, 1, attempt=attempt), grace=0.0)
    assert {verdict.fate for verdict in told.values()} == {Fate.KEEP}
    assert told["i-1"].reason == "other jobs share this builder"


@pytest.mark.parametrize("status", [Status.DONE, Status.CANCELLED, Status.FAILED, Status.WAITING])
def test_a_builder_that_everybody_has_left_goes(status: Status) -> None:
    told = fates(builder_things(), host(status, 0))
    assert {verdict.fate for verdict in told.values()} == {Fate.REMOVE}


def test_a_builder_that_everybody_has_left_is_its_hosts_to_remove_while_that_is_driven() -> None:
    assert {verdict.fate for verdict in fates(builder_things(), host(Status.RUNNING, 0)).values()} == {Fate.KEEP}
