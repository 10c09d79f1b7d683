"""Snapshots that are filled block by block (EBS direct APIs): the state behind ``localcloud.ebs``.

EBS's rules, as its API reference and user guide tell them: blocks of 512 KiB; a checksum for each that must be right;
completing needs the count and the aggregated checksum of what was put; a snapshot that is not completed in time ends in
`error`; a parent must be complete and not larger, and its encryption holds; nothing is read before it is complete.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.utils import random_snapshot_id

from ebspub.localcloud import sparse
from ebspub.localcloud.ec2.base import now
from ebspub.localcloud.ec2.snapshots import NO_VOLUME, CloudSnapshot, NoVolume, SnapshotBackend

BLOCK = 512 * 1024
_KEY = re.compile(r"arn:aws[a-z\-]*:kms:.*:[0-9]{12}:key/.*")
_LARGEST = 65536


class EbsError(Exception):
    """An error answer of the EBS direct APIs."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def invalid(message: str) -> NoReturn:
    """Answer that the call is not valid."""
    raise EbsError(400, "ValidationException", message)


@dataclass
class Writing:
    """What was put into a snapshot: SHA-256 by block index; ``touched``: when the last one was (monotonic)."""

    parent: str
    timeout: int
    put: dict[int, bytes] = field(default_factory=dict)
    touched: float = field(default_factory=now)
    sealed: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class DirectBackend(SnapshotBackend):
    """The direct APIs of one region. Takes the world's lock itself, for as short as can be."""

    def start_direct(self, request: Mapping[str, Any]) -> CloudSnapshot:
        """Start a snapshot, or return the one that the client token stands for."""
        with self.world.lock:
            token = request.get("ClientToken")
            try:
                known = self.tokens.find("StartSnapshot", token, request)
            except EC2ClientError as error:
                raise EbsError(409, "ConflictException", "the client token was used with other parameters") from error
            if known is not None and known in self.snapshots:
                return self.get_snapshot(known)
            parent = self._checked(request)
            size = request["VolumeSize"]
            snapshot = CloudSnapshot(
                self,
                random_snapshot_id(),
                volume=NoVolume(size),
                description=request.get("Description", ""),
                encrypted=parent.encrypted if parent else bool(request.get("Encrypted")),
                kms_key_id=parent.kms_key_id if parent else request.get("KmsKeyArn"),
            )
            snapshot.writing = Writing(parent.id if parent else "", request.get("Timeout", 60))
            snapshot.add_tags({tag["Key"]: tag["Value"] for tag in request.get("Tags", [])})
            file = self.world.snapshot_file(snapshot.id)
            source = os.open(self.world.snapshot_file(parent.id), os.O_RDONLY | os.O_CLOEXEC) if parent else None
            self.snapshots[snapshot.id] = snapshot
            self.tokens.remember("StartSnapshot", token, request, snapshot.id)
        if source is None:
            sparse.create(file, size * sparse.GIB)
        else:
            try:
                sparse.copy(source, file)
            finally:
                os.close(source)
            sparse.grow(file, size * sparse.GIB)
        self._expire(snapshot)
        return snapshot

    def put_block(self, snapshot_id: str, index: int, data: bytes, checksum: str) -> str:
        """Write a block; return its checksum."""
        with self.world.lock:
            snapshot = self._known(snapshot_id)
            writing = snapshot.writing
            if writing is None or writing.sealed or snapshot.status != "pending":
                invalid(f"The snapshot '{snapshot_id}' is not in the pending state.")
            if not 0 <= index < snapshot.size * (sparse.GIB // BLOCK):
                invalid(f"The block index {index} is beyond the volume.")
        if len(data) != BLOCK:
            invalid(f"The block has {len(data)} bytes, not {BLOCK}.")
        digest = hashlib.sha256(data).digest()
        told = base64.b64encode(digest).decode()
        if checksum != told:
            invalid("The checksum does not agree with the block's data.")
        with writing.lock:
            if writing.sealed:
                invalid(f"The snapshot '{snapshot_id}' is not in the pending state.")
            target = os.open(self.world.snapshot_file(snapshot_id), os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.pwrite(target, data, index * BLOCK)
            finally:
                os.close(target)
            writing.put[index] = digest
            writing.touched = now()
        return told

    def complete_direct(self, snapshot_id: str, count: int, checksum: str) -> str:
        """Seal a snapshot; return its state."""
        with self.world.lock:
            snapshot = self._known(snapshot_id)
            writing = snapshot.writing
            if writing is None or snapshot.status == "error":
                invalid(f"The snapshot '{snapshot_id}' is not in the pending state.")
            with writing.lock:
                if count != len(writing.put):
                    invalid(f"{count} changed blocks were told, {len(writing.put)} were written.")
                whole = hashlib.sha256(b"".join(writing.put[index] for index in sorted(writing.put))).digest()
                if checksum and checksum != base64.b64encode(whole).decode():
                    invalid("The checksum does not agree with those of the blocks.")
                again, writing.sealed = writing.sealed, True
            if not again:
                end = "error" if self.world.is_doomed("snapshot") else "completed"

                def complete() -> None:
                    snapshot.status = end

                self.world.later(self.world.settings.delays.snapshot_pending, complete)
            return snapshot.status

    def readable(self, snapshot_id: str) -> CloudSnapshot:
        """Return a snapshot that is complete."""
        with self.world.lock:
            snapshot = self._known(snapshot_id)
            if snapshot.status != "completed":
                invalid(f"The snapshot '{snapshot_id}' is {snapshot.status}, not completed.")
            return snapshot

    def related(self, first: CloudSnapshot, second: CloudSnapshot) -> bool:
        """Tell whether two snapshots are of one volume, or one is a change of what the other is."""
        lines = [self._line(each) for each in (first, second)]
        return bool(lines[0] & lines[1])

    def _line(self, snapshot: CloudSnapshot) -> set[str]:
        line = {snapshot.id}
        while snapshot.writing is not None and snapshot.writing.parent in self.snapshots:
            snapshot = self.get_snapshot(snapshot.writing.parent)
            line.add(snapshot.id)
        return line if snapshot.volume_id == NO_VOLUME else {*line, snapshot.volume_id}

    def _known(self, snapshot_id: str) -> CloudSnapshot:
        """Return a snapshot; one that is fresh may still be hidden."""
        found = self.snapshots.get(snapshot_id)
        if not isinstance(found, CloudSnapshot) or not self.world.listed(found.born):
            raise EbsError(404, "ResourceNotFoundException", f"The snapshot '{snapshot_id}' does not exist.")
        return found

    def _checked(self, request: Mapping[str, Any]) -> CloudSnapshot | None:
        """Refuse what EBS refuses; return the parent."""
        size = request.get("VolumeSize")
        if not isinstance(size, int) or not 1 <= size <= _LARGEST:
            invalid("The volume size is not valid.")
        if not 10 <= request.get("Timeout", 60) <= 4320:
            invalid("The timeout is not valid: 10 to 4320 minutes.")
        if len(request.get("Tags", [])) > 50:
            invalid("There are too many tags.")
        key = request.get("KmsKeyArn")
        if key is not None and (not _KEY.fullmatch(key) or not request.get("Encrypted")):
            invalid("The KMS key is not valid here.")
        if "ParentSnapshotId" not in request:
            return None
        if "Encrypted" in request or key is not None:
            invalid("You can't specify Encrypted and ParentSnapshotId in the same request.")
        parent = self._known(request["ParentSnapshotId"])
        if parent.status != "completed" or parent.size > size:
            invalid("The parent snapshot is not completed, or larger than the volume.")
        return parent

    def _expire(self, snapshot: CloudSnapshot) -> None:
        """End a snapshot in `error` to which nothing comes any more."""
        writing = snapshot.writing
        assert writing is not None
        left = writing.touched + writing.timeout * self.world.settings.minute - now()

        def look() -> None:
            if writing.sealed or snapshot.id not in self.snapshots:
                return
            if now() < writing.touched + writing.timeout * self.world.settings.minute:
                self._expire(snapshot)
            else:
                snapshot.status = "error"

        self.world.timers.later(max(0.05, left), self.world.locked(look))
