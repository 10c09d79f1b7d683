"""The words of a job, and what may follow what."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transitions import MachineError

from ebspub.states import STEP_AFTER, Kind, Lifecycle, State, Status

LIFE = Lifecycle()
ORDER = list(State)
P, L, A, F, S, R = State
#: All there is: what is not here cannot happen.
EDGES = {
    # forward, one step at a time
    (P, "launch", L),
    (L, "attach", A),
    (A, "populate", F),
    (F, "snapshot", S),
    (S, "register", R),
    # back to the start, with the next attempt
    (P, "lose_builder", P),
    (L, "lose_builder", P),
    (A, "lose_builder", P),
    (L, "lose_volume", P),
    (A, "lose_volume", P),
    (F, "lose_volume", P),
    (A, "lose_snapshot", P),
    (F, "lose_snapshot", P),
    (S, "lose_snapshot", P),
    # a cancelled job that is asked for again
    (P, "revive", P),
    (L, "revive", P),
    (A, "revive", P),
    (F, "revive", P),
    (S, "revive", P),
    # the AMI exists already
    (P, "adopt", R),
    (L, "adopt", R),
    (A, "adopt", R),
    (F, "adopt", R),
    (S, "adopt", R),
}
TRIGGERS = sorted({trigger for _, trigger, _ in EDGES})


def test_the_words_are_these_and_no_others() -> None:
    assert ORDER == ["pending", "launched", "attached", "populated", "snapshotted", "registered"]
    assert list(Status) == ["waiting", "running", "failed", "cancelling", "cancelled", "done"]
    assert list(Kind) == ["instance", "volume", "snapshot", "image", "security-group"]


def test_the_edges_are_these_and_no_others() -> None:
    assert LIFE.edges == EDGES


@pytest.mark.parametrize("trigger", TRIGGERS)
@pytest.mark.parametrize("source", State)
def test_a_trigger_leads_where_the_table_says_or_nowhere(source: State, trigger: str) -> None:
    targets = {dest for a, name, dest in EDGES if (a, name) == (source, trigger)}
    if targets:
        assert {LIFE.target(source, trigger)} == targets
    else:
        with pytest.raises(MachineError, match=f"no edge '{trigger}'"):
            LIFE.target(source, trigger)


def test_every_state_but_the_last_has_one_step() -> None:
    assert list(STEP_AFTER) == ORDER[:-1]
    for source, step in STEP_AFTER.items():
        assert LIFE.target(source, step) is ORDER[ORDER.index(source) + 1]


@pytest.mark.parametrize(
    "trigger", ["", "fly", "Launch", "to_registered", "may_launch", "state", "trigger", "is_pending", "__class__"]
)
@pytest.mark.parametrize("source", State)
def test_an_unknown_trigger_is_a_defect_and_never_a_transition(source: State, trigger: str) -> None:
    with pytest.raises(MachineError):
        LIFE.target(source, trigger)


@given(st.lists(st.sampled_from(TRIGGERS), max_size=30))
def test_no_way_skips_a_state_forward_except_by_adopting(triggers: list[str]) -> None:
    state = State.PENDING
    for trigger in triggers:
        try:
            following = LIFE.target(state, trigger)
        except MachineError:
            continue
        gone = ORDER.index(following) - ORDER.index(state)
        assert gone == 1 or trigger == "adopt" or following is State.PENDING
        assert state is not State.REGISTERED, "nothing follows the end"
        state = following


@given(st.lists(st.sampled_from(TRIGGERS), max_size=30))
def test_registered_is_in_reach_from_wherever_a_job_got(triggers: list[str]) -> None:
    state = State.PENDING
    for trigger in triggers:
        if any((state, trigger) == (source, name) for source, name, _ in EDGES):
            state = LIFE.target(state, trigger)
    steps = 0
    while state is not State.REGISTERED:
        state, steps = LIFE.target(state, STEP_AFTER[state]), steps + 1
    assert steps <= 5


@pytest.fixture
def hasty() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_that_ask_at_once_get_their_own_answers(hasty: None) -> None:
    """The engine's threads share one lifecycle."""
    shared, start = Lifecycle(), threading.Barrier(8)
    asked = sorted(EDGES)

    def ask(number: int) -> None:
        start.wait(20)
        for turn in range(400):
            source, trigger, dest = asked[(number * 7 + turn) % len(asked)]
            assert shared.target(source, trigger) is dest

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(ask, number) for number in range(8)]:
            future.result()
