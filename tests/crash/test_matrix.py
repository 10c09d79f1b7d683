"""Killed at any instruction that matters, `ebspub resume` finishes: one AMI, the right tree, nothing left or repeated.

The points are those of a recorded run: just before and just after each API call takes effect, just before and just
after each commit, and each phase of the work on the builder. `make test` tries the calls that make something, `make
test-long` a share of all, `make crash` all.
Several publishers are killed at a time, each in a region of its own.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.crash.matrix import Outcome, try_point
from tests.crash.points import QUICK, Kind, Point, Quick, Recording, quick
from tests.support.variants import few

pytestmark = [pytest.mark.timeout(3600)]

#: Publishers at a time, each in a region of its own. More than processors: they mostly wait.
WIDTH = 6
#: Where EC2 hides what was made they wait even more.
PATIENT_WIDTH = 10
REGIONS = (
    *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "eu-west-2"),
    *("eu-central-1", "sa-east-1", "ap-southeast-1", "ap-northeast-1"),
)
#: `make test-long` tries one point in so many, from an offset that differs from kind to kind. Odd: `before` and `after`
#: take turns in the order of the points.
SHARES: dict[Kind, tuple[int, int]] = {"look": (13, 2), "commit": (17, 6), "phase": (5, 2)}
#: Seconds for which the cloud hides what was made, so that who starts again looks in vain; and what is told of it.
HIDDEN, LISTING_LAG = 4.5, 5.5
Attempt = Callable[[Sequence[Kind], int, Callable[[str], str], Callable[[Point], bool]], None]
_MAKING = ("Create", "Run", "Register")


@pytest.fixture
def attempt(
    stage: Quick,
    recording: Recording,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    subtests: pytest.Subtests,
) -> Attempt:
    """Return what tries all points (or a share of them) of some kinds, and fails for each where anything is wrong."""
    whole = request.config.getoption("--whole")

    def attempt(kinds: Sequence[Kind], width: int, edit: Callable[[str], str], wanted: Callable[[Point], bool]) -> None:
        points = [p for kind in kinds for p in _chosen(kind, recording, whole=whole) if wanted(p)]
        outcomes = _try_all(stage, points, recording, tmp_path, width, edit)
        record_property("crash-points", [_row(outcome) for outcome in outcomes])
        for outcome in outcomes:
            with subtests.test(msg=str(outcome.point)):
                assert outcome.problems == []
                assert outcome.killed or _may_be_missed(outcome.point, recording)

    return attempt


@pytest.mark.parametrize("making", few([True], [True, False], rest="long"), ids=["making", "other"])
def test_killed_at_a_call_it_finds_what_the_call_made_although_ec2_hides_it(
    stage: Quick, attempt: Attempt, making: bool
) -> None:
    def wanted(point: Point) -> bool:
        return point.action.startswith(_MAKING) == making

    stage.cloud.configure(QUICK.model_copy(update={"listing_lag": HIDDEN}))
    try:
        attempt(["call"], PATIENT_WIDTH, partial(quick, listing_lag=LISTING_LAG, poll_interval=1.0), wanted)
    finally:
        stage.cloud.configure(QUICK)


@pytest.mark.long
def test_killed_anywhere_else_it_resumes_and_repeats_one_call_at_most(attempt: Attempt) -> None:
    attempt(["look", "commit", "phase"], WIDTH, quick, lambda _point: True)


def test_the_points_cover_every_call_and_every_phase(recording: Recording) -> None:
    points = recording.points()
    assert all(points.values())
    assert {p.action for p in points["call"]} | {p.action for p in points["look"]} == {
        c.action for c in recording.calls
    }
    assert {"download", "extract", "copy", "verify"} <= {p.action for p in points["phase"]}


def _chosen(kind: Kind, recording: Recording, *, whole: bool) -> list[Point]:
    points = recording.points()[kind]
    if whole:
        return points
    if kind == "call":  # Each once, where most is at stake: what was made may be forgotten, what was not done left out.
        return [point for point in points if (point.when == "after") == point.action.startswith(_MAKING)]
    step, offset = SHARES[kind]
    return points[offset::step]


def _try_all(
    stage: Quick, points: list[Point], recording: Recording, folder: Path, width: int, edit: Callable[[str], str]
) -> list[Outcome]:
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for region in REGIONS[:width]:
        free.put(region)

    def try_one(number: int, point: Point) -> Outcome:
        home = folder / str(number)
        home.mkdir()
        publisher = stage.at(home)
        region = free.get()
        try:
            return try_point(publisher, region, point, recording.changes, edit=edit)
        finally:
            publisher.end()
            free.put(region)

    with ThreadPoolExecutor(max_workers=width) as pool:
        return list(pool.map(try_one, range(len(points)), points))


def _may_be_missed(point: Point, recording: Recording) -> bool:
    """Whether a run may be through earlier than the recorded one: how often it looks and waits differs a little."""
    if point.kind == "look":
        return point.nth > 0.7 * sum(call.action == point.action for call in recording.calls)
    return point.kind == "commit" and point.nth > 0.85 * len(recording.commits)


def _row(outcome: Outcome) -> tuple[str, str, str, str, str]:
    point = outcome.point
    action = f"{point.action} #{point.nth}"
    return (point.kind, action, point.when, f"{outcome.seconds:.1f}", outcome.verdict)
