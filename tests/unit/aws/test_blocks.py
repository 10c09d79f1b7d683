"""The calls of the EBS direct APIs, as botocore sends them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from ebspub.aws import blocks
from ebspub.aws.clients import BotoClients

REQUEST = {"size": 8, "description": "of a build", "timeout": 1440, "parent": None, "encrypted": False, "kms_key": None}


@pytest.fixture
def stubbed() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("ebs", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    with Stubber(client) as stub:
        yield client, stub
        stub.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {}),
        ({"encrypted": True}, {"Encrypted": True}),
        (
            {"encrypted": True, "kms_key": "arn:aws:kms:r:1:key/k"},
            {"Encrypted": True, "KmsKeyArn": "arn:aws:kms:r:1:key/k"},
        ),
        # A parent's encryption holds, and none may be named beside it.
        ({"encrypted": True, "kms_key": "arn:aws:kms:r:1:key/k", "parent": "snap-1"}, {"ParentSnapshotId": "snap-1"}),
    ],
)
def test_a_snapshot_is_started_with_token_and_tags(
    stubbed: tuple[Any, Stubber], asked: dict[str, Any], told: dict[str, Any]
) -> None:
    client, stub = stubbed
    wanted = {
        "VolumeSize": 8,
        "Description": "of a build",
        "Timeout": 1440,
        "ClientToken": "t",
        "Tags": [{"Key": "a", "Value": "b"}],
    }
    stub.add_response("start_snapshot", {"SnapshotId": "snap-2"}, {**wanted, **told})
    assert blocks.start(client, {**REQUEST, **asked}, token="t", tags={"a": "b"}) == "snap-2"


def test_the_whole_checksum_is_that_of_the_sums_in_order_of_index(stubbed: tuple[Any, Stubber]) -> None:
    client, stub = stubbed
    sums = {9: b"\2" * 32, 1: b"\1" * 32}
    linear = base64.b64encode(hashlib.sha256(b"\1" * 32 + b"\2" * 32).digest()).decode()
    assert blocks.linear(sums) == linear
    wanted = {
        "SnapshotId": "snap-1",
        "ChangedBlocksCount": 2,
        "Checksum": linear,
        "ChecksumAlgorithm": "SHA256",
        "ChecksumAggregationMethod": "LINEAR",
    }
    stub.add_response("complete_snapshot", {"Status": "pending"}, wanted)
    blocks.complete(client, "snap-1", count=2, checksum=linear)


def test_a_block_is_put_with_its_checksum(stubbed: tuple[Any, Stubber]) -> None:
    client, stub = stubbed
    data = bytearray(b"x" * blocks.SIZE)
    digest = blocks.sha256(data)
    wanted = {
        "SnapshotId": "snap-1",
        "BlockIndex": 3,
        "BlockData": ANY,
        "DataLength": 524288,
        "Checksum": base64.b64encode(digest).decode(),
        "ChecksumAlgorithm": "SHA256",
    }
    stub.add_response("put_snapshot_block", {}, wanted)
    blocks.put(client, "snap-1", 3, data, digest)


def test_a_puts_checksum_is_signed_and_botocore_never_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    client = BotoClients().region("us-east-1").ebs
    sent: list[Any] = []

    def send(request: Any, **_: Any) -> None:
        sent.append(request)
        raise ConnectionError

    client.meta.events.register("before-send.ebs.PutSnapshotBlock", send)
    data = bytes(blocks.SIZE)
    with pytest.raises(ConnectionError):
        blocks.put(client, "snap-1", 0, data, blocks.sha256(data))
    (request,) = sent
    assert b"x-amz-checksum;" in request.headers["Authorization"]
