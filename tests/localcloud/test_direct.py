"""EBS direct: content comes back as it was put, and what EBS refuses is refused."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ebspub.aws import blocks
from ebspub.localcloud import Delays, Effect, Rule, Settings
from tests.localcloud.lab import Lab

ZERO = bytes(blocks.SIZE)


@pytest.fixture
def ebs(lab: Lab) -> Any:
    return lab.client("ebs")


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def put(ebs: Any, snapshot: str, index: int, data: bytes, **changed: Any) -> Any:
    told = {
        "SnapshotId": snapshot,
        "BlockIndex": index,
        "BlockData": data,
        "DataLength": blocks.SIZE,
        "Checksum": b64(hashlib.sha256(data).digest()),
        "ChecksumAlgorithm": "SHA256",
    }
    return ebs.put_snapshot_block(**{**told, **changed})


def made(lab: Lab, content: dict[int, bytes], **how: Any) -> str:
    """Return a completed snapshot of 1 GiB with blocks."""
    ebs = lab.client("ebs")
    snapshot = str(ebs.start_snapshot(VolumeSize=1, **how)["SnapshotId"])
    for index, data in content.items():
        put(ebs, snapshot, index, data)
    sums = {index: hashlib.sha256(data).digest() for index, data in content.items()}
    blocks.complete(ebs, snapshot, count=len(content), checksum=blocks.linear(sums))
    until(lambda: state(lab, snapshot) == "completed")
    return snapshot


def state(lab: Lab, snapshot: str) -> str:
    found = lab.client("ec2").describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return str(found["State"])


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def refused(code: str, call: Callable[[], object]) -> None:
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["Error"]["Code"] == code


def test_what_was_put_is_read_listed_and_in_the_volumes_made_of_it(lab: Lab, ebs: Any, ec2: Any) -> None:
    content = {0: os.urandom(blocks.SIZE), 5: os.urandom(blocks.SIZE), 2047: os.urandom(blocks.SIZE)}
    snapshot = made(lab, content, Tags=[{"Key": "a", "Value": "b"}], Description="of blocks")

    told = ec2.describe_snapshots(Filters=[{"Name": "tag:a", "Values": ["b"]}], SnapshotIds=[snapshot])["Snapshots"][0]
    assert (told["VolumeSize"], told["VolumeId"], told["Description"]) == (1, blocks.NO_VOLUME, "of blocks")
    listed = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert [block["BlockIndex"] for block in listed["Blocks"]] == [0, 5, 2047]
    for block in listed["Blocks"]:
        got = ebs.get_snapshot_block(SnapshotId=snapshot, **block)
        assert got["BlockData"].read() == content[block["BlockIndex"]]
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", SnapshotId=snapshot)["VolumeId"]
    until(lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available")
    with lab.cloud.volume_path(volume).open("rb") as file:
        file.seek(5 * blocks.SIZE)
        assert file.read(blocks.SIZE) == content[5]


def test_a_child_has_its_parents_blocks_but_for_those_put(lab: Lab, ebs: Any) -> None:
    old = {0: os.urandom(blocks.SIZE), 1: os.urandom(blocks.SIZE), 2: os.urandom(blocks.SIZE)}
    parent = made(lab, old)
    new = {1: os.urandom(blocks.SIZE), 2: ZERO}
    child = made(lab, new, ParentSnapshotId=parent)

    content = lab.cloud.snapshot_path(child).read_bytes()[: 3 * blocks.SIZE]
    assert content == old[0] + new[1] + ZERO
    changed = ebs.list_changed_blocks(FirstSnapshotId=parent, SecondSnapshotId=child)["ChangedBlocks"]
    assert [block["BlockIndex"] for block in changed] == [1, 2]
    other = made(lab, old)
    refused("ValidationException", lambda: ebs.list_changed_blocks(FirstSnapshotId=other, SecondSnapshotId=child))


def test_a_token_stands_for_one_snapshot(ebs: Any) -> None:
    first = ebs.start_snapshot(VolumeSize=1, ClientToken="token-1")["SnapshotId"]
    assert ebs.start_snapshot(VolumeSize=1, ClientToken="token-1")["SnapshotId"] == first
    refused("ConflictException", lambda: ebs.start_snapshot(VolumeSize=2, ClientToken="token-1"))


def test_a_wrong_checksum_size_or_place_of_a_block_is_refused(ebs: Any) -> None:
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    data = os.urandom(blocks.SIZE)
    wrong = b64(hashlib.sha256(ZERO).digest())
    refused("ValidationException", lambda: put(ebs, snapshot, 0, data, Checksum=wrong))
    refused("ValidationException", lambda: put(ebs, snapshot, 2048, data))
    refused("ValidationException", lambda: put(ebs, snapshot, 0, data[:-1]))
    refused("ValidationException", lambda: put(ebs, snapshot, 0, data, DataLength=512))
    refused("ResourceNotFoundException", lambda: put(ebs, "snap-00000000000000000", 0, data))


def test_a_wrong_count_or_whole_checksum_is_refused_and_a_right_one_may_be_repeated(lab: Lab, ebs: Any) -> None:
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    data = os.urandom(blocks.SIZE)
    put(ebs, snapshot, 3, data)
    put(ebs, snapshot, 3, data)
    right = blocks.linear({3: hashlib.sha256(data).digest()})
    told = {"SnapshotId": snapshot, "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    refused("ValidationException", lambda: ebs.complete_snapshot(**told, ChangedBlocksCount=2, Checksum=right))
    wrong = b64(hashlib.sha256(data).digest())
    refused("ValidationException", lambda: ebs.complete_snapshot(**told, ChangedBlocksCount=1, Checksum=wrong))
    for _ in range(2):
        ebs.complete_snapshot(**told, ChangedBlocksCount=1, Checksum=right)
    refused("ValidationException", lambda: put(ebs, snapshot, 4, data))
    until(lambda: state(lab, snapshot) == "completed")


def test_parents_and_keys_that_ebs_does_not_take_are_refused(lab: Lab, ebs: Any) -> None:
    unfinished = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    parent = made(
        lab, {0: os.urandom(blocks.SIZE)}, Encrypted=True, KmsKeyArn="arn:aws:kms:us-east-1:123456789012:key/k"
    )

    refused("ValidationException", lambda: ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=unfinished))
    refused("ResourceNotFoundException", lambda: ebs.start_snapshot(VolumeSize=1, ParentSnapshotId="snap-1"))
    refused("ValidationException", lambda: ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent, Encrypted=True))
    refused("ValidationException", lambda: ebs.start_snapshot(VolumeSize=1, Encrypted=True, KmsKeyArn="alias/mine"))
    child = ebs.start_snapshot(VolumeSize=2, ParentSnapshotId=parent)["SnapshotId"]
    told = lab.client("ec2").describe_snapshots(SnapshotIds=[child])["Snapshots"][0]
    assert (told["Encrypted"], told["VolumeSize"]) == (True, 2)


def test_a_snapshot_that_nobody_completes_ends_in_error(lab: Lab, ebs: Any) -> None:
    lab.cloud.configure(Settings(delays=Delays.all(0.1), minute=0.01))
    snapshot = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    until(lambda: state(lab, snapshot) == "error")
    refused("ValidationException", lambda: put(ebs, snapshot, 0, os.urandom(blocks.SIZE)))


def test_calls_are_logged_and_faults_strike_single_blocks(lab: Lab, ebs: Any) -> None:
    throttled = Effect(kind="error", code="RequestThrottledException", status=400, message="slow down")
    lab.cloud.add_fault(Rule(effects=(throttled,), actions=frozenset({"PutSnapshotBlock"}), params={"BlockIndex": "7"}))
    before = len(lab.cloud.calls())
    snapshot = ebs.start_snapshot(VolumeSize=1, ClientToken="token-of-the-log")["SnapshotId"]
    data = os.urandom(blocks.SIZE)
    put(ebs, snapshot, 6, data)
    refused("RequestThrottledException", lambda: put(ebs, snapshot, 7, data))
    put(ebs, snapshot, 7, data)
    calls = lab.cloud.calls(before)
    assert [(c.action, c.outcome, c.mutating) for c in calls] == [
        ("StartSnapshot", "ok", True),
        ("PutSnapshotBlock", "ok", True),
        ("PutSnapshotBlock", "RequestThrottledException", True),
        ("PutSnapshotBlock", "ok", True),
    ]
    assert calls[0].client_token == "token-of-the-log"
    assert calls[0].ids == [snapshot]
    assert snapshot in lab.cloud.inventory().leftovers()
