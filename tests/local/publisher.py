"""Runs the whole tool, as a process, against the embedded cloud; and says what it finds there."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ebspub.app.report import job_document
from ebspub.demo.setting import configuration
from ebspub.demo.signing import KEYRING
from ebspub.demo.trees import Tree, differences
from ebspub.demo.verify import tree_of
from ebspub.localcloud import Cloud
from ebspub.store import Store, jobs

#: Each test publishes a serial of its own, so that AMI names never meet.
_SERIALS = itertools.count(1)


def documents(store: Store) -> list[dict[str, Any]]:
    """Return a document of each job."""
    with store.read() as conn:
        return [job_document(job, time.time()) for job in jobs.find(conn)]


@dataclass(frozen=True)
class Publisher:
    """A configuration, a database, a cloud."""

    folder: Path
    cloud: Cloud
    url: str
    trees: Mapping[str, Tree]
    images: Path
    serial: str = ""
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def at(self, folder: Path) -> Publisher:
        """Return a publisher with its own folder and serial; the configuration names one region."""
        worker = int(re.sub(r"\D", "", os.environ.get("PYTEST_XDIST_WORKER", "0")) or 0)
        fresh = replace(self, folder=folder, started=[], serial=f"2010{worker + 1:02d}20.{next(_SERIALS)}")
        fresh.configure("us-east-1")
        return fresh

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "ebspub.toml"

    def configure(self, *regions: str, edit: Callable[[str], str] = lambda text: text) -> None:
        """Write the configuration for ``regions``; ``edit`` may change its text."""
        keyring = self.images / KEYRING
        text = configuration(self.folder, url=self.url, cloud=self.cloud, regions=regions, keyring=keyring)
        self.config.write_text(edit(text.replace('serial = "20101020"', f'serial = "{self.serial}"')))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the tool: the embedded cloud and nothing else."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "EBSPUB_CONFIG"))}
        return {**kept, **self.cloud.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}

    def command(self, *words: str) -> list[str]:
        """Return the command line of the tool."""
        return [sys.executable, "-W", "error", "-m", "ebspub", "--config", str(self.config), *words]

    def call(self, *words: str, timeout: float = 100.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; what it prints goes to files in the folder."""
        with (self.folder / "out").open("a") as out, (self.folder / "err").open("a") as err:
            process = subprocess.Popen(self.command(*words), env=self.environment, stdout=out, stderr=err, text=True)
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what a failed test left running."""
        for process in self.started:
            process.kill()
            process.wait()

    def wait_for(self, holds: Callable[[list[dict[str, Any]]], bool], timeout: float = 60.0) -> None:
        """Wait until the jobs are as wanted. The database stays open: to open it takes longer than to look."""
        deadline = time.monotonic() + timeout
        with ExitStack() as stack:
            store = None
            while True:
                if store is None and (store := self._store()) is not None:
                    stack.enter_context(store)
                if holds(documents(store) if store else []):
                    return
                assert time.monotonic() < deadline, self.status()
                time.sleep(0.02)

    def status(self) -> list[dict[str, Any]]:
        """Return what `status --json` says, read in this process: fast enough to catch a job in a short phase."""
        store = self._store()
        if store is None:
            return []
        with store:
            return documents(store)

    def _store(self) -> Store | None:
        return Store.open_existing(str(tomllib.loads(self.config.read_text())["store"]["url"]))

    def mutating_calls(self, since: int) -> list[str]:
        """Return the calls after the ``since``-th that change something."""
        return [call.action for call in self.cloud.calls(since) if call.mutating]

    def mine(self, things: Sequence[Any]) -> list[Any]:
        """Return those of ``things`` that a job of this serial made."""
        return [thing for thing in things if f"-{self.serial}-" in thing.tags.get("ebspub:job", "")]

    def assert_published(self, regions: Sequence[str], arches: Sequence[str] = ("amd64", "i386")) -> None:
        """One AMI per region and arch with the source's own tree, recorded as such, and nothing else is left."""
        jobs = self.status()
        assert {(j["region"], j["arch"], j["state"], j["status"]) for j in jobs} == {
            (region, arch, "registered", "done") for region in regions for arch in arches
        }, jobs
        inventory = self.cloud.inventory()
        images = self.mine(inventory.images)
        assert sorted(image.id for image in images) == sorted(job["ami_id"] for job in jobs)
        assert sorted(s for image in images for s in image.snapshots) == sorted(job["snapshot_id"] for job in jobs)
        self.assert_nothing_left({job["snapshot_id"] for job in jobs})
        for job in jobs:
            published = tree_of(self.cloud.snapshot_path(job["snapshot_id"]))
            assert differences(self.trees[job["arch"]], published) == []

    def assert_nothing_left(self, kept: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        """Nothing of this serial's jobs is in the account but AMIs and the snapshots in ``kept``."""
        inventory = self.cloud.inventory()
        left = [i for i in self.mine(inventory.instances) if i.state != "terminated"]
        left += self.mine(inventory.volumes) + self.mine(inventory.security_groups)
        left += [s for s in self.mine(inventory.snapshots) if s.id not in kept]
        assert left == []
