"""Killed at any instruction that matters, `ebspub resume` finishes: one AMI, the right tree, nothing left or repeated.

The points are those of a recorded run: just before and just after each API call takes effect, just before and just
after each commit, and each phase of the work on the builder. `make test` tries a share of them, `make crash` all.
Several publishers are killed at a time, each in a region of its own.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.matrix import Outcome, try_point
from tests.crash.points import Kind, Point, Quick, Recording, thin

pytestmark = [pytest.mark.xdist_group("crash"), pytest.mark.timeout(3600)]

#: Regions, and so publishers at a time: more than processors, for publishers mostly wait.
REGIONS = ("us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "sa-east-1", "ap-southeast-1")
#: `make test` tries one point in so many, from an offset that differs from kind to kind.
SHARE = 6
OFFSETS: dict[Kind, int] = {"call": 2, "look": 7, "commit": 5, "phase": 4}


@pytest.mark.parametrize("kind", OFFSETS)
def test_killed_anywhere_it_resumes_and_repeats_one_call_at_most(
    kind: Kind,
    stage: Quick,
    recording: Recording,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
    subtests: pytest.Subtests,
) -> None:
    points = recording.points()[kind]
    if not request.config.getoption("--whole-matrix", default=False):
        points = thin(points, SHARE, OFFSETS[kind])
    assert points

    outcomes = _try_all(stage, points, recording, tmp_path)

    record_property("crash-points", [_row(outcome) for outcome in outcomes])
    for outcome in outcomes:
        with subtests.test(msg=str(outcome.point)):
            assert outcome.problems == []
    missed = [str(outcome.point) for outcome in outcomes if not outcome.killed]
    assert all(_may_be_missed(outcome.point, recording) for outcome in outcomes if not outcome.killed), missed


def _try_all(stage: Quick, points: list[Point], recording: Recording, folder: Path) -> list[Outcome]:
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for region in REGIONS:
        free.put(region)

    def try_one(number: int, point: Point) -> Outcome:
        home = folder / str(number)
        home.mkdir()
        publisher = stage.at(home)
        region = free.get()
        try:
            return try_point(publisher, region, point, recording.changes)
        finally:
            publisher.end()
            free.put(region)

    with ThreadPoolExecutor(max_workers=len(REGIONS)) as pool:
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
