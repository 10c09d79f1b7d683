"""What EC2 says of each kind of thing, as it really says it: with gaps, odd orders and remains."""

from __future__ import annotations

import pytest

from ebspub.aws import groups, images, instances, snapshots, volumes
from ebspub.aws.groups import Group
from ebspub.aws.images import Image
from ebspub.aws.instances import Instance
from ebspub.aws.snapshots import Snapshot
from ebspub.aws.volumes import Volume

TAGS = [{"Key": "ebspub:job", "Value": "lucid"}, {"Key": "Name", "Value": ""}]
OURS = {"ebspub:job": "lucid", "Name": ""}


# Instances ---------------------------------------------------------------------------------------------------------


def test_a_running_instance() -> None:
    item = {
        "InstanceId": "i-1",
        "State": {"Code": 16, "Name": "running"},
        "Placement": {"AvailabilityZone": "us-east-1a", "Tenancy": "default"},
        "PublicIpAddress": "192.0.2.7",
        "PrivateIpAddress": "10.0.0.7",
        "StateTransitionReason": "",
        "Tags": TAGS,
    }
    assert instances.parse(item) == Instance("i-1", "running", "us-east-1a", "192.0.2.7", "10.0.0.7", "", OURS)


def test_an_instance_of_which_little_is_known_is_pending() -> None:
    assert instances.parse({"InstanceId": "i-1"}) == Instance("i-1", "pending", "", "", "", "", {})


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (
            {"StateReason": {"Code": "Client.InternalError", "Message": "Client error on launch"}},
            "Client error on launch",
        ),
        ({"StateReason": {"Code": "Server.SpotInstanceTermination"}}, "Server.SpotInstanceTermination"),
        ({"StateTransitionReason": "User initiated (2010-10-20)"}, "User initiated (2010-10-20)"),
        ({"StateReason": {"Code": "", "Message": ""}, "StateTransitionReason": "User"}, "User"),
    ],
)
def test_why_an_instance_ended(told: dict[str, object], reason: str) -> None:
    assert instances.parse({"InstanceId": "i-1", "State": {"Name": "terminated"}, **told}).reason == reason


def test_states_of_no_return() -> None:
    assert {"shutting-down", "terminated", "stopping", "stopped"} == instances.LOST
    assert {"terminated"} == instances.GONE


# Volumes -----------------------------------------------------------------------------------------------------------


def test_an_attached_volume() -> None:
    item = {
        "VolumeId": "vol-1",
        "State": "in-use",
        "AvailabilityZone": "us-east-1a",
        "Attachments": [{"InstanceId": "i-1", "Device": "/dev/sdf", "State": "attached", "VolumeId": "vol-1"}],
        "Tags": TAGS,
    }
    attachment = ("i-1", "/dev/sdf", "attached")
    assert volumes.parse(item) == Volume(
        "vol-1", "in-use", "us-east-1a", attachment, {"ebspub:job": "lucid", "Name": ""}
    )


def test_an_attachment_that_is_over_is_none() -> None:
    over = {"InstanceId": "i-0", "Device": "/dev/sdf", "State": "detached"}
    now = {"InstanceId": "i-1", "Device": "/dev/sdg", "State": "attaching"}
    assert volumes.parse({"VolumeId": "vol-1", "Attachments": [over]}).attachment is None
    assert volumes.parse({"VolumeId": "vol-1", "Attachments": [over, now]}).attachment == (
        "i-1",
        "/dev/sdg",
        "attaching",
    )


def test_a_volume_of_which_little_is_known_is_being_made() -> None:
    assert volumes.parse({"VolumeId": "vol-1"}) == Volume("vol-1", "creating", "", None, {})
    assert volumes.parse({"VolumeId": "vol-1", "Attachments": [{"InstanceId": "i-1"}]}).attachment == ("i-1", "", "")


# Snapshots ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_under_way() -> None:
    item = {
        "SnapshotId": "snap-1",
        "State": "pending",
        "Progress": "42%",
        "VolumeId": "vol-1",
        "Tags": TAGS,
    }
    assert snapshots.parse(item) == Snapshot(
        "snap-1", "pending", "42%", "vol-1", "", {"ebspub:job": "lucid", "Name": ""}
    )


def test_a_snapshot_that_failed_says_why() -> None:
    item = {"SnapshotId": "snap-1", "State": "error", "StateMessage": "Given key ID is not accessible"}
    assert snapshots.parse(item) == Snapshot("snap-1", "error", "", "", "Given key ID is not accessible", {})
    assert snapshots.parse({"SnapshotId": "snap-1", "Progress": None}).progress == ""


# Images ------------------------------------------------------------------------------------------------------------


def image(**changes: object) -> Image:
    """Return the Image that an item of DescribeImages is taken for."""
    item = {
        "ImageId": "ami-1",
        "Name": "lucid",
        "State": "available",
        "Architecture": "x86_64",
        "RootDeviceName": "/dev/sda1",
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-1"}}],
        "Tags": TAGS,
    }
    return images.parse({key: value for key, value in {**item, **changes}.items() if value is not None})


def test_an_image_that_is_available() -> None:
    wanted = Image(
        "ami-1", "lucid", "available", "", "x86_64", "/dev/sda1", "snap-1", {"ebspub:job": "lucid", "Name": ""}
    )
    assert image() == wanted


def test_the_root_snapshot_is_found_by_its_device_wherever_it_is_listed() -> None:
    mappings = [
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
        {"DeviceName": "/dev/sdc", "Ebs": {"SnapshotId": "snap-data"}},
        {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": "snap-root"}},
    ]
    assert image(BlockDeviceMappings=mappings).snapshot == "snap-root"
    assert image(BlockDeviceMappings=mappings, RootDeviceName="/dev/xvda").snapshot == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"BlockDeviceMappings": None},
        {"BlockDeviceMappings": []},
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {}}]},
        {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "VirtualName": "ephemeral0"}]},
        {"BlockDeviceMappings": [{"Ebs": {"SnapshotId": "snap-1"}}]},
        {"RootDeviceName": None},
    ],
)
def test_an_image_without_a_root_snapshot_has_none(changes: dict[str, object]) -> None:
    assert image(**changes).snapshot == ""


def test_an_image_that_failed_says_why() -> None:
    failed = image(State="failed", StateReason={"Code": "Client.BadParameter", "Message": "no boot loader"})
    assert (failed.state, failed.reason) == ("failed", "no boot loader")
    assert failed.state in images.FAILED
    assert {"failed", "error", "invalid", "deregistered"} == images.FAILED


def test_an_image_of_which_little_is_known_is_pending() -> None:
    assert images.parse({"ImageId": "ami-1"}) == Image("ami-1", "", "pending", "", "", "", "", {})


# Groups ------------------------------------------------------------------------------------------------------------


def test_a_group_and_what_it_admits() -> None:
    item = {
        "GroupId": "sg-1",
        "GroupName": "ebspub-1",
        "IpPermissions": [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}, {"IpProtocol": "-1"}],
        "Tags": TAGS,
    }
    assert groups.parse(item) == Group("sg-1", "ebspub-1", frozenset({22, -1}), OURS)
    assert groups.parse({"GroupId": "sg-1"}) == Group("sg-1", "", frozenset(), {})
