"""A seed tells one history, in whatever process it is played."""

from __future__ import annotations

import os
import subprocess
import sys

PLAY = """
from tests.simulation.chaos import FOUL
from tests.simulation.world import run, story
for seed in range(12):
    print(story(run(seed, FOUL if seed % 2 else None)[0]))
"""


def told(hash_seed: str) -> str:
    """Return what a process tells whose sets have an order of their own."""
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    return subprocess.run(
        [sys.executable, "-c", PLAY], env=environment, capture_output=True, text=True, check=True, timeout=100
    ).stdout


def test_a_history_is_the_same_in_every_process() -> None:
    first = told("1")
    assert first.count("the publisher is through") >= 12
    assert first == told("2") == told("3")
