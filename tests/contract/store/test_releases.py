"""Releases: one process at a time, fenced; what others may find; every call on record."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from ebspub.errors import LeaseLostError
from ebspub.store import EffectStatus, Failure, Job, Lease, Store, events, leases, releases
from ebspub.store.releases import Release
from ebspub.store.tables import ReleaseState
from tests.contract.store.rows import NOW, OWNER, job_of
from tests.contract.store.test_verifications import registered

NAME = "lucid-server-20101020"
DEAD = f"{leases._host()}/another-boot/1/1/x"


def release_of(store: Store) -> Release:
    with store.read() as conn:
        found = releases.get(conn, NAME)
    assert found is not None
    return found


def begun(store: Store) -> Job:
    job = registered(store)
    with store.write() as conn:
        assert releases.add(conn, job.spec, "daily", NOW)
        assert not releases.add(conn, job.spec, "release", NOW)
    return job


def take(store: Store, found: Release, owner: str = OWNER, now: float = NOW) -> Lease | None:
    with store.write() as conn:
        return releases.claim(conn, found, owner=owner, now=now, until=now + 60)


def taken(store: Store) -> Lease:
    lease = take(store, release_of(store))
    assert lease is not None
    return lease


def row(job: Job, action: str = "ModifyImageAttribute") -> dict[str, object]:
    told = {"job_id": job.id, "region": "us-east-1", "action": action, "target": "ami-1"}
    return {**told, "request": {"add": ["all"]}}


def test_it_is_taken_by_one_process_at_a_time(store: Store) -> None:
    begun(store)
    found = release_of(store)
    assert (found.state, found.label, found.lease) == (ReleaseState.PUBLISHING, "daily", None)
    assert take(store, found) == Lease(OWNER, NOW + 60, 1)
    held = release_of(store)
    assert take(store, held, "other", NOW + 59) is None
    assert take(store, found, "other", NOW + 61) is None  # who read it before
    assert take(store, held, "other", NOW + 61) == Lease("other", NOW + 121, 2)


def test_that_of_a_dead_process_is_taken_at_once(store: Store) -> None:
    begun(store)
    assert take(store, release_of(store), DEAD) is not None
    assert take(store, release_of(store)) == Lease(OWNER, NOW + 60, 2)


def test_who_lost_it_records_announces_and_relabels_nothing(store: Store) -> None:
    job = begun(store)
    first = taken(store)
    second = take(store, release_of(store), "other", NOW + 61)
    assert second is not None
    found = release_of(store)
    for work in (
        lambda conn: releases.open_change(conn, NAME, first, row(job), now=NOW, until=NOW + 1),
        lambda conn: releases.announce(conn, NAME, first, [job], NOW),
        lambda conn: releases.withdraw(conn, NAME, first, NOW),
        lambda conn: releases.relabel(conn, NAME, first, [job], "release", NOW),
        lambda conn: releases.change(conn, NAME, first, NOW, state="published", published_at=NOW),
    ):
        with pytest.raises(LeaseLostError), store.write() as conn:
            work(conn)
    with store.write() as conn:
        releases.give_back(conn, NAME, first, NOW)
    assert release_of(store) == found
    with store.read() as conn:
        assert (releases.history(conn, [NAME]), releases.announced(conn)) == ([], [])


def test_a_call_is_on_record_before_it_is_made_and_keeps_the_lease(store: Store) -> None:
    job = begun(store)
    lease = taken(store)
    with store.write() as conn:
        first = releases.open_change(conn, NAME, lease, row(job), now=NOW, until=NOW + 300)
        second = releases.open_change(conn, NAME, lease, row(job, "PutParameter"), now=NOW, until=NOW + 300)
        lost = releases.open_change(conn, NAME, lease, row(job, "CreateTags"), now=NOW, until=NOW + 300)
    held = release_of(store).lease
    assert held is not None
    assert held.until == NOW + 300
    with store.write() as conn:
        releases.close_change(conn, first, NOW + 1)
        releases.close_change(conn, second, NOW + 1, Failure("no", code="Refused"))
    with store.read() as conn:
        found = releases.history(conn, [NAME], job_id=job.id)
    assert [each.id for each in found] == [first, second, lost]
    assert [each.status for each in found] == [EffectStatus.DONE, EffectStatus.FAILED, EffectStatus.OPEN]
    assert found[1].error == Failure("no", code="Refused")
    again = take(store, release_of(store), "other", NOW + 301)
    assert again is not None
    with store.write() as conn:
        releases.settle(conn, NAME, again, "eu-west-1", NOW + 302)
        assert releases.history(conn, [NAME])[2].status is EffectStatus.OPEN
        releases.settle(conn, NAME, again, "us-east-1", NOW + 302)
        assert releases.history(conn, [NAME])[2].status is EffectStatus.DONE


def test_what_is_announced_is_so_once_and_until_it_is_withdrawn(store: Store) -> None:
    job = begun(store)
    lease = taken(store)
    with store.write() as conn:
        assert releases.announce(conn, NAME, lease, [job], NOW) == [job.id]
        assert releases.announce(conn, NAME, lease, [job], NOW + 5) == []
    with store.read() as conn:
        (found,) = releases.announced(conn)
    assert (found.job_id, found.release_id, found.at) == (job.id, NAME, NOW)
    with store.write() as conn:
        assert releases.withdraw(conn, NAME, lease, NOW + 6, only=["another"]) == []
        assert releases.withdraw(conn, NAME, lease, NOW + 6) == [job.id]
        assert releases.withdraw(conn, NAME, lease, NOW + 7) == []
        actions = [each.action for each in events.history(conn, job.id)]
    assert actions[-2:] == ["published", "unpublished"]


def test_what_can_be_used_is_found_only_when_it_is_announced(store: Store) -> None:
    job = begun(store)
    lease = taken(store)
    with store.write() as conn:
        releases.ready(conn, NAME, lease, [job], NOW)
        assert releases.announced(conn) == []
        assert [each.job_id for each in releases.usable(conn)] == [job.id]
        assert releases.withdraw(conn, NAME, lease, NOW + 1) == []  # nobody could find it
        releases.ready(conn, NAME, lease, [job], NOW + 2)
        assert releases.announce(conn, NAME, lease, [job], NOW + 3) == [job.id]
        releases.ready(conn, NAME, lease, [job], NOW + 4)
        assert [(each.at, each.listed) for each in releases.usable(conn)] == [(NOW + 3, True)]
        actions = [each.action for each in events.history(conn, job.id)]
    assert (actions.count("published"), actions.count("unpublished")) == (1, 0)


def test_what_another_changes_is_told_while_it_lives_and_has_not_ended(store: Store) -> None:
    job = begun(store)
    lease = taken(store)

    def held(by: str = "another", region: str = "us-east-1", now: float = NOW) -> set[str]:
        with store.write() as conn:
            return releases.under_change(conn, by, region, ["ami-1", "ami-2"], now)

    assert held() == set()
    with store.write() as conn:
        opened = releases.open_change(conn, NAME, lease, row(job), now=NOW, until=NOW + 60)
    assert held() == {"ami-1"}
    assert (held(NAME), held(region="eu-west-1"), held(now=NOW + 61)) == (set(), set(), set())
    with store.write() as conn:
        releases.close_change(conn, opened, NOW)
    assert held() == set()
    with store.write() as conn:
        releases.open_change(conn, NAME, lease, row(job), now=NOW, until=NOW + 60)
        releases.give_back(conn, NAME, lease, NOW)
    assert held() == set()
    assert take(store, release_of(store), DEAD) is not None
    with store.write() as conn:
        releases.open_change(conn, NAME, Lease(DEAD, NOW, 2), row(job), now=NOW, until=NOW + 60)
    assert held() == set()


def test_a_call_that_is_done_ends_those_on_its_target_whose_answers_were_lost(store: Store) -> None:
    job = begun(store)
    lease = taken(store)
    with store.write() as conn:
        for told in (row(job), {**row(job), "target": "ami-2"}):
            releases.open_change(conn, NAME, lease, told, now=NOW, until=NOW + 60)
        last = releases.open_change(conn, NAME, lease, row(job), now=NOW, until=NOW + 60)
        releases.close_change(conn, last, NOW, Failure("no", code="Refused"))
        assert releases.under_change(conn, "another", "us-east-1", ["ami-1", "ami-2"], NOW) == {"ami-1", "ami-2"}
        last = releases.open_change(conn, NAME, lease, row(job), now=NOW, until=NOW + 60)
        releases.close_change(conn, last, NOW + 1)
        assert releases.under_change(conn, "another", "us-east-1", ["ami-1", "ami-2"], NOW) == {"ami-2"}
        statuses = [each.status for each in releases.history(conn, [NAME])]
    assert statuses == [EffectStatus.DONE, EffectStatus.OPEN, EffectStatus.FAILED, EffectStatus.DONE]


def test_a_label_goes_to_jobs_as_they_become_it(store: Store) -> None:
    job = begun(store)
    lease = taken(store)
    with store.write() as conn:
        releases.relabel(conn, NAME, lease, [job], "beta1", NOW)
    assert job_of(store, job.id).label == "beta1"
    assert job_of(store, job.id).spec.label == "release"  # what it was planned with


def test_the_database_refuses_impossible_releases(store: Store) -> None:
    begun(store)
    lease = taken(store)
    for values in ({"state": "public"}, {"state": "published"}, {"state": "unpublished"}, {"lease_until": None}):
        with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as conn:
            releases.change(conn, NAME, lease, NOW, **values)
