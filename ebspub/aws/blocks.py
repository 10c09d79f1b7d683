"""EBS direct APIs: snapshots that are filled block by block, without an instance or a volume.

What is relied on (EBS direct API reference and user guide):

* Blocks are 512 KiB, aligned; a block that was never put reads as zeros, or as the parent's where there is a parent.
* PutSnapshotBlock may be repeated: the later one replaces the earlier. Its SHA-256 is part of the signature and is
  checked by EBS. The snapshot must be pending; a fresh one may be unknown to it for a while.
* CompleteSnapshot is told how many blocks were put, and the SHA-256 of their SHA-256 sums (as bytes, in the order of
  their indexes; LINEAR is the only aggregation). EBS refuses what does not agree with what it got.
* A pending snapshot to which nothing is put for ``Timeout`` minutes (10 to 4320) ends in `error`.
* With a parent, neither encryption nor a key may be named: the parent's hold.
* A client token says one snapshot; with other parameters it is a ConflictException.
* Requests beyond the quota (1,000 puts a second and snapshot, as a rule) answer RequestThrottledException.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ebspub.aws.failures import calling

if TYPE_CHECKING:
    from mypy_boto3_ebs import EBSClient

#: Bytes of a block.
SIZE: Final = 512 * 1024
#: Blocks of one GiB.
PER_GIB: Final = 1024**3 // SIZE
#: The volume of which EC2 says that such a snapshot is.
NO_VOLUME: Final = "vol-ffffffff"


def start(ebs: EBSClient, request: Mapping[str, Any], *, token: str, tags: Mapping[str, str]) -> str:
    """Start a snapshot; return its id.

    ``request``: size (GiB), description, timeout (minutes), parent (snapshot id or None), encrypted, kms_key (an ARN or
    None). The last two are not told where there is a parent, whose own hold.
    """
    arguments: dict[str, Any] = {
        "VolumeSize": request["size"],
        "Description": request["description"],
        "Timeout": request["timeout"],
        "ClientToken": token,
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }
    if request.get("parent"):
        arguments["ParentSnapshotId"] = request["parent"]
    elif request.get("encrypted"):
        arguments["Encrypted"] = True
        if request.get("kms_key"):
            arguments["KmsKeyArn"] = request["kms_key"]
    with calling("StartSnapshot"):
        return ebs.start_snapshot(**arguments)["SnapshotId"]


def put(ebs: EBSClient, snapshot: str, index: int, data: bytes | bytearray, digest: bytes) -> None:
    """Put the block ``index``: :data:`SIZE` bytes, whose SHA-256 is ``digest``. Harmless to repeat."""
    with calling("PutSnapshotBlock"):
        ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=data,  # type: ignore[arg-type]  # botocore sends a bytearray as it is
            DataLength=SIZE,
            Checksum=base64.b64encode(digest).decode(),
            ChecksumAlgorithm="SHA256",
        )


def complete(ebs: EBSClient, snapshot: str, *, count: int, checksum: str) -> None:
    """Seal a snapshot to which ``count`` blocks were put; ``checksum`` is :func:`linear` of them."""
    with calling("CompleteSnapshot"):
        ebs.complete_snapshot(
            SnapshotId=snapshot,
            ChangedBlocksCount=count,
            Checksum=checksum,
            ChecksumAlgorithm="SHA256",
            ChecksumAggregationMethod="LINEAR",
        )


def sha256(data: bytes | bytearray) -> bytes:
    """Return the checksum of a block."""
    return hashlib.sha256(data).digest()


def linear(sent: Mapping[int, bytes]) -> str:
    """Return the aggregated checksum (Base64) of the blocks that were put: index and SHA-256."""
    return base64.b64encode(hashlib.sha256(b"".join(sent[index] for index in sorted(sent))).digest()).decode()
