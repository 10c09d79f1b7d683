"""Who may use AMIs and snapshots, and what is written on them when they are published.

A principal is one text: `all` for everybody, an account's id, the ARN of an organization or of an organizational unit.
Adding what is there already and removing what is not are no errors to EC2, so that each of these calls may be repeated.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ebspub.aws.answers import listed, said
from ebspub.aws.failures import calling

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

EVERYBODY = "all"
#: EC2 takes 500 changes of permissions a call.
_MOST = 500


def launch_permissions(ec2: EC2Client, image: str) -> frozenset[str]:
    """Return the principals that may launch an AMI of this account."""
    with calling("DescribeImageAttribute"):
        answer = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
        return _principals(listed(answer, "LaunchPermissions"))


def volume_permissions(ec2: EC2Client, snapshot: str) -> frozenset[str]:
    """Return the principals that may make volumes of a snapshot of this account."""
    with calling("DescribeSnapshotAttribute"):
        answer = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
        return _principals(listed(answer, "CreateVolumePermissions"))


def change_launch(ec2: EC2Client, image: str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
    """Let principals launch an AMI, and others no more."""
    for key, principals in (("Add", add), ("Remove", remove)):
        for some in _some(principals):
            permission: Any = {key: [_item(each) for each in some]}
            with calling("ModifyImageAttribute"):
                ec2.modify_image_attribute(ImageId=image, Attribute="launchPermission", LaunchPermission=permission)


def change_volumes(ec2: EC2Client, snapshot: str, *, add: Collection[str] = (), remove: Collection[str] = ()) -> None:
    """Let `all` or accounts make volumes of a snapshot, and others no more."""
    for operation, principals in (("add", add), ("remove", remove)):
        for some in _some(principals):
            accounts = [each for each in some if each != EVERYBODY]
            # EC2 takes groups or accounts in one call.
            for told in ({"GroupNames": [EVERYBODY]} if EVERYBODY in some else {}, {"UserIds": accounts}):
                if any(told.values()):
                    more: Any = {"OperationType": operation, **told}
                    with calling("ModifySnapshotAttribute"):
                        ec2.modify_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission", **more)


def tag(ec2: EC2Client, resource: str, tags: Mapping[str, str]) -> None:
    """Write tags on an AMI or a snapshot, over those that are there."""
    with calling("CreateTags"):
        ec2.create_tags(Resources=[resource], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


def untag(ec2: EC2Client, resource: str, keys: Iterable[str]) -> None:
    """Take tags away, whatever their values."""
    with calling("DeleteTags"):
        ec2.delete_tags(Resources=[resource], Tags=[{"Key": key} for key in keys])


def images_blocked(ec2: EC2Client) -> str:
    """Return whether the account may make AMIs public in a region: `unblocked`, or `block-new-sharing`."""
    with calling("GetImageBlockPublicAccessState"):
        return said(dict(ec2.get_image_block_public_access_state()), "ImageBlockPublicAccessState") or "unblocked"


def snapshots_blocked(ec2: EC2Client) -> str:
    """Return whether it may make snapshots public: `unblocked`, `block-new-sharing`, `block-all-sharing`."""
    with calling("GetSnapshotBlockPublicAccessState"):
        return said(dict(ec2.get_snapshot_block_public_access_state()), "State") or "unblocked"


def _some(principals: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(principals)
    for start in range(0, len(ordered), _MOST):
        yield ordered[start : start + _MOST]


def _principals(items: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return who is named; a kind of principal that is not known here is nobody's to take away."""
    keys = ("Group", "UserId", "OrganizationArn", "OrganizationalUnitArn")
    return frozenset(said(item, key) for item in items for key in keys if item.get(key))


def _item(principal: str) -> dict[str, str]:
    if principal == EVERYBODY:
        return {"Group": EVERYBODY}
    if ":organization/" in principal:
        return {"OrganizationArn": principal}
    return {"OrganizationalUnitArn": principal} if ":ou/" in principal else {"UserId": principal}
