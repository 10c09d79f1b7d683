"""Killed in each of the five steps, `ebspub resume` finishes: one AMI each, the right tree, nothing left."""

from __future__ import annotations

import pytest

from ebspub.localcloud import Effect, Rule
from tests.local.publisher import Publisher
from tests.support.variants import few

#: For each step a call in the middle of it.
CALLS = {
    "launch": "RunInstances",
    "attach": "AttachVolume",
    "snapshot": "CreateSnapshot",
    "register": "RegisterImage",
}


# Each call of each step is a point of the crash matrix, too.
@pytest.mark.parametrize("step", few(["register"], CALLS, rest="long"))
def test_killed_at_a_call_of_the_step_whose_answer_is_lost(publisher: Publisher, step: str) -> None:
    process = publisher.start("run")
    kill = Effect(kind="kill", when="after", pid=process.pid)
    publisher.cloud.add_fault(Rule(effects=(kill,), actions=frozenset({CALLS[step]}), nth=1))
    assert process.wait(90) == -9
    assert not all(job["status"] == "done" for job in publisher.status())

    done = publisher.call("resume")

    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_published(["us-east-1"])
    assert {job["attempt"] for job in publisher.status()} == {1}


@pytest.mark.long
def test_a_builder_that_dies_is_replaced(publisher: Publisher) -> None:
    process = publisher.start("run", "--arch", "amd64")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
    publisher.cloud.kill_host(publisher.status()[0]["instance_id"])

    assert process.wait(100) == 0

    (job,) = publisher.status()
    assert job["attempt"] == 2
    publisher.assert_published(["us-east-1"], ["amd64"])
