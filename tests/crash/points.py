"""The points at which a publisher is killed: read off a run that nobody disturbs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ebspub.localcloud import Delays, Settings
from ebspub.localcloud.calls import Call
from tests.crash import dying
from tests.local.publisher import Publisher

ARCH = "amd64"
Kind = Literal["call", "look", "commit", "phase"]
When = Literal["before", "after", "during"]
_PHASE = re.compile(r"^\[\d+\] (\w+)$", re.MULTILINE)


@dataclass(frozen=True)
class Point:
    """The ``nth`` time (from 1) that ``action`` happens: a call that changes or only reads, a commit, remote work."""

    kind: Kind
    action: str
    nth: int
    when: When

    def __str__(self) -> str:
        return f"{self.when} {self.kind} {self.action}" + (f" #{self.nth}" if self.nth > 1 else "")


class Quick(Publisher):
    """A publisher that can be told to die at one of its commits."""

    def at(self, folder: Path) -> Quick:
        """Return a publisher with its own folder and serial."""
        fresh = super().at(folder)
        assert isinstance(fresh, Quick)
        return fresh

    def start_command(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start another command than the tool itself; what it prints goes to files in the folder."""
        with (self.folder / "out").open("a") as out, (self.folder / "err").open("a") as err:
            process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=err, text=True)
        self.started.append(process)
        return process

    def dying(self, nth: int, when: str) -> list[str]:
        """Return the command of a run that dies at the ``nth`` commit; 0: it lives."""
        words = ["-m", "tests.crash.dying", str(nth), when, "--config", str(self.config), "run", "--arch", ARCH]
        return [sys.executable, "-W", "error", *words]


@dataclass(frozen=True)
class Recording:
    """What an undisturbed run did. ``commits`` says which tables each wrote."""

    calls: Sequence[Call]
    commits: Sequence[str]
    phases: Sequence[str]
    seconds: float

    @property
    def changes(self) -> Mapping[str, int]:
        """How often each changing call was made."""
        return Counter(call.action for call in self.calls if call.mutating)

    def points(self) -> dict[Kind, list[Point]]:
        """Return every point, in the order of the run, by kind.

        Of the calls that only read, one of each action stands for those between two changing calls: however often a
        publisher looked, it has done and learnt the same.
        """
        changing, reading = [], []
        seen: Counter[str] = Counter()
        looked: set[str] = set()
        for call in self.calls:
            seen[call.action] += 1
            if call.mutating:
                changing.append((call.action, seen[call.action]))
                looked.clear()
            elif call.action not in looked:
                reading.append((call.action, seen[call.action]))
                looked.add(call.action)
        commits = [(tables, n) for n, tables in enumerate(self.commits, 1)]
        around: tuple[When, When] = ("before", "after")
        # What a look returns changes nothing before the publisher acts on it: before and after it are alike.
        return {
            "call": [Point("call", action, n, when) for action, n in changing for when in around],
            "look": [Point("look", action, n, around[i % 2]) for i, (action, n) in enumerate(reading)],
            "commit": [Point("commit", tables, n, when) for tables, n in commits for when in around],
            "phase": [Point("phase", phase, 1, "during") for phase in self.phases],
        }


def record(publisher: Quick, region: str) -> Recording:
    """Publish undisturbed, once, and return what that took. Nobody else may be in the region."""
    publisher.configure(region, edit=quick)
    since, began = len(publisher.cloud.calls()), time.monotonic()
    noted = publisher.folder / "commits"
    os.environ[dying.RECORD] = str(noted)
    try:
        process = publisher.start_command(publisher.dying(0, "before"))
    finally:
        del os.environ[dying.RECORD]
    phases: list[str] = []
    watching = threading.Event()
    watcher = threading.Thread(target=lambda: phases.extend(phases_of(publisher, region, since, watching)))
    watcher.start()
    try:
        assert process.wait(120) == 0, (publisher.folder / "err").read_text()
    finally:
        watching.set()
        watcher.join()
    seconds = time.monotonic() - began
    publisher.assert_published([region], [ARCH])
    calls = [call for call in publisher.cloud.calls(since) if call.region == region]
    return Recording(calls, noted.read_text().splitlines(), phases, seconds)


#: A cloud in which little time passes, and what was just made is missing in one or two looks.
QUICK = Settings(delays=Delays.all(0.05), listing_lag=0.3)


def quick(text: str, *, listing_lag: float = 3.0, poll_interval: float = 0.4) -> str:
    """Return a configuration for a quick cloud. ``listing_lag``: seconds for which it may hide what was made."""
    text = text.replace("listing_lag = 5", f"listing_lag = {listing_lag}")
    return text.replace("poll_interval = 0.5", f"poll_interval = {poll_interval}")


def phases_of(publisher: Publisher, region: str, since: int, stop: threading.Event) -> Iterator[str]:
    """Yield each phase of the remote work as soon as its log shows it; ends with the builder, or with ``stop``."""
    instance = ""
    while not instance and not stop.is_set():
        made = [c for c in publisher.cloud.calls(since) if (c.action, c.region) == ("RunInstances", region) and c.ids]
        instance = next((name for call in made for name in call.ids if name.startswith("i-")), "")
        stop.wait(0.1)
    host = publisher.cloud.folder / "hosts" / instance
    told = 0
    while host.exists() and not stop.is_set():
        found = _PHASE.findall(_log(host))
        yield from found[told:]
        told = max(told, len(found))
        stop.wait(0.002)


def _log(host: Path) -> str:
    """Return what the task on a builder has logged so far."""
    for log in (host / "disk/var/tmp").glob("ebspub-*/log"):
        try:
            return log.read_text(errors="replace")
        except OSError:  # The builder is being removed.
            return ""
    return ""
