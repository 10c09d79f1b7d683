"""Uploads of the direct method on simulated regions: they take virtual time, fail, and die with their publisher."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from ebspub.aws import blocks
from ebspub.aws.failures import AwsError, Cause
from ebspub.engine.uploads import Ended, Failed, Order, Running
from ebspub.errors import EbspubError, RemoteError
from tests.simulation.ec2 import Region

#: How many blocks a source has, and how long (seconds) one takes.
BLOCKS = 3
_SECONDS = 10.0


@dataclass
class _Upload:
    order: Order
    fails: bool
    began: float
    ended: Ended | Failed | None = None


class SimulatedUploads:
    """The uploads of one publisher. A look takes note of what was put since the last one, as the threads would."""

    def __init__(self, regions: dict[str, Region], source: str) -> None:
        self._regions = regions
        self._source = source
        self._uploads: dict[str, _Upload] = {}

    def look(self, order: Order) -> Running | Ended | Failed | None:
        found = self._uploads.get(order.key)
        if found is None:
            return None
        if found.ended is None:
            try:
                found.ended = self._go_on(found)
            except EbspubError as error:
                found.ended = Failed(error)
        return found.ended or Running("upload", 1, 2)

    def start(self, order: Order) -> bool:
        region = self._regions[order.job.spec.region]
        region.chaos.tell(f"{order.job.id}: uploads to {order.snapshot.resource_id}")
        fails = region.chaos.happens(region.chaos.weather.copy_fails)
        self._uploads[order.key] = _Upload(order, fails, region.now)
        return True

    def drop(self, job_id: str) -> None:
        self._uploads = {key: each for key, each in self._uploads.items() if each.order.job.id != job_id}

    def close(self) -> None:
        self._uploads.clear()

    def _go_on(self, upload: _Upload) -> Ended | Failed | None:
        order = upload.order
        region = self._regions[order.job.spec.region]
        snapshot = region.things[order.snapshot.resource_id or ""]
        recorded = order.ledger.load(order.snapshot.id).sent
        done = min(BLOCKS, int((region.now - upload.began) / _SECONDS))
        for index in range(done):
            if index in recorded:
                continue
            if snapshot.state(region.now) != "pending" or snapshot.data["sealed"]:
                code = "ResourceNotFoundException" if snapshot.state(region.now) == "deleted" else "ValidationException"
                raise AwsError("PutSnapshotBlock", Cause.REFUSED, code=code, message="simulated")
            snapshot.data["put"].add(index)
            region.chaos.moment(f"after a put {order.job.id}")
            order.ledger.record(order.job, order.snapshot.id, {index: _digest(index)}, {})
        if done and upload.fails:
            return Failed(RemoteError("the source does not answer"))
        return Ended(self._facts()) if done == BLOCKS else None

    def _facts(self) -> dict[str, Any]:
        sums = {index: _digest(index) for index in range(BLOCKS)}
        return {"sha256": self._source, "blocks_sent": BLOCKS, "checksum": blocks.linear(sums)}


def _digest(index: int) -> bytes:
    return hashlib.sha256(bytes([index])).digest()
