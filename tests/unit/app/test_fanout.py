"""A copy or an own snapshot: decided once, kept; and the primary comes along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebspub.app import experience, fanout
from ebspub.app.estimate import Known
from ebspub.app.plan import Action, Planned, total
from ebspub.app.plan import plan as look
from ebspub.spec import FanOut, JobSpec
from ebspub.states import State, Status
from ebspub.store import Store, events, jobs, tables
from tests.contract.store.rows import NOW, driven, job_of, plan, spec
from tests.simulation.clients import SimulatedClients

#: A tenth of a GiB is copied for less than a builder costs, ten are not.
SMALL, LARGE = (Known(facts={"lucid server amd64": {"bytes": size}}) for size in (10 << 20, 8 << 30))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path}/ebspub.db") as made:
        yield made


def wished(when: Any = "cheaper", **changes: Any) -> JobSpec:
    """Return a job that could copy, as the configuration has it."""
    why = "fan_out.when is always" if when == "always" else ""
    return spec(region="eu-west-1", fan_out=FanOut(region="us-east-1", when=when, copies=True, why=why), **changes)


def decided(document: JobSpec, known: Known, store: Store | None = None) -> FanOut:
    (found,) = fanout.decide([document], store, known)
    assert found.fan_out is not None
    return found.fan_out


def put(store: Store, job_id: str, **values: Any) -> None:
    with store.write() as conn:
        conn.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(**values))


def test_what_costs_less_is_done_and_why_is_told() -> None:
    copies, own = decided(wished(), SMALL), decided(wished(), LARGE)
    assert (copies.copies, own.copies) == (True, False)
    assert copies.why == "copying 11 MiB from us-east-1 costs about $0.001, a builder here $0.003"
    assert own.why.startswith("copying 8.0 GiB from us-east-1 costs about $0.16, a builder here $0.")
    assert decided(wished("always"), LARGE).copies
    assert "putting its blocks here" in decided(wished(method="direct"), LARGE).why


def test_who_shares_a_builder_compares_the_copy_with_its_share_of_it() -> None:
    def crew(count: int) -> list[JobSpec]:
        wanted = [wished(serial=f"2010102{day}") for day in range(count)]
        return [
            each.model_copy(update={"builder": each.builder.model_copy(update={"shared": True})}) for each in wanted
        ]

    known = Known(facts={"lucid server amd64": {"bytes": 110 << 20}})
    (alone,) = fanout.decide(crew(1), None, known)
    shared = fanout.decide(crew(4), None, known)
    assert alone.fan_out is not None
    assert alone.fan_out.copies
    assert "a builder here $" in alone.fan_out.why
    for each in shared:
        assert each.fan_out is not None
        assert not each.fan_out.copies
        assert "its share of a builder here that 4 jobs use $" in each.fan_out.why


def test_without_a_wish_nothing_is_decided() -> None:
    assert fanout.decide([spec()], None, SMALL) == (spec(),)


def test_a_decision_to_copy_stays_whatever_is_known_later(store: Store) -> None:
    first = wished().model_copy(update={"fan_out": decided(wished(), SMALL)})
    plan(store, first)
    assert decided(wished(), LARGE, store) == first.fan_out


def test_a_decision_against_is_told_in_the_same_words_until_it_changes(store: Store) -> None:
    first = wished().model_copy(update={"fan_out": decided(wished(), LARGE)})
    plan(store, first)
    larger = Known(facts={"lucid server amd64": {"bytes": 7 << 30}})
    assert decided(wished(), larger, store) == first.fan_out
    assert decided(wished(), SMALL, store).copies


def test_what_kept_a_region_from_copying_is_not_told_when_it_is_gone(store: Store) -> None:
    other = FanOut(region="us-east-1", when="cheaper", copies=False, why="the volume has 9 GiB in eu-west-1")
    plan(store, wished().model_copy(update={"fan_out": other}))
    assert decided(wished(), LARGE, store).why.startswith("copying ")


def test_another_wish_is_decided_anew(store: Store) -> None:
    plan(store, wished().model_copy(update={"fan_out": decided(wished(), SMALL)}))
    assert decided(wished("always"), LARGE, store).why == "fan_out.when is always"


def followed(store: Store, job_id: str) -> list[str]:
    with store.read() as conn:
        return [job.id for job in fanout.followed(conn, jobs.find(conn, ids=[job_id]), NOW)]


def test_a_primary_comes_along_until_it_has_its_snapshot_or_is_driven_by_others(store: Store) -> None:
    primary, copy = plan(store, spec(), wished("always"))
    assert followed(store, copy) == [primary]
    put(store, primary, status="failed", error={"message": "x"})
    assert followed(store, copy) == [primary]
    put(store, primary, status="waiting", state="snapshotted", snapshot_id="snap-1")
    assert followed(store, copy) == []
    put(store, primary, state="pending", status="running", lease_owner="another/host", lease_until=NOW + 60)
    assert followed(store, copy) == []
    put(store, primary, status="cancelled", lease_owner=None, lease_until=None, ended_at=NOW)
    assert followed(store, copy) == []


def test_a_copy_that_has_what_it_needs_brings_nobody(store: Store) -> None:
    _, copy = plan(store, spec(), wished("always"))
    put(store, copy, state="populated")
    assert followed(store, copy) == []
    put(store, copy, state="pending", status="cancelled", ended_at=NOW)
    assert followed(store, copy) == [spec().job_id]  # driven although cancelled, it begins again


def test_a_primary_is_planned_with_its_copy_unless_it_is_through(store: Store) -> None:
    copy = wished("always")
    assert fanout.needed([copy], None) == fanout.needed([copy], store) == {copy.primary}
    plan(store, spec())
    assert fanout.needed([copy], store) == {copy.primary}
    put(store, spec().job_id, state="snapshotted", snapshot_id="snap-1")
    assert fanout.needed([copy], store) == set()
    assert fanout.needed([spec("2")], store) == set()


def test_the_past_is_told_by_medians_of_the_last_attempts(store: Store) -> None:
    for number, seconds in enumerate((10.0, 30.0, 900.0)):
        job, lease = driven(store, spec(f"2010102{number}"))
        with store.write() as conn:
            for attempt, taken in ((1, 5000.0), (2, seconds)):
                change = (State.PENDING, State.LAUNCHED)
                told = {"seconds": taken}
                events.add(conn, job.id, NOW, attempt=attempt, epoch=1, action="launch", change=change, facts=told)
            change = (State.SNAPSHOTTED, State.REGISTERED)
            events.add(conn, job.id, NOW, attempt=2, epoch=1, action="register", change=change, facts={"seconds": 1.0})
            ids = {"ami_id": f"ami-{number}", "snapshot_id": f"snap-{number}", "ended_at": NOW + number, "attempt": 2}
            done = {"status": "done", "state": "registered", "lease_owner": None, "lease_until": None}
            jobs.change(conn, job.id, lease, NOW, facts={"bytes": number}, **ids, **done)
    known = experience.known([spec()], store, {"u": 1})
    assert known.steps["filesystem", "launch"] == 30.0
    assert (known.jobs, known.facts["lucid server amd64"]["bytes"], known.sizes) == (3, 2, {"u": 1})


def ways(planned: list[Planned]) -> list[tuple[str, str]]:
    return [(each.way, each.why) for each in planned]


def test_the_plan_says_which_way_each_goes_and_why(store: Store) -> None:
    clients: Any = SimulatedClients({})
    mine, copy, own = spec(), wished("always"), spec(region="ap-south-1", method="direct")
    plan(store, mine, copy, own)
    planned = look([mine, copy, own], store, clients, NOW, learned=SMALL)
    assert ways(planned) == [
        ("filesystem on a builder", "its snapshot is copied to 1 region"),
        ("copy of us-east-1's snapshot", "fan_out.when is always"),
        ("direct: no builder", 'method = "direct"'),
    ]
    put(store, mine.job_id, state="registered", status="done", ami_id="ami-1", snapshot_id="snap-1", ended_at=NOW)
    (done,) = look([mine], store, clients, NOW)
    assert (done.action, done.way, done.estimate) == (Action.SKIP, "", None)
    assert job_of(store, mine.job_id).status is Status.DONE


def test_a_copy_of_what_was_cancelled_is_refused_with_what_to_do(store: Store) -> None:
    clients: Any = SimulatedClients({})
    copy = wished("always")
    primary, _ = plan(store, spec(), copy)
    put(store, primary, status="cancelled", ended_at=NOW)
    (planned,) = look([copy], store, clients, NOW)
    assert (planned.action, planned.estimate) == (Action.REFUSE, None)
    assert f"`ebspub resume {primary}` first" in planned.reason
    put(store, copy.job_id, state="populated")
    assert look([copy], store, clients, NOW)[0].action is Action.RESUME


def test_in_all_copies_take_their_time_after_their_primary(store: Store) -> None:
    clients: Any = SimulatedClients({})
    documents = [spec(), wished("always"), spec("2")]
    plan(store, *documents)
    planned = look(documents, store, clients, NOW, learned=SMALL)
    primary, copy, other = (each.estimate for each in planned)
    assert primary is not None
    assert copy is not None
    assert other is not None
    found = total(planned)
    assert found.seconds == primary.before_register + copy.seconds > primary.seconds
    assert found.dollars == pytest.approx(primary.dollars + copy.dollars + other.dollars)
    assert total([]).seconds == 0.0
