"""Intents and outcomes: what we were about to make, what became of it, and every call on the way."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from ebspub.states import Kind, State
from ebspub.store import Effect, EffectStatus, Failure, Job, Presence, Resource, Store, effects, events
from tests.contract.store.rows import NOW, driven, job_of, spec


def intend(store: Store, job: Job, kind: Kind = Kind.VOLUME, token: str = "token", at: float = NOW) -> int:
    """Record an intent in a transaction of its own."""
    request = {"size": 8, "zone": None, "tags": ["ä"]}
    with store.write() as conn:
        return effects.intend(conn, job, kind=kind, purpose="root", token=token, request=request, now=at)


def call(store: Store, job: Job, resource: int | None, *, at: float = NOW, action: str = "CreateVolume") -> int:
    """Record that a call is about to be made, in a transaction of its own."""
    target = None if resource else "vol-1"
    with store.write() as conn:
        return effects.open_effect(conn, job, epoch=1, action=action, resource=resource, target=target, now=at)


def resource_of(store: Store, job: Job) -> Resource:
    """Return the job's one resource as it is now."""
    (resource,) = job_of(store, job.id).resources
    return resource


def calls_of(store: Store, job: Job) -> list[Effect]:
    """Return the job's calls."""
    with store.read() as conn:
        return effects.history(conn, job.id)


def test_an_intent_says_what_is_about_to_be_made(store: Store) -> None:
    job, _ = driven(store)
    number = intend(store, job)
    assert resource_of(store, job) == Resource(
        id=number,
        job_id=job.id,
        attempt=1,
        kind=Kind.VOLUME,
        purpose="root",
        token="token",
        region="us-east-1",
        resource_id=None,
        presence=Presence.INTENDED,
        request={"size": 8, "zone": None, "tags": ["ä"]},
        intended_at=NOW,
        made_at=None,
        leaving_at=None,
        gone_at=None,
    )


def test_a_resource_is_intended_called_for_made_leaving_and_gone(store: Store) -> None:
    job, _ = driven(store)
    number = intend(store, job)
    effect = call(store, job, number, at=NOW + 1)
    assert resource_of(store, job).unsettled_since == NOW + 1
    assert [c.status for c in calls_of(store, job)] == [EffectStatus.OPEN]
    with store.write() as conn:
        effects.made(conn, number, "vol-1", NOW + 2)
        effects.close_effect(conn, effect, NOW + 2)
    made = resource_of(store, job)
    assert (made.presence, made.resource_id, made.made_at) == (Presence.PRESENT, "vol-1", NOW + 2)
    assert made.unsettled_since is None
    assert job_of(store, job.id).current(Kind.VOLUME) == made
    with store.write() as conn:
        effects.mark(conn, number, leaving_at=NOW + 3)
    assert resource_of(store, job).leaving_at == NOW + 3
    with store.write() as conn:
        effects.gone(conn, number, NOW + 4)
    gone = resource_of(store, job)
    assert (gone.presence, gone.resource_id, gone.gone_at) == (Presence.GONE, "vol-1", NOW + 4)
    assert job_of(store, job.id).live() == ()
    assert calls_of(store, job) == [
        Effect(effect, job.id, 1, 1, "CreateVolume", number, None, EffectStatus.DONE, None, NOW + 1, NOW + 2)
    ]


def test_what_was_never_made_is_gone_without_an_id(store: Store) -> None:
    job, _ = driven(store)
    number = intend(store, job)
    with store.write() as conn:
        effects.gone(conn, number, NOW + 1)
        effects.gone(conn, number, NOW + 2)  # the first time counts
        effects.made(conn, number, "vol-1", NOW + 3)  # and what is gone does not come back
    gone = resource_of(store, job)
    assert (gone.presence, gone.resource_id, gone.gone_at) == (Presence.GONE, None, NOW + 1)


def test_the_first_id_of_a_resource_stays(store: Store) -> None:
    job, _ = driven(store)
    number = intend(store, job)
    with store.write() as conn:
        effects.made(conn, number, "vol-1", NOW + 1)
        effects.made(conn, number, "vol-2", NOW + 2)
    assert resource_of(store, job).resource_id == "vol-1"


def test_a_refused_call_is_settled_and_keeps_the_answer(store: Store) -> None:
    job, _ = driven(store)
    number = intend(store, job)
    failure = Failure("no room", code="InsufficientVolumeCapacity", request_id="r-1", at=NOW + 1)
    effect = call(store, job, number)
    with store.write() as conn:
        effects.close_effect(conn, effect, NOW + 1, failure=failure)
    assert resource_of(store, job).unsettled_since is None
    assert [(c.status, c.error, c.closed_at) for c in calls_of(store, job)] == [(EffectStatus.FAILED, failure, NOW + 1)]


def test_an_intent_is_unsettled_since_the_latest_call_without_an_answer(store: Store) -> None:
    job, _ = driven(store)
    number = intend(store, job)
    assert resource_of(store, job).unsettled_since is None  # no call was sent
    first = call(store, job, number, at=NOW + 1)
    call(store, job, number, at=NOW + 20)
    assert resource_of(store, job).unsettled_since == NOW + 20
    refused = call(store, job, number, at=NOW + 40)
    with store.write() as conn:
        effects.close_effect(conn, first, NOW + 41)
        effects.close_effect(conn, refused, NOW + 41, failure=Failure("no"))
    # The last one was refused, which says nothing of the one before it.
    assert resource_of(store, job).unsettled_since == NOW + 20
    with store.write() as conn:
        effects.settle(conn, number, NOW + 50)
    assert resource_of(store, job).unsettled_since is None
    done, failed = EffectStatus.DONE, EffectStatus.FAILED
    assert [(c.status, c.closed_at) for c in calls_of(store, job)] == [
        (done, NOW + 41),
        (done, NOW + 50),
        (failed, NOW + 41),
    ]


def test_an_open_call_on_something_present_leaves_it_settled(store: Store) -> None:
    """That it exists is known; only of an intent the outcome can be unknown."""
    job, _ = driven(store)
    number = intend(store, job)
    with store.write() as conn:
        effects.made(conn, number, "vol-1", NOW)
    call(store, job, number, at=NOW + 1, action="DeleteVolume")
    assert resource_of(store, job).unsettled_since is None


def test_settling_is_of_one_resource(store: Store) -> None:
    job, _ = driven(store)
    volume, snapshot = intend(store, job, token="a"), intend(store, job, Kind.SNAPSHOT, token="b")
    call(store, job, volume, at=NOW + 1)
    call(store, job, snapshot, at=NOW + 2)
    with store.write() as conn:
        effects.settle(conn, volume, NOW + 3)
    assert [r.unsettled_since for r in job_of(store, job.id).resources] == [None, NOW + 2]


def test_a_repeated_act_settles_the_earlier_ones_of_its_kind(store: Store) -> None:
    job, _ = driven(store)
    other, _ = driven(store, spec("20101021"))
    call(store, job, None, action="AttachVolume")
    call(store, job, None, action="DetachVolume")
    call(store, other, None, action="AttachVolume")
    with store.write() as conn:
        effects.settle_acts(conn, job.id, "AttachVolume", "vol-1", NOW + 1)
        effects.settle_acts(conn, job.id, "DetachVolume", "vol-2", NOW + 1)
    assert [(c.action, c.status) for c in calls_of(store, job)] == [
        ("AttachVolume", EffectStatus.DONE),
        ("DetachVolume", EffectStatus.OPEN),
    ]
    assert [c.status for c in calls_of(store, other)] == [EffectStatus.OPEN]


def test_a_second_live_image_of_a_job_is_refused(store: Store) -> None:
    job, _ = driven(store)
    first = intend(store, job, Kind.IMAGE, token="a")
    with pytest.raises(sa.exc.IntegrityError):
        intend(store, job, Kind.IMAGE, token="b")
    with store.write() as conn:
        effects.made(conn, first, "ami-1", NOW)
    with pytest.raises(sa.exc.IntegrityError):
        intend(store, job, Kind.IMAGE, token="b")
    with store.write() as conn:
        effects.gone(conn, first, NOW)
    intend(store, job, Kind.IMAGE, token="b")
    assert [r.token for r in job_of(store, job.id).live(Kind.IMAGE)] == ["b"]


def test_an_intent_is_written_once(store: Store) -> None:
    job, _ = driven(store)
    intend(store, job)
    with pytest.raises(sa.exc.IntegrityError):
        intend(store, job)


# The history -------------------------------------------------------------------------------------------------------


def add(store: Store, job: Job, **told: Any) -> None:
    """Write an event in a transaction of its own."""
    with store.write() as conn:
        events.add(conn, job.id, NOW, attempt=1, epoch=1, **told)


def test_the_history_is_told_in_order_and_of_one_job(store: Store) -> None:
    job, _ = driven(store)
    other, _ = driven(store, spec("20101021"))
    add(store, job, action="planned")
    add(store, other, action="planned")
    add(store, job, action="step", change=(State.PENDING, State.LAUNCHED), facts={"instance_id": "i-1"})
    with store.read() as conn:
        told = events.history(conn, job.id)
    assert [(e.action, e.from_state, e.to_state, e.facts, e.at) for e in told] == [
        ("planned", None, None, {}, NOW),
        ("step", State.PENDING, State.LAUNCHED, {"instance_id": "i-1"}, NOW),
    ]
    with store.read() as conn:
        assert events.history(conn, "no-such-job") == []


@pytest.mark.parametrize("garbage", ["nul\0byte", "half \ud83d pair"])
def test_what_a_builder_says_is_kept_whatever_it_says(store: Store, garbage: str) -> None:
    job, _ = driven(store)
    add(store, job, action="back", message=f"before {garbage} after", facts={"said": garbage})
    with store.read() as conn:
        (told,) = events.history(conn, job.id)
    assert told.message.startswith("before ")
    assert told.message.endswith(" after")
    assert told.facts == {"said": garbage}
