"""EBS volumes."""

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
class Volume:
    """What DescribeVolumes says. ``attachment`` is (instance id, device, state) or None."""

    id: str
    state: str
    zone: str
    attachment: tuple[str, str, str] | None
    tags: Mapping[str, str]


def parse(item: Mapping[str, Any]) -> Volume:
    """Return a Volume from an item of DescribeVolumes. Raises GarbledAnswerError."""
    attachments = [a for a in item.get("Attachments", ()) if a.get("State") != "detached"]
    first = attachments[0] if attachments else None
    return Volume(
        id=text(item, "VolumeId"),
        state=said(item, "State") or "creating",
        zone=said(item, "AvailabilityZone"),
        attachment=(said(first, "InstanceId"), said(first, "Device"), said(first, "State")) if first else None,
        tags=as_dict(item.get("Tags")),
    )


def describe(ec2: EC2Client, store: str, jobs: Sequence[str]) -> list[Volume]:
    """Return the volumes of some jobs (at most 200), the builders' own roots among them."""
    with calling("DescribeVolumes"):
        found = paged(ec2.describe_volumes, "Volumes", Filters=of_jobs(store, jobs), MaxResults=500)
        return [parse(item) for item in marked(found)]


def create(ec2: EC2Client, request: Mapping[str, Any], *, token: str, tags: Mapping[str, str]) -> str:
    """Create an empty volume; return its id.

    ``request``: zone, size (GiB), type, iops, throughput (MiB/s),
    encrypted, kms_key.
    """
    arguments: dict[str, Any] = {
        "AvailabilityZone": request["zone"],
        "Size": request["size"],
        "VolumeType": request["type"],
        "ClientToken": token,
        "TagSpecifications": [specification("volume", tags)],
    }
    if request.get("iops"):
        arguments["Iops"] = request["iops"]
    if request.get("throughput"):
        arguments["Throughput"] = request["throughput"]
    if request.get("encrypted"):
        arguments["Encrypted"] = True
        if request.get("kms_key"):
            arguments["KmsKeyId"] = request["kms_key"]
    with calling("CreateVolume"):
        return text(ec2.create_volume(**arguments), "VolumeId")


def attach(ec2: EC2Client, volume: str, instance: str, device: str) -> None:
    """Attach an available volume. EC2 answers before the attachment is `attached`."""
    with calling("AttachVolume"):
        ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device=device)


def detach(ec2: EC2Client, volume: str) -> None:
    """Detach a volume from whatever it is attached to."""
    with calling("DetachVolume"):
        ec2.detach_volume(VolumeId=volume)


def delete(ec2: EC2Client, volume: str) -> None:
    """Delete an available volume."""
    with calling("DeleteVolume"):
        ec2.delete_volume(VolumeId=volume)
