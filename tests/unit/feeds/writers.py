"""Processes that write a folder of feeds, and die of it: ``python -m tests.unit.feeds.writers WHAT FOLDER ...``."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ebspub.feeds import every
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import write
from ebspub.feeds.signing import Key
from tests.unit.feeds.facts import image

#: Written before the index that names them; big enough for a reader to come while it is being written.
NAMES = tuple(f"query/lucid/server/{letter}.txt" for letter in "abcd")
INDEX = "streams/v1/index.json"
SIZE = 200_000


def rendering(number: int) -> dict[str, bytes]:
    """Return version ``number`` of some feeds: the index names the files, one of them only in this version."""
    names = [*NAMES, f"data/{number % 3}.txt"]
    content = b"%09d\n" % number * (SIZE // 10)
    index = json.dumps({"version": number, "names": names}).encode()
    return {**dict.fromkeys(names, content), INDEX: index}


def start(*arguments: str | Path | int) -> subprocess.Popen[str]:
    """Start one of these; ended by the end of its standard input."""
    command = [sys.executable, "-m", "tests.unit.feeds.writers", *(str(each) for each in arguments)]
    root = Path(__file__).parents[3]
    return subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rewrite(folder: Path) -> None:
    """Write one version after the other as long as somebody is there."""
    number = 1
    # Standard input ends with whoever started it.
    while not select.select([0], [], [], 0)[0]:
        number += 1
        write(rendering(number), folder)


def version(number: int) -> Catalog:
    """Return what is public at the time ``number``: one build more than before, in two regions."""
    serials = [f"202401{day:02}" for day in range(1, number + 1)]
    found = [(serial, region) for serial in serials for region in ("us-east-1", "cn-north-1")]
    return Catalog.of([image(serial=serial, region=region, ami=f"ami-{serial}{region}") for serial, region in found])


def publish(folder: Path, home: str, fingerprint: str, last: str) -> None:
    """Publish signed feeds of one version after the other as long as somebody is there."""
    for number in range(1, int(last) + 1):
        if select.select([0], [], [], 0)[0]:
            return
        every.publish(folder, partial(version, number), key=Key(fingerprint, Path(home)))


def die_at(folder: Path, number: str, point: str) -> None:
    """Write version ``number`` and be killed at a point."""
    write(rendering(int(number)), folder, reach=lambda here: _die() if here == point else None)


def die_within(folder: Path, number: str, name: str) -> None:
    """Write version ``number`` and be killed before a file that is written takes its place."""
    real: Callable[[Path, Path], Path] = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if str(target).endswith(name):
            _die()
        return real(self, target)

    Path.replace = replace  # type: ignore[method-assign,assignment]
    write(rendering(int(number)), folder)


if __name__ == "__main__":
    what, folder, *more = sys.argv[1:]
    {"rewrite": rewrite, "publish": publish, "die_at": die_at, "die_within": die_within}[what](Path(folder), *more)  # type: ignore[operator]
