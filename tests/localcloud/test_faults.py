"""Faults: calls that fail before or after they take effect, and a cloud that treats its users badly."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from ebspub.localcloud import Effect, Rule
from ebspub.localcloud.calls import Incoming
from ebspub.localcloud.faults import FaultBook
from tests.localcloud.lab import Lab, code_of, until

VOLUME = {"AvailabilityZone": "us-east-1a", "Size": 1}


def volumes(ec2: Any) -> set[str]:
    return {v["VolumeId"] for v in ec2.describe_volumes()["Volumes"]}


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_error_is_answered_and_the_call_had_its_effect_only_if_after(lab: Lab, ec2: Any, when: Any) -> None:
    there = volumes(ec2)
    effect = Effect(kind="error", when=when, code="RequestLimitExceeded", status=503)
    lab.cloud.add_fault(Rule(effects=(effect,), actions=frozenset({"CreateVolume"})))
    assert code_of(ec2.create_volume, **VOLUME) == "RequestLimitExceeded"
    assert len(volumes(ec2) - there) == (when == "after")
    assert code_of(ec2.create_volume, **VOLUME) == "ok", "once only"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_is_lost(lab: Lab, ec2: Any, when: Any) -> None:
    there = volumes(ec2)
    number = lab.cloud.add_fault(Rule(effects=(Effect(kind="drop", when=when),), mutating=True, nth=2))
    ec2.create_volume(**VOLUME)
    with pytest.raises(ConnectionClosedError):
        ec2.create_volume(**VOLUME)
    assert len(volumes(ec2) - there) == 1 + (when == "after")
    (status,) = lab.cloud.faults()
    assert (status.id, status.matched, status.struck) == (number, 2, 1)
    lost = [call for call in lab.cloud.calls() if call.outcome == "lost"]
    assert (lost[-1].action, lost[-1].executed) == ("CreateVolume", when == "after")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_is_killed_just_before_or_after_a_call_takes_effect(lab: Lab, ec2: Any, when: Any) -> None:
    victim = subprocess.Popen(["sleep", "60"])
    there = volumes(ec2)
    lab.cloud.kill_at(victim.pid, 1, when=when, actions=["CreateVolume"])
    with pytest.raises(ConnectionClosedError):
        ec2.create_volume(**VOLUME)
    assert victim.wait(5) == -9
    assert len(volumes(ec2) - there) == (when == "after")


def test_a_call_is_late(lab: Lab, ec2: Any) -> None:
    lab.cloud.add_fault(Rule(effects=(Effect(kind="delay", seconds=0.4),), actions=frozenset({"DescribeVolumes"})))
    begin = time.monotonic()
    ec2.describe_volumes()
    assert time.monotonic() - begin >= 0.4


def test_a_region_is_down_and_the_others_are_not(lab: Lab, ec2: Any) -> None:
    there = lab.client("ec2", "eu-west-1")
    number = lab.cloud.region_down("eu-west-1")
    assert code_of(there.describe_volumes) == "ServiceUnavailable"
    assert code_of(lab.client("ssm", "eu-west-1").get_parameter, Name="x") == "ServiceUnavailable"
    assert code_of(ec2.describe_volumes) == "ok"
    lab.cloud.remove_fault(number)
    assert code_of(there.describe_volumes) == "ok"
    lab.cloud.region_down("eu-west-1", silent=True)
    with pytest.raises(ConnectionClosedError):
        there.describe_volumes()


def test_an_action_is_denied(lab: Lab, ec2: Any) -> None:
    lab.cloud.deny("CreateVolume")
    with pytest.raises(ClientError) as caught:
        ec2.create_volume(**VOLUME)
    assert caught.value.response["Error"]["Code"] == "UnauthorizedOperation"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_there_is_no_capacity_in_a_zone(lab: Lab, ec2: Any) -> None:
    lab.cloud.no_capacity(zone="us-east-1b", instance_type="t3.micro")
    full = {"Placement": {"AvailabilityZone": "us-east-1b"}}
    assert code_of(lab.run_instances, **full) == "InsufficientInstanceCapacity"
    subnets = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["us-east-1b"]}])["Subnets"]
    assert code_of(lab.run_instances, SubnetId=subnets[0]["SubnetId"]) == "InsufficientInstanceCapacity"
    for fits in ({**full, "InstanceType": "t3.small"}, {"Placement": {"AvailabilityZone": "us-east-1a"}}):
        instance_id = lab.run_instances(**fits)
        ec2.terminate_instances(InstanceIds=[instance_id])


def test_the_next_snapshot_ends_in_error(lab: Lab, ec2: Any) -> None:
    volume_id = lab.volume()
    lab.cloud.doom("snapshot")
    doomed = ec2.create_snapshot(VolumeId=volume_id)["SnapshotId"]
    until(lambda: lab.snapshot_state(doomed) == "error")
    assert lab.snapshot(volume_id), "the one after it completes"


def test_the_next_image_fails(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    lab.cloud.doom("image")
    mapping = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}
    doomed = ec2.register_image(Name=name, RootDeviceName="/dev/sda1", BlockDeviceMappings=[mapping])["ImageId"]
    until(lambda: lab.image_state(doomed) == "failed")


def test_the_next_attachment_hangs_and_can_be_given_up(lab: Lab, ec2: Any, nitro: Any) -> None:
    volume_id = lab.volume(nitro.zone)
    lab.cloud.doom("attachment")
    ec2.attach_volume(VolumeId=volume_id, InstanceId=nitro.instance_id, Device="/dev/sdf")
    time.sleep(0.5)
    assert lab.attachment(volume_id) == "attaching"
    lab.detach(volume_id)


def test_the_log_tells_every_call(lab: Lab, ec2: Any) -> None:
    begin = len(lab.cloud.calls())
    made = ec2.create_volume(**VOLUME, ClientToken="for the log")
    code_of(ec2.create_volume, **VOLUME, DryRun=True)
    code_of(ec2.delete_volume, VolumeId="vol-0123456789abcdef0")
    ec2.describe_volumes()
    created, dry, failed, described = lab.cloud.calls(since=begin)
    assert (created.n, created.service, created.region) == (begin + 1, "ec2", "us-east-1")
    assert (created.action, created.mutating, created.outcome) == ("CreateVolume", True, "ok")
    assert (created.client_token, created.ids) == ("for the log", [made["VolumeId"]])
    assert created.request_id == made["ResponseMetadata"]["RequestId"]
    assert (dry.mutating, dry.outcome) == (False, "DryRunOperation")
    assert (failed.mutating, failed.outcome) == (True, "InvalidVolume.NotFound")
    assert (described.action, described.mutating) == ("DescribeVolumes", False)
    assert len({call.request_id for call in (created, dry, failed, described)}) == 4


def test_random_faults_are_the_same_for_the_same_seed() -> None:
    def struck(seed: int) -> list[str]:
        book = FaultBook()
        effects = (Effect(kind="drop"), Effect(kind="error"))
        book.add(Rule(effects=effects, rate=0.3, seed=seed, actions=frozenset({"Do"})))
        call = Incoming("", "r", "ec2", "Do")
        return [effect.kind for _ in range(200) for effect in book.strike(call) or [Effect(kind="delay")]]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 30 < 200 - struck(1).count("delay") < 90
    assert {"drop", "error"} <= set(struck(1))


def test_rules_match_by_parameters_and_count_from_the_nth() -> None:
    book = FaultBook()
    book.add(Rule(effects=(Effect(kind="drop"),), params={"Size": "2"}, nth=2, times=2))
    sizes = ["1", "2", "2", "1", "2", "2"]
    struck = [bool(book.strike(Incoming("", "r", "ec2", "CreateVolume", {"Size": size}))) for size in sizes]
    assert struck == [False, False, True, False, True, False]
