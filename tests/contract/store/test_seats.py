"""Shared builders: one is open at a time, a place is given once, and exactly one job is the last to leave."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from ebspub.spec import JobSpec
from ebspub.states import Kind, Status
from ebspub.store import Job, Seat, Store, effects, jobs, leases, seats, tables
from ebspub.store.records import Resource
from tests.contract.store.rows import NOW, job_of, plan, spec

MANY = 8


def sharing(number: int, **changes: object) -> JobSpec:
    """Return the document of a job that shares its builder; ``changes`` are of the builder's."""
    document = spec(f"201010{number + 10}")
    return document.model_copy(update={"builder": document.builder.model_copy(update={"shared": True, **changes})})


def driven_jobs(store: Store, count: int, **changes: object) -> list[str]:
    """Plan jobs that share, and claim them."""
    ids = plan(store, *(sharing(number, **changes) for number in range(count)))
    for job_id in ids:
        claim(store, job_id)
    return ids


def claim(store: Store, job_id: str, seconds: float = 60.0) -> None:
    with store.write() as conn:
        assert leases.claim(conn, job_id, owner="one", now=NOW, until=NOW + seconds, status=Status.RUNNING)


def board(store: Store, job_id: str, now: float = NOW) -> str:
    job = job_of(store, job_id)
    with store.write() as conn:
        return seats.board(conn, job, now)


def seat_of(store: Store, job_id: str) -> Seat:
    seat = job_of(store, job_id).seat
    assert seat is not None
    return seat


def leave(store: Store, job_id: str, *, seal: bool = False) -> bool:
    seat = seat_of(store, job_id)
    with store.write() as conn:
        return seats.leave(conn, seat, NOW, seal=seal)


def launch(store: Store, job: Job) -> Resource:
    """Record the host's group and instance, and something of its own."""
    with store.write() as conn:
        for kind, purpose in ((Kind.GROUP, "group"), (Kind.INSTANCE, "builder.0"), (Kind.VOLUME, "root.0")):
            told = {"kind": kind, "purpose": purpose, "token": f"{job.id}-{purpose}", "request": {}, "now": NOW}
            number = effects.intend(conn, job, **told)  # type: ignore[arg-type]
            effects.made(conn, number, f"{kind}-1", NOW)
    return next(row for row in job_of(store, job.id).live(Kind.INSTANCE))


def side_by_side(count: int, work: object) -> list[object]:
    """Do something ``count`` times at once."""
    ready = threading.Barrier(count)

    def one(number: int) -> object:
        ready.wait()
        return work(number)  # type: ignore[operator]

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_many_that_come_at_once_one_is_the_host_and_each_has_a_device_of_its_own(store: Store) -> None:
    ids = driven_jobs(store, MANY)

    def come(number: int) -> None:
        while not board(store, ids[number]):
            pass

    side_by_side(MANY, come)
    found = [seat_of(store, job_id) for job_id in ids]
    assert len({seat.builder for seat in found}) == 1
    assert sorted(seat.slot for seat in found) == list(range(MANY))
    (host,) = {seat.host_job for seat in found}
    assert seat_of(store, host).slot == 0


def test_of_many_that_leave_at_once_exactly_one_is_the_last(store: Store) -> None:
    ids = driven_jobs(store, MANY)
    for job_id in ids:
        board(store, job_id)
    launch(store, job_of(store, ids[0]))
    assert sum(bool(last) for last in side_by_side(MANY, lambda number: leave(store, ids[number]))) == 1
    for job_id in ids:
        job = job_of(store, job_id)
        assert job.seat is None
        assert [row.kind for row in job.left_behind] == [Kind.GROUP, Kind.INSTANCE]


def test_who_comes_while_the_last_one_leaves_has_a_builder_that_nobody_ends(store: Store) -> None:
    first, second = driven_jobs(store, 2)
    board(store, first)
    launch(store, job_of(store, first))
    side_by_side(2, lambda number: leave(store, first) if number else board(store, second))
    guest, host = job_of(store, second), job_of(store, first)
    if guest.seat is not None and guest.seat.host_job == first:
        assert host.lent
        assert not host.left_behind
    else:
        assert host.left_behind


def test_the_builder_is_the_hosts_to_remove_only_when_all_have_left(store: Store) -> None:
    host, guest = driven_jobs(store, 2)
    assert board(store, host) == "launches a builder that others may share"
    row = launch(store, job_of(store, host))
    assert board(store, guest) == f"shares the builder of {host} as /dev/sdg"
    there = job_of(store, guest)
    assert there.builder == row
    assert there.keys == (host, 1)
    assert there.hosts == {host}

    assert not leave(store, host)
    assert [each.kind for each in job_of(store, host).own()] == [Kind.VOLUME]
    assert leave(store, guest)
    assert [each.kind for each in job_of(store, host).own()] == [Kind.GROUP, Kind.INSTANCE, Kind.VOLUME]
    assert row in job_of(store, guest).left_behind
    assert job_of(store, guest).hosts == {host}


@pytest.mark.parametrize("change", [{"image": "ami-other"}, {"ssh_user": "admin"}, {"subnets": ("subnet-1",)}])
def test_jobs_that_need_another_builder_do_not_share(store: Store, change: dict[str, object]) -> None:
    driven_jobs(store, 1)
    (other,) = plan(store, sharing(9, **change))
    board(store, job_of(store, "lucid-server-20101010-amd64-us-east-1").id)
    assert board(store, other) == "launches a builder that others may share"


def test_a_sealed_builder_is_joined_by_nobody(store: Store) -> None:
    host, guest, late = driven_jobs(store, 3)
    board(store, host)
    launch(store, job_of(store, host))
    board(store, guest)
    leave(store, guest, seal=True)
    assert board(store, late) == "launches a builder that others may share"
    assert seat_of(store, host).active == 1


def test_a_full_builder_is_followed_by_the_next(store: Store) -> None:
    ids = driven_jobs(store, len(seats.DEVICES) + 1)
    for job_id in ids:
        board(store, job_id)
    *all_but_one, last = (seat_of(store, job_id) for job_id in ids)
    assert {seat.builder for seat in all_but_one} == {all_but_one[0].builder}
    assert (last.builder == all_but_one[0].builder, last.slot, last.host_job) == (False, 0, ids[-1])


def test_a_place_is_given_once_though_its_holder_has_left(store: Store) -> None:
    host, second, third = driven_jobs(store, 3)
    for job_id in (host, second):
        board(store, job_id)
    leave(store, second)
    board(store, third)
    assert seat_of(store, third).slot == 2


def test_a_host_that_nobody_drives_is_not_waited_for_unless_its_builder_is_there(store: Store) -> None:
    host, early, late = driven_jobs(store, 3)
    board(store, host)
    assert board(store, early, now=NOW + 61) == "launches a builder that others may share"
    launch(store, job_of(store, early))
    assert board(store, late, now=NOW + 61).startswith("shares")


def test_the_database_refuses_a_second_open_builder_and_a_second_place(store: Store) -> None:
    host, guest = driven_jobs(store, 2)
    board(store, host)
    seat = seat_of(store, host)
    again = {
        "region": "us-east-1",
        "pool": seats.pool_of(sharing(0).builder, None),
        "host_job": guest,
        "host_attempt": 1,
    }
    with pytest.raises(sa.exc.IntegrityError), store.write() as conn:
        conn.execute(tables.shared_builders.insert(), {**again, "opened_at": NOW})
    place = {"builder": seat.builder, "attempt": 1, "joined_at": NOW}
    for told in ({"job_id": guest, "slot": 0}, {"job_id": host, "slot": 1}, {"job_id": guest, "slot": 11}):
        with pytest.raises(sa.exc.IntegrityError), store.write() as conn:
            conn.execute(tables.occupants.insert(), {**place, **told})


def test_a_list_of_jobs_shows_their_places(store: Store) -> None:
    host, guest = driven_jobs(store, 2)
    for job_id in (host, guest):
        board(store, job_id)
    with store.read() as conn:
        assert [job.seat.slot for job in jobs.find(conn) if job.seat is not None] == [0, 1]
