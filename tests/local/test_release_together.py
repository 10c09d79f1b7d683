"""Several publishers at once, and regions that fail: a path ends on the newest build of those that are complete."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ebspub.app import release as app
from ebspub.app.runtime import Runtime
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.localcloud import Effect, Rule
from ebspub.states import Status
from ebspub.store import jobs, releases
from tests.local.leftovers import Stage
from tests.local.released import (
    PUBLISH,
    clients,
    cloud,
    configure,
    public,
    publish,
    register,
    register_all,
    runtime_of,
    seen,
    stage,
    state,
)
from tests.support.variants import few

__all__ = ["clients", "cloud", "stage"]

OLD, NEW = "lucid-server-20101001", "lucid-server-20101020"
#: For one region and arch: tags of two, permissions of two (the snapshot's are two calls), two parameters.
CALLS = 7
#: Every call.
WHOLE = [(when, tuple(range(1, CALLS + 1))) for when in ("before", "after")]
Work = Callable[[Runtime], app.Result]


@pytest.fixture(scope="module")
def held_up() -> BotoClients:
    """Return the clients of the publisher that is held up."""
    return BotoClients()


@dataclass
class Waits(SystemClock):
    """A clock that tells when it is waited for."""

    waited: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float, wake: threading.Event | None = None) -> None:
        self.waited.set()
        super().wait(seconds, wake)


@dataclass
class Pause:
    """Holds a publisher up before or after one of its calls that change something, until it may go on."""

    nth: int
    when: str
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    counted: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    number: int = 0

    def before(self, model: Any, **_: Any) -> None:
        if model.name.startswith(("Describe", "Get")):
            return
        self.number = next(self.counted)
        self._hold("before")

    def after(self, model: Any, **_: Any) -> None:
        if not model.name.startswith(("Describe", "Get")):
            self._hold("after")

    def _hold(self, when: str) -> None:
        if (self.number, self.when) == (self.nth, when):
            self.reached.set()
            assert self.go_on.wait(60)


def _of(build: str, work: Callable[..., app.Result]) -> Work:
    return lambda runtime: work(runtime, [build], lambda _: None)


def interleave(stage: Stage, slow: Work, quick: Work, clients: BotoClients, pause: Pause) -> bool:
    """Hold ``slow`` up at a call, do ``quick`` until it ends or waits, let both end. Return whether it waited."""
    here = clients.region(stage.region)
    hooks = [("before-call", pause.before), ("after-call", pause.after)]
    for client, (event, hook) in itertools.product((here.writer, here.ssm), hooks):
        client.meta.events.register(event, hook)
    clock, results = Waits(), []

    def first() -> None:
        try:
            results.append(slow(replace(runtime_of(stage), clients=clients)))
        finally:
            pause.reached.set()

    def second() -> None:
        try:
            results.append(quick(replace(runtime_of(stage), clock=clock)))
        finally:
            clock.waited.set()

    threads = [threading.Thread(target=work) for work in (first, second)]
    try:
        threads[0].start()
        assert pause.reached.wait(60)
        threads[1].start()
        assert clock.waited.wait(60)
        waited = threads[1].is_alive() and threads[0].is_alive()
    finally:
        pause.go_on.set()
        for thread in threads:
            thread.join(60)
        for client, (event, hook) in itertools.product((here.writer, here.ssm), hooks):
            client.meta.events.unregister(event, hook)
    assert [result.exit_code for result in results] == [0, 0], results
    return waited


def two_builds(stage: Stage) -> None:
    """Let two builds be registered, in one region and of one arch."""
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    for serial in ("20101001", "20101020"):
        stage.config.write_text(text.replace('serial = "20101020"', f'serial = "{serial}"'))
        register(stage, "amd64", stage.region)


def current(stage: Stage, arch: str = "amd64", region: str = "") -> str | None:
    """Return which build `current` names."""
    ssm = stage.clients.region(region or stage.region).ssm
    found = ssm.get_parameters(Names=[f"/images/lucid/current/{arch}"])["Parameters"]
    if not found:
        return None
    with stage.store.read() as conn:
        (job,) = (each for each in jobs.find(conn, statuses=[Status.DONE]) if each.ami_id == found[0]["Value"])
    return releases.release_id(job.spec)


def deny(stage: Stage, action: str, region: str) -> int:
    """Let a call be refused in one region; return the rule's number."""
    no = Effect(kind="error", code="UnauthorizedOperation", status=403, message="You are not authorized.")
    return stage.cloud.add_fault(Rule(effects=(no,), actions=frozenset({action}), regions=frozenset({region})))


def take_back(stage: Stage) -> None:
    for build in (OLD, NEW):
        with stage.store.read() as conn:
            known = releases.get(conn, build) is not None
        if known:
            assert app.unpublish(runtime_of(stage), [build], lambda _: None).exit_code == 0
    assert current(stage) is None


#: In short: the last calls, where most is at stake.
POINTS = few([("before", (CALLS - 1, CALLS))], [("before", (CALLS - 1, CALLS)), *WHOLE])


@pytest.mark.parametrize(("when", "points"), POINTS)
@pytest.mark.parametrize(("slow", "quick"), [(OLD, NEW), (NEW, OLD)])
def test_of_two_publishers_the_newer_build_is_current(
    stage: Stage, held_up: BotoClients, slow: str, quick: str, when: str, points: tuple[int, ...]
) -> None:
    two_builds(stage)
    for nth in points:
        interleave(stage, _of(slow, app.publish), _of(quick, app.publish), held_up, Pause(nth, when))
        assert (nth, current(stage)) == (nth, NEW)
        assert {state(stage, build)[0] for build in (OLD, NEW)} == {"published"}
        assert publish(stage, OLD, NEW) == []
        take_back(stage)


@pytest.mark.long
@pytest.mark.parametrize(("when", "points"), POINTS)
@pytest.mark.parametrize("slow", ["publish", "unpublish"])
def test_a_build_that_is_taken_back_while_another_is_published_leaves_its_path_to_it(
    stage: Stage, held_up: BotoClients, slow: str, when: str, points: tuple[int, ...]
) -> None:
    two_builds(stage)
    publishing, back = _of(OLD, app.publish), _of(NEW, app.unpublish)
    for nth in points if slow == "publish" else range(1, len(points) + 1):
        publish(stage, NEW)
        pair = (publishing, back) if slow == "publish" else (back, publishing)
        interleave(stage, *pair, held_up, Pause(nth, when))
        assert (nth, current(stage)) == (nth, OLD)
        assert (state(stage, OLD)[0], state(stage, NEW)[0]) == ("published", "unpublished")
        assert publish(stage, OLD) == []
        take_back(stage)


def test_who_moves_a_path_is_waited_for(stage: Stage, held_up: BotoClients) -> None:
    two_builds(stage)
    older, newer = _of(OLD, app.publish), _of(NEW, app.publish)
    assert interleave(stage, older, newer, held_up, Pause(CALLS, "before"))
    assert current(stage) == NEW


def test_an_older_build_that_got_its_path_back_gives_it_up_when_it_is_taken_back_too(stage: Stage) -> None:
    two_builds(stage)
    publish(stage, NEW)
    publish(stage, OLD)
    for build, left in ((NEW, OLD), (OLD, None)):
        assert app.unpublish(runtime_of(stage), [build], lambda _: None).exit_code == 0
        assert current(stage) == left


def test_no_region_goes_on_to_a_build_that_another_region_lacks(stage: Stage) -> None:
    register_all(stage)
    configure(stage, PUBLISH + "patience = 1\n")
    rule = deny(stage, "ModifyImageAttribute", stage.regions[1])
    try:
        result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    finally:
        stage.cloud.remove_fault(rule)
    assert set(result.releases[0].errors) == {stage.regions[1]}
    assert (state(stage)[0], public(stage)) == ("publishing", set())
    assert seen(stage)["parameters"] == ["/images/lucid/20101020/amd64"]
    assert seen(stage)["launch"] != []
    made = publish(stage)
    assert made.count("PutParameter") == 4 + 2
    for region, arch in itertools.product(stage.regions, ("amd64", "i386")):
        assert current(stage, arch, region) == NEW


@pytest.mark.long
def test_a_build_that_is_public_is_repaired_in_one_region_though_another_is_down(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    configure(stage, PUBLISH + "patience = 1\n")
    for region in stage.regions:
        stage.clients.region(region).ssm.delete_parameter(Name="/images/lucid/current/amd64")
    rule = deny(stage, "PutParameter", stage.regions[1])
    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    stage.cloud.remove_fault(rule)
    assert set(result.releases[0].errors) == {stage.regions[1]}
    assert [current(stage, region=region) for region in stage.regions] == [NEW, None]
    assert publish(stage) == ["PutParameter"]
