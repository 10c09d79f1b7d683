"""Client tokens: the same call again answers with the same resource."""

from __future__ import annotations

from typing import Any

import pytest

from tests.localcloud.lab import Lab, code_of, until


@pytest.fixture
def launch(lab: Lab) -> dict[str, Any]:
    return {"ImageId": lab.image(), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}


def test_same_token_and_parameters_answer_with_the_same_instance(ec2: Any, launch: dict[str, Any]) -> None:
    first = ec2.run_instances(**launch, ClientToken="same")["Instances"][0]
    again = ec2.run_instances(**launch, ClientToken="same")["Instances"][0]
    assert again["InstanceId"] == first["InstanceId"]
    assert again["ClientToken"] == "same"
    found = ec2.describe_instances(Filters=[{"Name": "client-token", "Values": ["same"]}])["Reservations"]
    assert [i["InstanceId"] for r in found for i in r["Instances"]] == [first["InstanceId"]]
    ec2.terminate_instances(InstanceIds=[first["InstanceId"]])


def test_same_token_with_other_parameters_is_a_mismatch(ec2: Any, launch: dict[str, Any]) -> None:
    instance_id = ec2.run_instances(**launch, ClientToken="other")["Instances"][0]["InstanceId"]
    changed = {**launch, "InstanceType": "t3.small", "ClientToken": "other"}
    assert code_of(ec2.run_instances, **changed) == "IdempotentParameterMismatch"
    ec2.terminate_instances(InstanceIds=[instance_id])


def test_token_of_a_terminated_instance_is_refused(lab: Lab, ec2: Any, launch: dict[str, Any]) -> None:
    instance_id = ec2.run_instances(**launch, ClientToken="ended")["Instances"][0]["InstanceId"]
    ec2.terminate_instances(InstanceIds=[instance_id])
    assert code_of(ec2.run_instances, **launch, ClientToken="ended") == "IdempotentInstanceTerminated"


def test_calls_without_a_token_make_another_resource_each(ec2: Any) -> None:
    ids = {ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, ClientToken=t)["VolumeId"] for t in ("a1", "a2")}
    assert len(ids) == 2


def test_volume_tokens_are_honoured_and_told_apart_by_region(lab: Lab, ec2: Any) -> None:
    first = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, ClientToken="v")
    again = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, ClientToken="v")
    assert first["VolumeId"] == again["VolumeId"]
    assert (
        code_of(ec2.create_volume, AvailabilityZone="us-east-1a", Size=2, ClientToken="v")
        == "IdempotentParameterMismatch"
    )
    elsewhere = lab.client("ec2", "eu-west-1").create_volume(AvailabilityZone="eu-west-1a", Size=2, ClientToken="v")
    assert elsewhere["VolumeId"] != first["VolumeId"]


def test_a_token_is_at_most_64_characters_long(ec2: Any, launch: dict[str, Any]) -> None:
    assert code_of(ec2.run_instances, **launch, ClientToken="x" * 65) == "InvalidParameterValue"


def test_copy_image_honours_its_token(lab: Lab, snapshot: str, name: str) -> None:
    ec2, there = lab.client("ec2"), lab.client("ec2", "eu-west-1")
    mapping = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}
    image = ec2.register_image(Name=name, RootDeviceName="/dev/sda1", BlockDeviceMappings=[mapping])["ImageId"]
    until(lambda: lab.image_state(image) == "available")
    copy = {"Name": name, "SourceImageId": image, "SourceRegion": "us-east-1", "ClientToken": name}
    assert there.copy_image(**copy)["ImageId"] == there.copy_image(**copy)["ImageId"]
