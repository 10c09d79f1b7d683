"""Copies of snapshots to another region: the same content, in their own time, and what EC2 refuses is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ebspub.localcloud import Delays, Settings
from tests.localcloud.lab import Lab, code_of, until

SLOW = Settings(delays=Delays.all(0.15).model_copy(update={"snapshot_pending": 3600.0}))


@pytest.fixture
def there(lab: Lab) -> Any:
    return lab.client("ec2", "eu-west-1")


def described(ec2: Any, snapshot: str) -> dict[str, Any]:
    return dict(ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0])


def tagged(**tags: str) -> list[dict[str, Any]]:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return [{"ResourceType": "snapshot", "Tags": listed}]


def test_a_copy_has_the_content_and_tags_of_its_own(lab: Lab, ec2: Any, there: Any) -> None:
    snapshot = lab.snapshot(lab.volume())
    ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "of", "Value": "the original"}])
    with lab.cloud.snapshot_path(snapshot).open("r+b") as file:
        file.write(b"content")

    copy = there.copy_snapshot(
        SourceRegion="us-east-1", SourceSnapshotId=snapshot, Description="d", TagSpecifications=tagged(mine="yes")
    )["SnapshotId"]
    assert described(there, copy)["State"] == "pending"
    until(lambda: described(there, copy)["State"] == "completed")

    found = described(there, copy)
    assert (found["VolumeId"], found["VolumeSize"], found["Description"]) == ("vol-ffffffff", 1, "d")
    assert (found["Tags"], found["Encrypted"]) == ([{"Key": "mine", "Value": "yes"}], False)
    sums = [hashlib.sha256(lab.cloud.snapshot_path(each).read_bytes()).digest() for each in (snapshot, copy)]
    assert sums[0] == sums[1]
    assert code_of(ec2.describe_snapshots, SnapshotIds=[copy]) == "InvalidSnapshot.NotFound"


def test_a_copy_is_encrypted_when_asked_for_or_when_its_original_is(there: Any, snapshot: str) -> None:
    told = {"SourceRegion": "us-east-1", "SourceSnapshotId": snapshot}
    copy = there.copy_snapshot(**told, Encrypted=True, KmsKeyId="alias/mine")["SnapshotId"]
    assert described(there, copy)["Encrypted"] is True
    until(lambda: described(there, copy)["State"] == "completed")
    again = there.copy_snapshot(SourceRegion="eu-west-1", SourceSnapshotId=copy)["SnapshotId"]
    assert described(there, again)["Encrypted"] is True
    assert code_of(there.copy_snapshot, **told, KmsKeyId="alias/mine") == "InvalidParameterDependency"


def test_what_is_not_there_or_not_complete_cannot_be_copied(lab: Lab, ec2: Any, there: Any) -> None:
    told = {"SourceRegion": "us-east-1", "SourceSnapshotId": "snap-0123456789abcdef0"}
    assert code_of(there.copy_snapshot, **told) == "InvalidSnapshot.NotFound"
    lab.cloud.configure(SLOW)
    pending = ec2.create_snapshot(VolumeId=lab.volume())["SnapshotId"]
    assert code_of(there.copy_snapshot, SourceRegion="us-east-1", SourceSnapshotId=pending) == "IncorrectState"


def test_more_copies_than_a_region_takes_at_a_time_are_refused(lab: Lab, snapshot: str) -> None:
    lab.cloud.configure(SLOW.model_copy(update={"snapshot_copies": 1}))
    there, other = lab.client("ec2", "eu-central-1"), lab.client("ec2", "eu-north-1")
    told = {"SourceRegion": "us-east-1", "SourceSnapshotId": snapshot}
    assert code_of(there.copy_snapshot, **told) == "ok"
    assert code_of(there.copy_snapshot, **told) == "ResourceLimitExceeded"
    assert code_of(other.copy_snapshot, **told) == "ok"
