"""AMIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebspub.aws.answers import GarbledAnswerError, paged, said, text
from ebspub.aws.failures import calling
from ebspub.aws.tags import JOB, as_dict, specification
from ebspub.spec import Registration

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

#: States of an AMI that will not become available (botocore's waiter knows only `failed`).
FAILED = frozenset({"failed", "error", "invalid", "deregistered"})


@dataclass(frozen=True, slots=True)
class Image:
    """What DescribeImages says. ``snapshot`` is the root device's, found by name: it is not always mapping [0]."""

    id: str
    name: str
    state: str
    reason: str
    architecture: str
    root_device: str
    snapshot: str
    tags: Mapping[str, str]


def parse(item: Mapping[str, Any]) -> Image:
    """Return an Image from an item of DescribeImages. Raises GarbledAnswerError."""
    root = said(item, "RootDeviceName")
    mappings = item.get("BlockDeviceMappings", ())
    snapshot = next((said(m, "Ebs", "SnapshotId") for m in mappings if m.get("DeviceName") == root and "Ebs" in m), "")
    return Image(
        id=text(item, "ImageId"),
        name=said(item, "Name"),
        state=said(item, "State") or "pending",
        reason=said(item, "StateReason", "Message"),
        architecture=said(item, "Architecture"),
        root_device=root,
        snapshot=snapshot,
        tags=as_dict(item.get("Tags")),
    )


def named(ec2: EC2Client, names: Sequence[str]) -> list[Image]:
    """Return this account's AMIs of some names (at most 200), whoever registered them."""
    with calling("DescribeImages"):
        found = paged(
            ec2.describe_images,
            "Images",
            Owners=["self"],
            Filters=[{"Name": "name", "Values": [_literal(name) for name in names]}],
            IncludeDisabled=True,
        )
        return [_whole(parse(item)) for item in found]


def _whole(image: Image) -> Image:
    """Return an AMI that was asked for by name, if all is there that decides about it. Raises GarbledAnswerError.

    One without a name leaves its name looking free; one of ours without its snapshot would be adopted without it, and
    the snapshot removed.
    """
    if not image.name:
        raise GarbledAnswerError("what was asked for by its name shows none")
    if JOB in image.tags and image.state == "available" and not image.snapshot:
        raise GarbledAnswerError(f"{image.id} shows no snapshot")
    return image


def get(ec2: EC2Client, image: str) -> Image | None:
    """Return one AMI, anybody's; None where there is none that we may see."""
    with calling("DescribeImages"):
        found = paged(ec2.describe_images, "Images", Filters=[{"Name": "image-id", "Values": [image]}])
        return parse(found[0]) if found else None


def register(ec2: EC2Client, registration: Registration, request: Mapping[str, Any], *, tags: Mapping[str, str]) -> str:
    """Register an AMI; return its id. The call takes no client token; its name is unique.

    ``request``: snapshot, iops and throughput (MiB/s) of the root volumes that are made from it. Of encryption nothing
    is said: with a snapshot EC2 takes no word of it, and what is made of an encrypted one is encrypted.
    """
    root: dict[str, Any] = {
        "SnapshotId": request["snapshot"],
        "DeleteOnTermination": True,
        "VolumeType": registration.volume_type,
    }
    if request.get("iops"):
        root["Iops"] = request["iops"]
    if request.get("throughput"):
        root["Throughput"] = request["throughput"]
    mappings: list[dict[str, Any]] = [{"DeviceName": registration.root_device, "Ebs": root}]
    mappings += [{"DeviceName": device, "VirtualName": name} for device, name in registration.ephemeral]
    arguments: dict[str, Any] = {
        "Name": registration.name,
        "Description": registration.description,
        "Architecture": registration.architecture,
        "VirtualizationType": registration.virtualization,
        "RootDeviceName": registration.root_device,
        "BlockDeviceMappings": mappings,
        "TagSpecifications": [specification("image", tags)],
        "KernelId": registration.kernel_id,
        "RamdiskId": registration.ramdisk_id,
        "BootMode": registration.boot_mode,
        "ImdsSupport": registration.imds if registration.imds == "v2.0" else None,
        "TpmSupport": registration.tpm,
        "UefiData": registration.uefi_data,
        "EnaSupport": registration.ena or None,
        "SriovNetSupport": "simple" if registration.sriov else None,
    }
    with calling("RegisterImage"):
        answer = ec2.register_image(**{key: value for key, value in arguments.items() if value not in (None, "")})
        return text(answer, "ImageId")


def deregister(ec2: EC2Client, image: str) -> None:
    """Deregister an AMI; its snapshot stays."""
    with calling("DeregisterImage"):
        ec2.deregister_image(ImageId=image)


def _literal(value: str) -> str:
    """Escape what EC2's filters take as wildcards."""
    return value.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")
