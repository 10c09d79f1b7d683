"""Histories on the lean connection are those of the connections that the product uses."""

from __future__ import annotations

import pytest

from tests.simulation.chaos import FOUL
from tests.simulation.world import run, story


@pytest.mark.parametrize("seed", range(40))
def test_a_history_is_the_same_line_by_line(seed: int) -> None:
    weather = FOUL if seed % 2 else None
    lean, violations = run(seed, weather)
    told = story(lean)
    real, same = run(seed, weather, lean=False)
    assert told == story(real)
    assert violations == same == []
