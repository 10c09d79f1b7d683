"""Times and costs: estimates that follow from sizes, prices and this database's own past."""

from __future__ import annotations

import pytest

from ebspub.app.estimate import GIB, Known, content, estimate
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
