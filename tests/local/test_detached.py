"""The copy goes on without us, is found again, and what became of it is known; nobody pays for a builder forever."""

from __future__ import annotations

from typing import Any

import pytest

from ebspub.localcloud import Effect, Rule
from tests.local.away import (
    CALLS,
    Images,
    calls,
    database,
    freeze,
    heartbeat,
    holding,
    kill,
    leader_of,
    machine,
    pass_time,
    reconfigure,
    sessions,
    task_of,
    until,
)
from tests.local.publisher import Publisher

pytestmark = [pytest.mark.long, pytest.mark.needs_root, pytest.mark.needs_tool("nsenter", "unshare")]
#: What the timer leaves on the console of a builder that nobody came back to.
WORD = "ebspub: no publisher for 1800 s, shutting down"


def copying(publisher: Publisher, images: Images) -> dict[str, Any]:
    """Wait until the builder of the only job downloads; return the job."""
    until(lambda: images.asked)
    (job,) = publisher.status()
    return job


def test_a_connection_that_is_cut_is_made_again_and_the_copy_is_not_started_again(publisher: Publisher) -> None:
    with holding(publisher) as images:
        process = publisher.start("run", "--arch", "amd64")
        job = copying(publisher, images)
        leader = until(lambda: leader_of(publisher, job["id"]))
        cut = until(lambda: sessions(publisher.cloud))
        kill(cut)
        until(lambda: sessions(publisher.cloud) - cut)

        assert leader_of(publisher, job["id"]) == leader
        images.go.set()

        assert process.wait(90) == 0, (publisher.folder / "err").read_text()
        assert len(images.asked) == 1
    publisher.assert_published(["us-east-1"], ["amd64"])
    assert calls(database(publisher)) == {job["id"]: CALLS}


def test_after_a_reboot_of_the_publishers_host_the_copy_is_found_again(publisher: Publisher) -> None:
    with holding(publisher) as images:
        before = machine(publisher, boot="2f6d1b1c-0000-4000-8000-000000000000").start("run", "--arch", "amd64")
        job = copying(publisher, images)
        leader = until(lambda: leader_of(publisher, job["id"]))
        # Not killed: after a reboot, another process may have its id and even its start time. Only the boot tells.
        freeze(publisher, before)
        attached = sessions(publisher.cloud)

        after = publisher.start("resume")

        until(lambda: sessions(publisher.cloud) - attached)
        assert leader_of(publisher, job["id"]) == leader
        images.go.set()
        assert after.wait(90) == 0, (publisher.folder / "err").read_text()
        assert len(images.asked) == 1
    publisher.assert_published(["us-east-1"], ["amd64"])
    assert calls(database(publisher)) == {job["id"]: CALLS}


def test_a_copy_that_was_killed_is_told_from_one_that_runs(publisher: Publisher) -> None:
    with holding(publisher) as images:
        reconfigure(publisher, images, lambda text: text.replace("[limits]", "[limits]\nattempts = 1"))
        process = publisher.start("run", "--arch", "amd64")
        job = copying(publisher, images)
        process.kill()
        process.wait()
        kill(until(lambda: task_of(publisher, job["id"])))

        done = publisher.call("resume")

    assert done.returncode == 3, done.stdout + done.stderr
    (job,) = publisher.status()
    assert job["status"] == "failed"
    assert "the task was killed, or its host was rebooted (attempt 1 of 1)" in job["error"]["message"]
    publisher.assert_nothing_left()


def test_a_builder_waits_while_a_publisher_looks_and_ends_itself_when_nobody_comes_back(publisher: Publisher) -> None:
    busy = Effect(kind="error", code="ServiceUnavailable", status=503, message="try again shortly")
    number = publisher.cloud.add_fault(Rule(effects=(busy,), actions=frozenset({"AttachVolume"}), times=None))
    with holding(publisher) as images:
        process = publisher.start("run", "--arch", "amd64")
        publisher.wait_for(lambda jobs: bool(jobs) and bool(jobs[0]["volume_id"]))
        builder = publisher.status()[0]["instance_id"]
        first = until(lambda: heartbeat(publisher, builder))
        until(lambda: heartbeat(publisher, builder) != first)
        publisher.cloud.remove_fault(number)
        job = copying(publisher, images)
        process.kill()
        process.wait()
        pass_time(publisher, builder, 1801)
        images.go.set()

        done = publisher.call("resume")

    assert done.returncode == 0, done.stdout + done.stderr
    assert WORD in done.stderr
    assert WORD in publisher.call("show", job["id"]).stdout
    publisher.assert_published(["us-east-1"], ["amd64"])
    assert publisher.status()[0]["attempt"] == 2
