"""What builders and sources say of the artefact: which of it ends a job, and what a person is told to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ebspub.states import State, Status
from ebspub.store import Job, jobs
from tests.simulation.builders import SimulatedShell
from tests.simulation.chaos import Weather
from tests.simulation.world import SHA256, World, story


def the_job(world: World) -> Job:
    with world.store.read() as conn:
        (job,) = jobs.find(conn)
    return job


def go(monkeypatch: pytest.MonkeyPatch, said: Callable[[str], str]) -> Job:
    """Let one publisher work on whose builders ``said`` is put over how their work ended; return its job."""
    world = World(3, weather=Weather())
    world.plan()
    report = SimulatedShell._report

    def changed(self: SimulatedShell, task: dict[str, Any] | None) -> str:
        told = report(self, task)
        return said(told) if "state ended" in told else told

    monkeypatch.setattr(SimulatedShell, "_report", changed)
    assert world.go() == "through", story(world)
    return the_job(world)


@pytest.mark.parametrize(
    ("code", "todo"),
    [
        ("too-small", "Raise volume.size, then `ebspub run`."),
        ("gone", "Look at the source"),
        ("bad-image", "Look at the source"),
    ],
)
def test_what_another_builder_would_meet_again_ends_the_job_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, code: str, todo: str
) -> None:
    result = f"outcome=failed code={code} phase=copy message=no status=1".split()
    told = "\n".join(["ebspub-report 1", "state ended", *(f"result {line}" for line in result), "end", ""])
    job = go(monkeypatch, lambda _: told)
    assert (job.status, job.attempt) == (Status.FAILED, 2)  # the first is over, and its builder gone
    assert job.error is not None
    assert job.error.code == code
    assert todo in job.error.todo


def test_an_artefact_that_is_not_the_proved_one_is_never_registered_whatever_the_builder_thinks_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = go(monkeypatch, lambda told: told.replace(SHA256, "0" * 64))
    assert (job.status, job.state, job.attempt) == (Status.FAILED, State.PENDING, 2)
    assert job.error is not None
    assert job.error.code == "checksum"
    assert "0" * 64 in job.error.message


def test_a_source_that_does_not_answer_is_not_told_as_a_builder_that_does_not() -> None:
    world = World(3, weather=Weather(copy_fails=1.0), method="direct")
    world.plan()
    world.go(until=world.clock.now() + 200.0)
    job = the_job(world)
    assert job.error is not None
    assert "the source does not answer" in job.error.message
    assert job.error.code == "source"
