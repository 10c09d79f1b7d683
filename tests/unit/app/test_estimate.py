"""Times and costs: estimates that follow from sizes, prices and this database's own past."""

from __future__ import annotations

from typing import Any

import pytest

from ebspub.app.estimate import GIB, Known, Sharing, content, estimate, sharing
from ebspub.aws import costs
from ebspub.spec import FanOut, JobSpec
from ebspub.states import State
from tests.contract.store.rows import spec

URL = "http://127.0.0.1/lucid.tar.gz"
PRODUCT = "lucid server amd64"


def copy(region: str = "us-east-1") -> JobSpec:
    wish = FanOut(region=region, when="always", copies=True, why="because")
    return spec(region="eu-west-1", fan_out=wish)


def test_a_copy_costs_its_transfer() -> None:
    known = Known(sizes={URL: 400 * 1024**2})
    held = content(spec(), known)
    assert held == 1000 * 1024**2
    assert estimate(copy(), known).dollars == pytest.approx(0.02 * held / GIB)
    assert estimate(copy("ap-south-1"), known).dollars == pytest.approx(0.09 * held / GIB)
    assert estimate(copy(), known).monthly == pytest.approx(0.05 * held / GIB)


def test_a_builder_costs_the_time_it_runs() -> None:
    steps = {("filesystem", step): 600.0 for step in ("launch", "attach", "populate", "snapshot", "register")}
    found = estimate(spec(), Known(steps=steps, jobs=9))
    assert (found.seconds, found.before_register) == (3000.0, 2400.0)
    hour = 0.096 + costs.ADDRESS + (8 + 8) * costs.VOLUME["gp3"] / costs.HOURS
    assert found.dollars == pytest.approx(hour / 2)


def test_a_builder_that_is_up_for_a_moment_costs_a_minute() -> None:
    steps = {("filesystem", step): 0.1 for step in ("launch", "attach", "populate", "snapshot", "register")}
    assert estimate(spec(), Known(steps=steps)).dollars == pytest.approx(0.102 / 60, rel=0.05)


def test_blocks_cost_a_call_each_and_with_a_parent_only_what_changed() -> None:
    direct = spec(method="direct")
    known = Known(facts={PRODUCT: {"bytes": 1 << 30, "blocks_sent": 100}})
    assert estimate(direct, known).dollars == pytest.approx(costs.PUT * 2048 * 1.1)
    child = direct.model_copy(update={"parent": "previous"})
    assert estimate(child, known).dollars == pytest.approx(costs.PUT * 100)


def test_what_was_published_last_tells_more_than_the_artefact_and_that_more_than_nothing() -> None:
    assert content(spec(), Known()) == 2 * GIB
    assert content(spec(), Known(sizes={URL: 1 << 30})) == 2.5 * GIB
    assert content(spec(), Known(sizes={URL: 1 << 30}, facts={PRODUCT: {"bytes": 1 << 30}})) == 1.1 * GIB
    assert content(spec(), Known(sizes={URL: 1 << 40})) == 8 * GIB


@pytest.mark.parametrize("document", [spec(), spec(method="disk"), spec(method="direct"), copy()])
def test_what_is_done_takes_no_more_time(document: JobSpec) -> None:
    found = [estimate(document, Known(), state=state) for state in State]
    seconds = [each.seconds for each in found]
    assert seconds == sorted(seconds, reverse=True)
    assert (found[-1].seconds, found[-1].dollars) == (0.0, 0.0)
    assert found[0].dollars > 0
    # What was paid for already is not paid again.
    assert found[list(State).index(State.SNAPSHOTTED)].dollars == 0.0


def test_a_region_without_a_price_costs_no_less_than_others() -> None:
    assert costs.transfer("mars-1") == costs.transfer("ap-south-1") > costs.transfer("us-west-2") == 0.02


def on_shared(arch: str, **changes: Any) -> JobSpec:
    document = spec(arch=arch, **changes)
    return document.model_copy(update={"builder": document.builder.model_copy(update={"shared": True})})


STEPS = {("filesystem", "launch"): 100.0, ("filesystem", "attach"): 20.0, ("filesystem", "populate"): 600.0}


def test_jobs_that_share_a_builder_wait_for_their_turn_and_pay_their_share_of_it() -> None:
    known = Known(steps=STEPS, jobs=3)
    crew = [on_shared("amd64"), on_shared("arm64"), on_shared("i386")]
    parts = sharing(crew, known)
    assert list(parts.values()) == [Sharing(3, 0.0, 1800.0), Sharing(3, 600.0, 1800.0), Sharing(3, 1200.0, 1800.0)]
    found = [estimate(each, known, part=parts[each.job_id]) for each in crew]
    alone = estimate(crew[0], known)
    assert [each.seconds - alone.seconds for each in found] == [0.0, 600.0, 1200.0]
    instance = 0.096 + costs.ADDRESS + 8 * costs.VOLUME["gp3"] / costs.HOURS
    disk = 8 * costs.VOLUME["gp3"] / costs.HOURS
    wanted = [1920 * instance / 3 + (720 + ahead) * disk for ahead in (0, 600, 1200)]
    assert [each.dollars * 3600 for each in found] == pytest.approx(wanted)
    assert sum(each.dollars for each in found) < 3 * alone.dollars


def test_who_is_alone_on_a_builder_shares_nothing() -> None:
    known = Known(steps=STEPS, jobs=3)
    plain, elsewhere = spec(), on_shared("amd64", region="eu-west-1")
    assert sharing([plain, spec(arch="arm64"), on_shared("arm64"), elsewhere], known) == {}
    assert sharing([on_shared("amd64", method="direct"), on_shared("arm64", method="direct")], known) == {}


def test_a_builder_has_eleven_places_and_the_twelfth_job_another_builder() -> None:
    known = Known(steps=STEPS, jobs=3)
    crew = [on_shared("amd64", serial=f"201010{day}") for day in range(10, 23)]
    parts = [sharing(crew, known)[each.job_id] for each in crew]
    assert [each.jobs for each in parts] == [11] * 11 + [2] * 2
    assert [parts[each].ahead for each in (10, 11, 12)] == [6000.0, 0.0, 600.0]
