"""Images: DescribeImages answers what RegisterImage was told, and names are unique."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.localcloud.lab import Lab, code_of, until


def registration(name: str, snapshot: str, **more: Any) -> dict[str, Any]:
    mapping = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot, "VolumeType": "gp3"}}
    return {"Name": name, "RootDeviceName": "/dev/sda1", "BlockDeviceMappings": [mapping], **more}


def described(ec2: Any, image_id: str) -> dict[str, Any]:
    return dict(ec2.describe_images(ImageIds=[image_id])["Images"][0])


def test_everything_that_was_registered_is_described(ec2: Any, snapshot: str, name: str) -> None:
    asked = registration(
        name,
        snapshot,
        Description="a description",
        Architecture="arm64",
        VirtualizationType="hvm",
        EnaSupport=True,
        SriovNetSupport="simple",
        BootMode="uefi",
        ImdsSupport="v2.0",
        TpmSupport="v2.0",
        TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "build", "Value": name}]}],
    )
    asked["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] = True
    asked["BlockDeviceMappings"].append({"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"})
    image = described(ec2, ec2.register_image(**asked)["ImageId"])
    for key in set(asked) - {"BlockDeviceMappings", "TagSpecifications"}:
        assert image[key] == asked[key], key
    assert image["Tags"] == [{"Key": "build", "Value": name}]
    root, ephemeral = image["BlockDeviceMappings"]
    assert root["Ebs"]["SnapshotId"] == snapshot
    assert (root["Ebs"]["VolumeType"], root["Ebs"]["DeleteOnTermination"], root["Ebs"]["VolumeSize"]) == (
        "gp3",
        True,
        1,
    )
    assert ephemeral == {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}
    assert image["OwnerId"] == "123456789012"
    assert image["Public"] is False


def test_paravirtual_images_keep_their_kernel(ec2: Any, snapshot: str, name: str) -> None:
    asked = registration(name, snapshot, Architecture="i386", KernelId="aki-4c7d9525", RamdiskId="ari-1")
    image = described(ec2, ec2.register_image(**asked)["ImageId"])
    assert (image["KernelId"], image["RamdiskId"], image["VirtualizationType"]) == (
        "aki-4c7d9525",
        "ari-1",
        "paravirtual",
    )


def test_a_name_in_use_is_refused_in_its_region_only(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    ec2.register_image(**registration(name, snapshot))
    assert code_of(ec2.register_image, **registration(name, snapshot)) == "InvalidAMIName.Duplicate"
    there = lab.client("ec2", "eu-west-1")
    copy = there.copy_snapshot(SourceRegion="us-east-1", SourceSnapshotId=snapshot)["SnapshotId"]
    there.get_waiter("snapshot_completed").config.delay = 1
    until(lambda: there.describe_snapshots(SnapshotIds=[copy])["Snapshots"][0]["State"] == "completed")
    assert code_of(there.register_image, **registration(name, copy)) == "ok"


def test_a_name_is_free_again_after_deregistering(ec2: Any, snapshot: str, name: str) -> None:
    image_id = ec2.register_image(**registration(name, snapshot))["ImageId"]
    ec2.deregister_image(ImageId=image_id)
    assert code_of(ec2.describe_images, ImageIds=[image_id]) == "InvalidAMIID.NotFound"
    assert code_of(ec2.register_image, **registration(name, snapshot)) == "ok"


@pytest.mark.parametrize("bad", ["x" * 129, "with+plus", "with:colon"])
def test_names_are_of_ec2s_set(ec2: Any, snapshot: str, bad: str) -> None:
    assert code_of(ec2.register_image, **registration(bad, snapshot)) == "InvalidAMIName.Malformed"


def test_the_snapshot_must_exist_and_be_completed(lab: Lab, ec2: Any, name: str) -> None:
    assert code_of(ec2.register_image, **registration(name, "snap-0123456789abcdef0")) == "InvalidSnapshot.NotFound"
    pending = ec2.create_snapshot(VolumeId=lab.volume())["SnapshotId"]
    assert code_of(ec2.register_image, **registration(name, pending)) == "IncorrectState"


def test_an_image_is_pending_at_first(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    image_id = ec2.register_image(**registration(name, snapshot))["ImageId"]
    assert described(ec2, image_id)["State"] == "pending"
    everybody = {"Add": [{"Group": "all"}]}
    public = {"ImageId": image_id, "LaunchPermission": everybody}
    assert code_of(ec2.modify_image_attribute, **public) == "InvalidAMIID.Unavailable"
    until(lambda: lab.image_state(image_id) == "available")
    ec2.modify_image_attribute(**public)
    assert described(ec2, image_id)["Public"] is True


def test_images_are_found_by_owner_name_tag_and_state(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    tags = [{"ResourceType": "image", "Tags": [{"Key": "find", "Value": name}]}]
    image_id = ec2.register_image(**registration(name, snapshot, TagSpecifications=tags))["ImageId"]
    until(lambda: lab.image_state(image_id) == "available")
    for key, value in {"name": name, "tag:find": name, "block-device-mapping.snapshot-id": snapshot}.items():
        wanted = [{"Name": key, "Values": [value]}, {"Name": "state", "Values": ["available"]}]
        found = ec2.describe_images(Owners=["self"], Filters=wanted)["Images"]
        assert image_id in [image["ImageId"] for image in found], key
    assert lab.image() not in [i["ImageId"] for i in ec2.describe_images(Owners=["self"])["Images"]]


def test_a_snapshot_in_use_by_an_image_is_kept(ec2: Any, lab: Lab, name: str) -> None:
    snapshot = lab.snapshot(lab.volume())
    image_id = ec2.register_image(**registration(name, snapshot))["ImageId"]
    assert code_of(ec2.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    ec2.deregister_image(ImageId=image_id)
    assert code_of(ec2.delete_snapshot, SnapshotId=snapshot) == "ok"


def test_a_copy_has_snapshots_of_its_own(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    image_id = ec2.register_image(**registration(name, snapshot, EnaSupport=True))["ImageId"]
    until(lambda: lab.image_state(image_id) == "available")
    there = lab.client("ec2", "eu-west-1")
    copy = there.copy_image(Name=name, SourceImageId=image_id, SourceRegion="us-east-1")["ImageId"]
    until(lambda: described(there, copy)["State"] == "available")
    copied = described(there, copy)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert copied != snapshot
    assert lab.cloud.snapshot_path(copied).stat().st_size == lab.cloud.snapshot_path(snapshot).stat().st_size


def test_images_can_be_deprecated(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    image_id = ec2.register_image(**registration(name, snapshot))["ImageId"]
    until(lambda: lab.image_state(image_id) == "available")
    ec2.enable_image_deprecation(ImageId=image_id, DeprecateAt=datetime(2030, 1, 2, 3, 4, tzinfo=UTC))
    assert described(ec2, image_id)["DeprecationTime"] == "2030-01-02T03:04:00.000Z"
    ec2.disable_image_deprecation(ImageId=image_id)
    assert "DeprecationTime" not in described(ec2, image_id)


def test_every_region_has_builder_images_that_its_parameters_name(lab: Lab) -> None:
    regions = [r["RegionName"] for r in lab.client("ec2").describe_regions()["Regions"]]
    assert {"us-east-1", "eu-west-1", "ap-southeast-1"} <= set(regions)
    assert not [region for region in regions if region.startswith(("cn-", "us-gov-"))]
    for region in ("us-east-1", regions[-1]):
        for arch, architecture in {"amd64": "x86_64", "arm64": "arm64"}.items():
            image = described(lab.client("ec2", region), lab.image(arch, region))
            assert (image["Architecture"], image["OwnerId"], image["Public"]) == (architecture, "099720109477", True)


def test_a_region_that_does_not_exist_is_refused(lab: Lab) -> None:
    assert code_of(lab.client("ec2", "us-moon-1").describe_images) == "AuthFailure"


def test_an_image_is_as_secure_as_it_was_registered(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    boot = {"BootMode": "uefi", "TpmSupport": "v2.0", "UefiData": "QU1aTlVFRkk=", "ImdsSupport": "v2.0"}
    image_id = ec2.register_image(**registration(name, snapshot, **boot))["ImageId"]
    image = described(ec2, image_id)
    assert {key: image.get(key) for key in boot} == {**boot, "UefiData": None}
    until(lambda: lab.image_state(image_id) == "available")
    told = ec2.describe_image_attribute(ImageId=image_id, Attribute="uefiData")
    assert told["UefiData"] == {"Value": "QU1aTlVFRkk="}


@pytest.mark.parametrize("wrong", [{"TpmSupport": "v2.0"}, {"UefiData": "QU1aTlVFRkk="}], ids=str)
def test_a_tpm_and_uefi_variables_are_for_uefi(ec2: Any, snapshot: str, name: str, wrong: dict[str, str]) -> None:
    assert code_of(ec2.register_image, **registration(name, snapshot, **wrong)) == "InvalidParameterCombination"


def test_what_is_encrypted_stays_so(lab: Lab, ec2: Any, name: str) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/0123"
    made = {"AvailabilityZone": "us-east-1a", "Size": 1, "Encrypted": True, "KmsKeyId": key}
    volume = ec2.create_volume(**made)["VolumeId"]
    until(lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    snapshot = lab.snapshot(volume)
    seen = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert (seen["Encrypted"], seen["KmsKeyId"]) == (True, key)
    fast = {"SnapshotId": snapshot, "VolumeType": "gp3", "Iops": 4000, "Throughput": 500}
    mapping = [{"DeviceName": "/dev/sda1", "Ebs": fast}]
    image_id = ec2.register_image(**registration(name, snapshot, BlockDeviceMappings=mapping))["ImageId"]
    ebs = described(ec2, image_id)["BlockDeviceMappings"][0]["Ebs"]
    assert (ebs["Encrypted"], ebs["Iops"], ebs["Throughput"]) == (True, 4000, 500)
    mapping[0]["Ebs"] = {**fast, "Encrypted": True}
    told = registration(f"{name}-2", snapshot, BlockDeviceMappings=mapping)
    assert code_of(ec2.register_image, **told) == "InvalidParameterCombination"
