"""No job is ever driven twice, and none waits longer than it must for a process that is gone."""

from __future__ import annotations

import signal
import time

import pytest
import sqlalchemy as sa

from ebspub.localcloud import Effect, Rule
from ebspub.store import Store, tables
from tests.local.away import CALLS, calls, database, epochs, freeze, holding, lease, machine, reconfigure, until
from tests.local.publisher import Publisher
from tests.support.postgres import Postgres, postgres

__all__ = ["postgres"]  # the fixture

pytestmark = [pytest.mark.long, pytest.mark.needs_root, pytest.mark.needs_tool("unshare")]


def test_stopped_for_longer_than_its_lease_it_makes_no_further_call(publisher: Publisher) -> None:
    """Stopped in the middle of a step, with a look at EC2 in hand by which it would launch a builder."""
    with holding(publisher) as images:
        reconfigure(publisher, images, lambda text: text.replace("[engine]", "[engine]\nlease = 1.5"))
        late = Effect(kind="delay", when="after", seconds=10.0)
        number = publisher.cloud.add_fault(Rule(effects=(late,), actions=frozenset({"DescribeVpcs"}), nth=1))
        first = publisher.start("run", "--arch", "amd64")
        until(lambda: any(rule.id == number and rule.struck for rule in publisher.cloud.faults()))
        freeze(publisher, first)
        reconfigure(publisher, images)
        held = lease(publisher)
        assert held is not None
        until(lambda: time.time() > held.until)
        second = machine(publisher, hostname="elsewhere").start("resume")
        until(lambda: images.asked)
        before = len(publisher.cloud.calls())
        first.send_signal(signal.SIGCONT)

        assert first.wait(60) == 75

        assert publisher.mutating_calls(before) == []
        assert "another process took this job over" in (publisher.folder / "err").read_text()
        assert second.poll() is None
        images.go.set()
        assert second.wait(90) == 0, (publisher.folder / "err").read_text()
    publisher.assert_published(["us-east-1"], ["amd64"])
    ((job_id, made),) = calls(database(publisher)).items()
    assert made == CALLS, job_id
    assert len(publisher.mine(publisher.cloud.inventory().instances)) == 1


def test_two_runs_at_once_from_nothing_drive_each_job_once(publisher: Publisher) -> None:
    both = [publisher.start("run"), publisher.start("run")]

    codes = sorted(process.wait(110) for process in both)

    assert codes in ([0, 0], [0, 75], [75, 75]), (publisher.folder / "err").read_text()
    assert publisher.call("resume").returncode == 0
    publisher.assert_published(["us-east-1"])
    assert list(calls(database(publisher)).values()) == [CALLS, CALLS]
    assert epochs(database(publisher)) == [1, 1]


def test_a_run_and_a_resume_on_two_hosts_drive_each_job_once(publisher: Publisher, postgres: Postgres) -> None:
    url = postgres.create()
    try:
        publisher.configure("us-east-1", edit=lambda text: text.replace(database(publisher), url))
        dying = publisher.start("run")
        publisher.cloud.kill_at(dying.pid, 1, when="before")
        assert dying.wait(90) == -9
        here, there = publisher, machine(publisher, hostname="elsewhere")
        both = [here.start("run"), there.start("resume")]

        codes = sorted(process.wait(110) for process in both)

        assert codes in ([0, 0], [0, 75], [75, 75]), (publisher.folder / "err").read_text()
        assert publisher.call("run").returncode == 0
        publisher.assert_published(["us-east-1"])
        assert epochs(url) == [2, 2]
        for made in calls(url).values():
            # The call in which the first process died was repeated.
            assert made[made.count("CreateSecurityGroup") - 1 :] == CALLS
            assert made.count("CreateSecurityGroup") <= 2
    finally:
        postgres.drop(url)


def test_the_jobs_of_a_dead_host_are_free_when_its_lease_is_over(publisher: Publisher) -> None:
    dying = machine(publisher, hostname="elsewhere").start("run", "--arch", "amd64")
    publisher.cloud.kill_at(dying.pid, 1, when="before")
    assert dying.wait(90) == -9
    ((job_id, _),) = calls(database(publisher)).items()
    before = len(publisher.cloud.calls())

    early = publisher.call("resume")

    assert early.returncode == 75, early.stderr
    assert "another process is at work on it" in early.stderr
    assert publisher.mutating_calls(before) == []
    assert publisher.status()[0]["status"] == "running"
    with Store.open(database(publisher)) as store, store.write() as conn:
        conn.execute(sa.update(tables.jobs).values(lease_until=time.time()))
    assert publisher.status()[0]["status"] == "interrupted"
    assert publisher.call("cancel", job_id).returncode == 0
    publisher.assert_nothing_left()
