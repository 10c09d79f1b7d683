"""What the program of every earlier revision wrote is gone on with: every job ends with one AMI and nothing left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ebspub.states import Status
from ebspub.store import EffectStatus, Job, Presence, Store, effects, jobs, migrate, notices, releases
from ebspub.store.database import connect
from tests.migrations import freeze, thaw
from tests.migrations.test_revisions import REVISIONS, schema
from tests.simulation.world import World, story
from tests.support.variants import few


def jobs_of(world: World) -> list[Job]:
    """Return all jobs of a world."""
    with world.store.read() as conn:
        return jobs.find(conn)


@pytest.mark.parametrize("revision", few(REVISIONS[-1:], REVISIONS, rest="long"))
def test_jobs_of_an_older_program_resume(url: str, revision: str) -> None:
    thaw.lay(url, revision)
    with thaw.thawed(url, revision) as world:
        assert migrate.current(world.store.engine) == migrate.HEAD
        cancelling = {job.id for job in jobs_of(world) if job.cancel_requested}

        thaw.resume(world)

        ended = {job.id: job.status for job in jobs_of(world)}
        assert {job_id for job_id, status in ended.items() if status is Status.CANCELLED} == cancelling
        assert {status for job_id, status in ended.items() if job_id not in cancelling} == {Status.DONE}, story(world)
        thaw.resume(world, sorted(cancelling))
        assert world.violations() == [], story(world)


@pytest.fixture(scope="module", params=REVISIONS)
def untouched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield the world of a revision, nothing done in it yet."""
    url = f"sqlite:///{tmp_path_factory.mktemp('untouched') / 'ebspub.db'}"
    thaw.lay(url, request.param)
    with thaw.thawed(url, request.param) as world:
        yield world


def test_a_frozen_database_has_jobs_in_every_state_and_status(untouched: World) -> None:
    assert {(job.state, job.status) for job in jobs_of(untouched)} == set(freeze.possible())
    assert {job.attempt for job in jobs_of(untouched)} >= {1, 2}


def test_a_frozen_database_has_leases_of_the_dead_that_have_ended(untouched: World) -> None:
    leases = [job.lease for job in jobs_of(untouched) if job.status in (Status.RUNNING, Status.CANCELLING)]
    assert len(leases) > 20
    assert all(lease is not None and lease.until < untouched.clock.now() for lease in leases)


def test_a_frozen_database_has_open_intents_of_things_that_were_made_and_of_some_that_were_not(
    untouched: World,
) -> None:
    (region,) = untouched.regions.values()
    tokens = {thing.tags.get("ebspub:token") for thing in region.things.values()}
    rows = [row for job in jobs_of(untouched) for row in job.resources if row.presence is Presence.INTENDED]
    with untouched.store.read() as conn:
        calls = [call for job in jobs_of(untouched) for call in effects.history(conn, job.id)]
    kinds = {"security-group", "instance", "volume", "snapshot", "image"}
    assert {row.kind.value for row in rows if row.token in tokens} == kinds
    assert {row.kind.value for row in rows if row.token not in tokens} == kinds
    assert {call.action for call in calls if call.status is EffectStatus.OPEN} >= set(freeze.CALLS)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_revision_is_never_changed_once_a_program_has_written_it(tmp_path: Path, revision: str) -> None:
    thaw.lay(f"sqlite:///{tmp_path / 'frozen.db'}", revision)
    frozen, made = (connect(f"sqlite:///{tmp_path / name}.db") for name in ("frozen", "made"))
    migrate.upgrade(made, revision)
    try:
        assert schema(frozen) == schema(made)
    finally:
        frozen.dispose()
        made.dispose()


def test_a_revision_without_a_frozen_database_is_told_how_to_make_one() -> None:
    with pytest.raises(AssertionError, match=r"python -m tests\.migrations\.freeze"):
        thaw.dump("9999")


def test_what_is_frozen_is_a_revision() -> None:
    assert sorted(file.stem for file in freeze.FROZEN.glob("*.sql")) == sorted(REVISIONS)


def test_a_frozen_database_is_never_written_anew() -> None:
    with pytest.raises(SystemExit, match="never written anew"):
        freeze.freeze(freeze.FROZEN)


def test_the_maker_makes_what_can_be_gone_on_with(tmp_path: Path) -> None:
    """So that it works on the day on which a revision needs it."""
    assert freeze.freeze(tmp_path).name == f"{migrate.HEAD}.sql"
    assert (tmp_path / f"{migrate.HEAD}.json").exists()


def test_of_what_an_older_program_has_published_nobody_is_told_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ebspub.db'}"
    thaw.lay(url, "0003")
    engine = connect(url)
    with engine.begin() as conn:
        conn.exec_driver_sql(
            "UPDATE releases SET state = 'published', published_at = 5.0, lease_owner = NULL, lease_until = NULL"
        )
    engine.dispose()
    with Store.open(url) as store, store.write() as conn:
        (release,) = releases.find(conn)
        (shown,) = releases.announced(conn)
        ((notice, ended_at),) = notices.history(conn, [release.id])
        assert (notice.jobs, ended_at, release.settled) == (frozenset({shown.job_id}), 5.0, release.epoch)
        assert not notices.add(conn, release, 6.0)
        assert notices.take(conn, "teller", 6.0, lambda _: 7.0) == []
