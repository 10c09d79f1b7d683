"""Snapshots: the content of a volume at the moment of the call, which takes time to complete."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from moto.core.responses import ActionResult
from moto.ec2.exceptions import InvalidSnapshotIdError, InvalidSnapshotInUse
from moto.ec2.models.elastic_block_store import Snapshot
from moto.ec2.utils import random_snapshot_id

from ebspub.localcloud import sparse
from ebspub.localcloud.ec2.base import NounBackend, NounResponse, now, outcome
from ebspub.localcloud.ec2.errors import refuse

if TYPE_CHECKING:
    from ebspub.localcloud.ec2.direct import Writing


#: The volume that EC2 names of a snapshot that was taken of none.
NO_VOLUME = "vol-ffffffff"


@dataclass
class NoVolume:
    """What EC2 says such a snapshot was taken of: one that was put block by block, or copied."""

    size: int
    id: str = NO_VOLUME


class CloudSnapshot(Snapshot):  # type: ignore[misc, unused-ignore]
    """A snapshot with a size and a state of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.born = now()
        self.status = "pending"
        #: What was put into it, where it is filled block by block.
        self.writing: Writing | None = None
        #: Whether it is a copy of another one.
        self.copied = False
        self.size: int = self.volume.volume_size if isinstance(self.volume, Snapshot) else self.volume.size

    @property
    def volume_size(self) -> int:
        """Size in GiB of the volume when the snapshot was taken."""
        return self.size

    @property
    def progress(self) -> str:
        """EC2's idea of how far it is."""
        return "100%" if self.status == "completed" else "42%"


class SnapshotBackend(NounBackend):
    """Snapshots of one region."""

    def create_snapshot(self, volume_id: str, *args: Any, **kwargs: Any) -> CloudSnapshot:
        volume = self.get_volume(volume_id)
        if volume.status not in {"available", "in-use"}:
            refuse("IncorrectState", f"Volume '{volume_id}' is in the '{volume.status}' state.")
        snapshot = cast(CloudSnapshot, super().create_snapshot(volume_id, *args, **kwargs))
        snapshot.kms_key_id = volume.kms_key_id
        source = os.open(self.world.volume_file(volume_id), os.O_RDONLY | os.O_CLOEXEC)
        # What is written after the answer must not be in it, so the copy is made before; the lock is free meanwhile.
        self.world.before_answering(lambda: self._freeze(snapshot, source))
        return snapshot

    def get_snapshot(self, snapshot_id: str) -> CloudSnapshot:
        return cast(CloudSnapshot, super().get_snapshot(snapshot_id))

    def copy_snapshot(
        self, source_snapshot_id: str, source_region: str, description: str, kms_key_id: str | None
    ) -> CloudSnapshot:
        origin = self.in_region(source_region).get_snapshot(source_snapshot_id)
        if not self.world.listed(origin.born):
            raise InvalidSnapshotIdError
        if origin.status != "completed":
            refuse("IncorrectState", f"Snapshot '{source_snapshot_id}' is not 'completed'.")
        limit = self.world.settings.snapshot_copies
        copies: Any = [each for each in self.snapshots.values() if getattr(each, "copied", False)]
        if sum(each.status == "pending" for each in copies) >= limit:
            told = f"Too many snapshot copies in progress. The limit is {limit} for this destination region."
            refuse("ResourceLimitExceeded", told)
        snapshot = CloudSnapshot(
            self,
            random_snapshot_id(),
            volume=NoVolume(origin.size),
            description=description or "",
            encrypted=origin.encrypted,
            kms_key_id=kms_key_id,
        )
        snapshot.copied = True
        self.snapshots[snapshot.id] = snapshot
        source = os.open(self.world.snapshot_file(origin.id), os.O_RDONLY | os.O_CLOEXEC)
        self.world.background(lambda: self._freeze(snapshot, source))
        return snapshot

    def delete_snapshot(self, snapshot_id: str) -> Snapshot:
        self.get_snapshot(snapshot_id)
        images: Any = self.amis.values()
        for image in images:
            if snapshot_id in image.snapshot_ids:
                raise InvalidSnapshotInUse(snapshot_id, image.id)
        self.world.snapshot_file(snapshot_id).unlink(missing_ok=True)
        return super().delete_snapshot(snapshot_id)

    def in_region(self, region: str) -> SnapshotBackend:
        """Return the backend of another region of the same account."""
        from moto.ec2.models import ec2_backends

        if region not in ec2_backends[self.account_id]:
            refuse("InvalidParameterValue", f"Invalid value '{region}' for sourceRegion.")
        return cast(SnapshotBackend, ec2_backends[self.account_id][region])

    def _freeze(self, snapshot: CloudSnapshot, source: int) -> None:
        """Copy the content (the open file ``source``), then let the snapshot complete."""
        file = self.world.snapshot_file(snapshot.id)
        try:
            sparse.copy(source, file)
        finally:
            os.close(source)
        with self.world.lock:
            if snapshot.id not in self.snapshots:
                file.unlink()
                return
            end = "error" if self.world.is_doomed("snapshot") else "completed"

            def complete() -> None:
                snapshot.status = end

            self.world.later(self.world.settings.delays.snapshot_pending, complete)


class SnapshotResponse(NounResponse):
    """Calls about snapshots."""

    def copy_snapshot(self) -> ActionResult:
        """Copy, encrypted where that is asked for; EC2 takes no `false`, and no key without it."""
        asked = self._get_param("Encrypted")
        encrypted = asked is not None and str(asked).lower() == "true"
        if asked is not None and not encrypted:
            refuse("InvalidParameterValue", "The parameter Encrypted cannot be set to false.")
        if self._get_param("KmsKeyId") and not encrypted:
            refuse("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
        answer = outcome(super().copy_snapshot())
        snapshot = self.cloud.get_snapshot(answer["SnapshotId"])
        snapshot.encrypted = snapshot.encrypted or encrypted
        return ActionResult(answer)

    def describe_snapshots(self) -> ActionResult:
        asked = self._get_param("SnapshotIds", [])
        snapshots = outcome(super().describe_snapshots())["Snapshots"]
        return ActionResult({"Snapshots": self.seen(snapshots, asked, "InvalidSnapshot.NotFound")})
