"""EBS snapshots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebspub.aws.answers import paged, said, text
from ebspub.aws.failures import calling
from ebspub.aws.tags import as_dict, marked, of_jobs, specification

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What DescribeSnapshots says. ``progress`` is EC2's text, like `42%`."""

    id: str
    state: str
    progress: str
    volume: str
    message: str
    tags: Mapping[str, str]


def parse(item: Mapping[str, Any]) -> Snapshot:
    """Return a Snapshot from an item of DescribeSnapshots. Raises GarbledAnswerError."""
    return Snapshot(
        id=text(item, "SnapshotId"),
        state=said(item, "State") or "pending",
        progress=said(item, "Progress"),
        volume=said(item, "VolumeId"),
        message=said(item, "StateMessage"),
        tags=as_dict(item.get("Tags")),
    )


def describe(ec2: EC2Client, store: str, jobs: Sequence[str]) -> list[Snapshot]:
    """Return the snapshots of some jobs (at most 200)."""
    with calling("DescribeSnapshots"):
        found = paged(
            ec2.describe_snapshots, "Snapshots", OwnerIds=["self"], Filters=of_jobs(store, jobs), MaxResults=1000
        )
        return [parse(item) for item in marked(found)]


def get(ec2: EC2Client, snapshot: str) -> Snapshot | None:
    """Return one snapshot of this account; None where there is none."""
    with calling("DescribeSnapshots"):
        wanted = [{"Name": "snapshot-id", "Values": [snapshot]}]
        found = paged(ec2.describe_snapshots, "Snapshots", OwnerIds=["self"], Filters=wanted)
    return parse(found[0]) if found else None


def create(ec2: EC2Client, request: Mapping[str, Any], *, tags: Mapping[str, str]) -> str:
    """Snapshot a volume; return the snapshot's id. ``request``: volume, description. The call takes no client token."""
    with calling("CreateSnapshot"):
        answer = ec2.create_snapshot(
            VolumeId=request["volume"],
            Description=request["description"],
            TagSpecifications=[specification("snapshot", tags)],
        )
        return text(answer, "SnapshotId")


def copy(ec2: EC2Client, request: Mapping[str, Any], *, tags: Mapping[str, str]) -> str:
    """Copy a completed snapshot of another region to this one; return the copy's id, at once: it is pending for long.

    ``request``: snapshot, region (of the original), description, encrypted, kms_key. The call takes no client token.
    A copy has no volume: EC2 names an arbitrary one.
    """
    more: dict[str, Any] = {"Encrypted": True} if request["encrypted"] else {}
    if request["kms_key"] is not None:
        more["KmsKeyId"] = request["kms_key"]
    with calling("CopySnapshot"):
        answer = ec2.copy_snapshot(
            SourceSnapshotId=request["snapshot"],
            SourceRegion=request["region"],
            Description=request["description"],
            TagSpecifications=[specification("snapshot", tags)],
            **more,
        )
        return text(answer, "SnapshotId")


def delete(ec2: EC2Client, snapshot: str) -> None:
    """Delete a snapshot that no AMI uses."""
    with calling("DeleteSnapshot"):
        ec2.delete_snapshot(SnapshotId=snapshot)
