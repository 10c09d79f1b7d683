"""Play many histories on all processors: `python -m tests.simulation SEEDS [FIRST [COPIES]]`.

COPIES: to how many other regions each job's snapshot is copied. Prints how many histories a second one processor
played, and the story of the first seed that violates an invariant.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.simulation.world import run, story

_CHUNK = 100


def play(first: int, copies: int) -> tuple[int, float, list[tuple[int, list[str], str]]]:
    """Play a chunk of seeds; return how many, the processor's seconds, and those that went wrong."""
    logging.disable(logging.CRITICAL)
    began = time.process_time()
    wrong = []
    for seed in range(first, first + _CHUNK):
        world, violations = run(seed, copies=copies)
        if violations:
            wrong.append((seed, violations, story(world)))
    return _CHUNK, time.process_time() - began, wrong


def main(seeds: int, first: int = 0, copies: int = 0) -> int:
    """Play ``seeds`` histories from seed ``first`` on; return the exit status."""
    began = time.monotonic()
    played, seconds, failed = 0, 0.0, 0
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        chunks = range(first, first + seeds, _CHUNK)
        for count, spent, wrong in pool.map(play, chunks, repeat(copies)):
            played, seconds = played + count, seconds + spent
            for seed, violations, told in wrong:
                failed += 1
                print(f"seed {seed}: {'; '.join(violations)}")  # noqa: T201 - it is what this program is for
                if failed == 1:
                    print(told)  # noqa: T201
    rate = played / seconds
    wall = time.monotonic() - began
    print(f"{played} histories, {failed} violations, {rate:.1f} a second and processor, {wall:.0f} s")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in sys.argv[1:])))
