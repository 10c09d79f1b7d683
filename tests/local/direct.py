"""Publishes disk images by the direct method, and says what it finds in the embedded cloud."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebspub.localcloud import Cloud
from ebspub.store import Store, blocks, jobs
from tests.local.publisher import Publisher

_CONFIG = """
[store]
url = "sqlite:///{folder}/ebspub.db"
folder = "{folder}/state"
[limits]
listing_lag = 5
attempts = 2
[engine]
poll_interval = 0.3
[volume]
size = 1
{regions}
[[builds]]
suite = "{suite}"
build = "server"
label = "daily"
version = "24.04"
serial = "{serial}"
arches = ["amd64"]
method = "direct"
{more}
[builds.source]
url = "{url}"
{proof}
"""


@dataclass(frozen=True)
class Ground:
    """A cloud, and a folder that a web server offers."""

    cloud: Cloud
    folder: Path
    url: str


@dataclass(frozen=True)
class Direct(Publisher):
    """Publishes files of the ground by the direct method."""

    ground: Ground | None = None
    suite: str = ""

    def offer(self, image: Path, *regions: str, more: str = "", sha256: str = "", serial: str = "20240101") -> None:
        """Write the configuration that publishes ``image``; ``sha256`` is the image's unless given."""
        assert self.ground is not None
        proof = sha256 or hashlib.sha256(image.read_bytes()).hexdigest()
        tables = "\n".join(f"[regions.{region}]" for region in regions or ("us-east-1",))
        text = _CONFIG.format(
            folder=self.folder,
            regions=tables,
            suite=self.suite,
            serial=serial,
            more=more,
            url=f"{self.ground.url}/{image.relative_to(self.ground.folder)}",
            proof=f'sha256 = "{proof}"',
        )
        self.config.write_text(text)

    def ours(self) -> list[dict[str, Any]]:
        return sorted(self.status(), key=lambda job: str(job["serial"]))

    def content(self, job: dict[str, Any]) -> Path:
        """Return the file that is the job's snapshot."""
        return self.cloud.snapshot_path(job["snapshot_id"])

    def puts(self, since: int = 0) -> list[Any]:
        return [c for c in self.cloud.calls(since) if c.action == "PutSnapshotBlock" and c.executed]

    def on_record(self, serial: str = "20240101") -> int:
        """Return how many blocks are on record as put."""
        store = Store.open_existing(f"sqlite:///{self.folder / 'ebspub.db'}")
        if store is None:
            return 0
        with store, store.read() as conn:
            found = [job for job in jobs.find(conn) if job.spec.serial == serial]
            rows = [row.id for job in found for row in job.resources]
            return sum(len(blocks.load(conn, row).sent) for row in rows)

    def nothing_left(self) -> None:
        """Nothing is in the account but AMIs of this suite's jobs and their snapshots."""
        inventory = self.cloud.inventory()
        mine = [s for s in inventory.snapshots if s.tags.get("ebspub:job", "").startswith(f"{self.suite}-")]
        images = [i for i in inventory.images if i.tags.get("ebspub:job", "").startswith(f"{self.suite}-")]
        assert sorted(s.id for s in mine) == sorted(s for image in images for s in image.snapshots)
