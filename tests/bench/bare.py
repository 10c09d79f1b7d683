"""A bare client of the EBS direct APIs, as a yardstick: puts the blocks of a raw disk that hold data, and that is all.

    python -m tests.bench.bare DISK GIB

Prints, as JSON, the seconds from the first block to the last and how many there were. It is made as the publisher's
own client is: boto3, so many connections, each block with its checksum.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from ebspub.aws.blocks import SIZE
from ebspub.aws.clients import PUTS

if TYPE_CHECKING:
    from mypy_boto3_ebs import EBSClient


def main(disk: str, gib: int) -> None:
    """Put the blocks of ``disk`` into a snapshot of ``gib`` GiB, where the environment says."""
    ebs = boto3.client("ebs", config=Config(max_pool_connections=PUTS))
    snapshot = ebs.start_snapshot(VolumeSize=gib)["SnapshotId"]
    blocks: queue.Queue[tuple[int, bytes] | None] = queue.Queue(PUTS)
    failed: list[Exception] = []
    workers = [threading.Thread(target=_work, args=(ebs, snapshot, blocks, failed)) for _ in range(PUTS)]
    began, count = time.perf_counter(), 0
    for worker in workers:
        worker.start()
    for count, block in enumerate(data_blocks(disk), 1):  # noqa: B007 - how many there were
        blocks.put(block)
    for _ in workers:
        blocks.put(None)
    for worker in workers:
        worker.join()
    if failed:
        raise failed[0]
    sys.stdout.write(json.dumps({"seconds": time.perf_counter() - began, "blocks": count}))


def data_blocks(disk: str) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a file that are not all zeros; holes are not read."""
    number, index, zeros = os.open(disk, os.O_RDONLY), 0, bytes(SIZE)
    while True:
        try:
            index = os.lseek(number, index * SIZE, os.SEEK_DATA) // SIZE
        except OSError:  # nothing but a hole up to the end
            os.close(number)
            return
        data = os.pread(number, SIZE, index * SIZE).ljust(SIZE, b"\0")
        if data != zeros:
            yield index, data
        index += 1


def _work(
    ebs: EBSClient, snapshot: str, blocks: queue.Queue[tuple[int, bytes] | None], failed: list[Exception]
) -> None:
    while (block := blocks.get()) is not None:
        index, data = block
        try:
            ebs.put_snapshot_block(
                SnapshotId=snapshot,
                BlockIndex=index,
                BlockData=data,
                DataLength=SIZE,
                Checksum=base64.b64encode(hashlib.sha256(data).digest()).decode(),
                ChecksumAlgorithm="SHA256",
            )
        except Exception as error:  # noqa: BLE001 - raised again by the main thread; the queue must be emptied
            failed.append(error)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
