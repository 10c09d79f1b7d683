"""The `direct` method as the publisher runs it: `ebspub run` against the embedded cloud; a bare client beside it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ebspub.localcloud import Cloud, Delays, Settings, running
from ebspub.localcloud.faults import Effect, Rule
from tests.bench.artefacts import Artefacts
from tests.bench.meter import BenchError, Meter, Taken, run

GIB = 1 << 30
_REGION = "us-east-1"
_CONFIG = """
[store]
url = "sqlite:///{folder}/ebspub.db"
folder = "{folder}/state"
[engine]
poll_interval = 1.0
[volume]
size = {gib}
[regions.{region}]
[[builds]]
suite = "bench"
label = "daily"
version = "1"
serial = "20240101"
arches = ["amd64"]
method = "direct"
[builds.source]
url = "{url}"
sha256 = "{sha256}"
"""


@dataclass(frozen=True)
class Published:
    """What one `ebspub run` took: the upload alone, by the publisher's own record, and the whole command.

    ``rss``: bytes of memory that it, or a process that it started, had at most. ``blocks``: how many were put.
    """

    upload: Taken
    whole: Taken
    rss: int
    blocks: int


class Publishing:
    """Measures uploads. Each has a cloud of its own, whose snapshots go with it."""

    def __init__(self, meter: Meter, artefacts: Artefacts, url: str, folder: Path) -> None:
        self._meter = meter
        self._artefacts = artefacts
        self._url = url
        self._folder = folder

    def bare(self, gib: int, late: float = 0.0) -> Taken:
        """The blocks of the raw disk put by a bare client: seconds as it counts them, without its start.

        ``late``: seconds for which a put's answer is held back.
        """
        with self._cloud(late) as cloud:
            disk = str(self._artefacts.path(Artefacts.raw))
            words = [*self._meter.prefix, sys.executable, "-m", "tests.bench.bare", disk, str(gib)]
            before = self._meter.cpu()
            told = json.loads(run(*words, environment=_environment(cloud)))
            after = self._meter.cpu()
            return Taken(told["seconds"], None if before is None or after is None else after - before)

    def direct(self, name: str, gib: int, late: float = 0.0) -> Published:
        """An artefact published by the direct method; ``late``: as for :meth:`bare`."""
        folder = self._folder / "publisher"
        folder.mkdir()
        try:
            config = folder / "ebspub.toml"
            url, sha256 = f"{self._url}/{name}", self._artefacts.sha256(name)
            config.write_text(_CONFIG.format(folder=folder, gib=gib, region=_REGION, url=url, sha256=sha256))
            with self._cloud(late) as cloud:
                words = [*self._meter.prefix, sys.executable, "-m", "ebspub", "--config", str(config), "run"]
                peak: list[int] = []
                whole = self._meter.timed(lambda: peak.append(_peak(words, _environment(cloud))))
            with closing(sqlite3.connect(folder / "ebspub.db")) as database:
                rows = database.execute("SELECT facts FROM events WHERE action = 'populate'").fetchall()
            facts = next(told for (row,) in rows if "upload_seconds" in (told := json.loads(row or "{}")))
            return Published(Taken(facts["upload_seconds"], whole.cpu), whole, peak[0], facts["blocks_sent"])
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def _cloud(self, late: float) -> Iterator[Cloud]:
        with running(self._folder / "cloud", Settings(delays=Delays.all(0.0))) as cloud:
            if late:
                held = Effect(kind="delay", when="after", seconds=late)
                cloud.add_fault(Rule(effects=(held,), actions=frozenset({"PutSnapshotBlock"}), times=None))
            yield cloud


def _environment(cloud: Cloud) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "EBSPUB_"))}
    return {**kept, **cloud.environment(_REGION), "PYTHONPATH": str(Path(__file__).parents[2])}


def _peak(words: list[str], environment: dict[str, str]) -> int:
    """Run a command to its good end; return the most memory, in bytes, that it or a child of it had."""
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    if process.returncode:
        raise BenchError(f"ebspub run ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}")
    return usage.ru_maxrss * 1024
