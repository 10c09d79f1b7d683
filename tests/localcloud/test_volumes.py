"""Volumes and snapshots on the books: states take time, and wrong calls are refused."""

from __future__ import annotations

from typing import Any

from ebspub.localcloud import Delays, Settings
from tests.localcloud.lab import Lab, code_of, until

MISSING: dict[str, dict[str, Any]] = {
    "describe_instances": {"InstanceIds": ["i-0123456789abcdef0"]},
    "describe_volumes": {"VolumeIds": ["vol-0123456789abcdef0"]},
    "describe_snapshots": {"SnapshotIds": ["snap-0123456789abcdef0"]},
    "describe_images": {"ImageIds": ["ami-0123456789abcdef0"]},
    "describe_security_groups": {"GroupIds": ["sg-0123456789abcdef0"]},
    "describe_key_pairs": {"KeyNames": ["nobody's"]},
    "delete_volume": {"VolumeId": "vol-0123456789abcdef0"},
    "delete_snapshot": {"SnapshotId": "snap-0123456789abcdef0"},
    "terminate_instances": {"InstanceIds": ["i-0123456789abcdef0"]},
}
CODES = {
    "describe_instances": "InvalidInstanceID.NotFound",
    "describe_volumes": "InvalidVolume.NotFound",
    "describe_snapshots": "InvalidSnapshot.NotFound",
    "describe_images": "InvalidAMIID.NotFound",
    "describe_security_groups": "InvalidGroup.NotFound",
    "describe_key_pairs": "InvalidKeyPair.NotFound",
    "delete_volume": "InvalidVolume.NotFound",
    "delete_snapshot": "InvalidSnapshot.NotFound",
    "terminate_instances": "InvalidInstanceID.NotFound",
}


def test_unknown_ids_are_not_found(ec2: Any) -> None:
    assert {call: code_of(getattr(ec2, call), **arguments) for call, arguments in MISSING.items()} == CODES


def test_states_take_time(lab: Lab, ec2: Any) -> None:
    lab.cloud.configure(Settings(delays=Delays.all(0.5)))
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)
    assert volume["State"] == "creating"
    assert lab.volume_state(volume["VolumeId"]) == "creating"
    assert code_of(ec2.create_snapshot, VolumeId=volume["VolumeId"]) == "IncorrectState"
    until(lambda: lab.volume_state(volume["VolumeId"]) == "available")
    snapshot = ec2.create_snapshot(VolumeId=volume["VolumeId"])
    assert snapshot["State"] == "pending"
    assert lab.snapshot_state(snapshot["SnapshotId"]) == "pending"
    refused = code_of(ec2.create_volume, AvailabilityZone="us-east-1a", Size=1, SnapshotId=snapshot["SnapshotId"])
    assert refused == "IncorrectState"
    until(lambda: lab.snapshot_state(snapshot["SnapshotId"]) == "completed")


def test_no_delay_makes_the_change_at_once(lab: Lab, ec2: Any) -> None:
    lab.cloud.configure(Settings(delays=Delays.all(0)))
    volume_id = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    assert lab.volume_state(volume_id) == "available"


def test_fresh_resources_are_invisible_during_the_listing_lag(lab: Lab, ec2: Any) -> None:
    lab.cloud.configure(Settings(listing_lag=0.6, delays=Delays.all(0)))
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "lag", "Value": "1"}]}]
    volume_id = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=tags)["VolumeId"]
    tagged = [{"Name": "tag:lag", "Values": ["1"]}]
    assert code_of(ec2.describe_volumes, VolumeIds=[volume_id]) == "InvalidVolume.NotFound"
    assert ec2.describe_volumes(Filters=tagged)["Volumes"] == []
    until(lambda: ec2.describe_volumes(Filters=tagged)["Volumes"])
    assert lab.volume_state(volume_id) == "available"


def test_a_volume_is_a_sparse_file_of_its_size(lab: Lab) -> None:
    volume_id = lab.volume(size=3, VolumeType="gp3")
    stat = lab.cloud.volume_path(volume_id).stat()
    assert stat.st_size == 3 << 30
    assert stat.st_blocks == 0


def test_gp3_has_iops_and_throughput(ec2: Any, lab: Lab) -> None:
    described = ec2.describe_volumes(VolumeIds=[lab.volume(VolumeType="gp3")])["Volumes"][0]
    assert (described["VolumeType"], described["Iops"], described["Throughput"]) == ("gp3", 3000, 125)
    faster = lab.volume(VolumeType="gp3", Iops=4000, Throughput=500)
    described = ec2.describe_volumes(VolumeIds=[faster])["Volumes"][0]
    assert (described["Iops"], described["Throughput"]) == (4000, 500)


def test_a_zone_of_another_region_is_refused(ec2: Any) -> None:
    assert code_of(ec2.create_volume, AvailabilityZone="eu-west-1a", Size=1) == "InvalidZone.NotFound"


def test_a_snapshot_holds_what_was_in_the_volume_when_it_was_taken(lab: Lab, ec2: Any) -> None:
    volume_id = lab.volume()
    path = lab.cloud.volume_path(volume_id)
    with path.open("r+b") as file:
        file.seek(123 << 20)
        file.write(b"before" * 1000)
    taken = ec2.create_snapshot(VolumeId=volume_id)
    with path.open("r+b") as file:
        file.write(b"after")
    until(lambda: lab.snapshot_state(taken["SnapshotId"]) == "completed")
    frozen = lab.cloud.snapshot_path(taken["SnapshotId"])
    with frozen.open("rb") as file:
        assert file.read(5) == bytes(5)
        file.seek(123 << 20)
        assert file.read(6000) == b"before" * 1000
    assert frozen.stat().st_size == 1 << 30
    assert frozen.stat().st_blocks * 512 < 1 << 20, "holes stay holes"


def test_a_volume_of_a_snapshot_has_its_content_and_may_be_larger(lab: Lab, ec2: Any) -> None:
    origin = lab.volume()
    with lab.cloud.volume_path(origin).open("r+b") as file:
        file.write(b"content")
    volume_id = lab.volume(size=2, SnapshotId=lab.snapshot(origin))
    path = lab.cloud.volume_path(volume_id)
    with path.open("rb") as file:
        assert file.read(7) == b"content"
    assert path.stat().st_size == 2 << 30


def test_tags_are_there_from_the_creating_call_on(lab: Lab, ec2: Any) -> None:
    def tagged(kind: str) -> dict[str, Any]:
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": [{"Key": "made by", "Value": "the test"}]}]}

    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, **tagged("volume"))["VolumeId"]
    until(lambda: lab.volume_state(volume) == "available")
    snapshot = ec2.create_snapshot(VolumeId=volume, **tagged("snapshot"))["SnapshotId"]
    group = ec2.create_security_group(GroupName="tagged", Description="-", **tagged("security-group"))["GroupId"]
    pair = ec2.create_key_pair(KeyName="tagged", KeyType="ed25519", **tagged("key-pair"))["KeyPairId"]
    imported = ec2.import_key_pair(KeyName="other", PublicKeyMaterial=lab.public.encode(), **tagged("key-pair"))
    wanted = [{"Name": "tag:made by", "Values": ["the test"]}]
    found = {
        *(v["VolumeId"] for v in ec2.describe_volumes(Filters=wanted)["Volumes"]),
        *(s["SnapshotId"] for s in ec2.describe_snapshots(Filters=wanted)["Snapshots"]),
        *(g["GroupId"] for g in ec2.describe_security_groups(Filters=wanted)["SecurityGroups"]),
        *(k["KeyPairId"] for k in ec2.describe_key_pairs(Filters=wanted)["KeyPairs"]),
    }
    assert found == {volume, snapshot, group, pair, imported["KeyPairId"]}
    assert code_of(ec2.create_security_group, GroupName="tagged", Description="-") == "InvalidGroup.Duplicate"
    assert code_of(ec2.create_key_pair, KeyName="tagged") == "InvalidKeyPair.Duplicate"
