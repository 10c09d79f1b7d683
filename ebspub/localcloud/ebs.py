"""The EBS direct APIs over HTTP (REST, JSON): served here, not by moto, which checks nothing and keeps no content.

The world's lock is held for bookkeeping only: many blocks are put side by side.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from moto.core.utils import iso_8601_datetime_with_milliseconds
from moto.ec2.models import ec2_backends

from ebspub.localcloud.ec2.direct import BLOCK, DirectBackend, EbsError, invalid
from ebspub.localcloud.ec2.snapshots import CloudSnapshot

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from ebspub.localcloud.calls import Incoming

#: Status, headers and body of an answer.
Told = tuple[int, dict[str, str], bytes]
_ACCOUNT = "123456789012"


def answer(environ: WSGIEnvironment, incoming: Incoming) -> Told:
    """Carry out a call. Raises :class:`~ebspub.localcloud.ec2.direct.EbsError` for what EBS refuses."""
    action = _ACTIONS.get(incoming.action)
    if action is None:
        raise EbsError(404, "UnknownOperationException", "There is no such call.")
    cloud = cast(DirectBackend, ec2_backends[_ACCOUNT][incoming.region])
    return action(cloud, incoming.params, environ)


def _start(cloud: DirectBackend, _params: Mapping[str, str], environ: WSGIEnvironment) -> Told:
    request = json.loads(environ["wsgi.input"].read())
    snapshot = cloud.start_direct(request)
    return _json(
        201,
        {
            "SnapshotId": snapshot.id,
            "OwnerId": _ACCOUNT,
            "Status": snapshot.status,
            "StartTime": iso_8601_datetime_with_milliseconds(snapshot.start_time),
            "VolumeSize": snapshot.size,
            "BlockSize": BLOCK,
            "Tags": request.get("Tags", []),
            "Description": snapshot.description,
            **({"ParentSnapshotId": request["ParentSnapshotId"]} if "ParentSnapshotId" in request else {}),
            **({"KmsKeyArn": snapshot.kms_key_id} if snapshot.kms_key_id else {}),
        },
    )


def _put(cloud: DirectBackend, params: Mapping[str, str], environ: WSGIEnvironment) -> Told:
    if environ.get("HTTP_X_AMZ_DATA_LENGTH") != str(BLOCK) or _algorithm(environ) != "SHA256":
        invalid(f"Data-Length must be {BLOCK}, and Checksum-Algorithm SHA256.")
    data = environ["wsgi.input"].read()
    told = cloud.put_block(params["SnapshotId"], int(params["BlockIndex"]), data, _checksum(environ))
    return _json(201, {}, _checksums(told))


def _complete(cloud: DirectBackend, params: Mapping[str, str], environ: WSGIEnvironment) -> Told:
    if _checksum(environ) and (
        _algorithm(environ) != "SHA256" or environ.get("HTTP_X_AMZ_CHECKSUM_AGGREGATION_METHOD") != "LINEAR"
    ):
        invalid("A checksum needs its algorithm, SHA256, and its aggregation, LINEAR.")
    count = int(environ.get("HTTP_X_AMZ_CHANGEDBLOCKSCOUNT", "-1"))
    status = cloud.complete_direct(params["SnapshotId"], count, _checksum(environ))
    return _json(202, {"Status": status})


def _get(cloud: DirectBackend, params: Mapping[str, str], _environ: WSGIEnvironment) -> Told:
    snapshot, index = cloud.readable(params["SnapshotId"]), int(params["BlockIndex"])
    if params.get("blockToken") != _token(snapshot, index):
        invalid("The block token is not valid.")
    data = _block(cloud, snapshot, index)
    told = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {**_checksums(told), "x-amz-Data-Length": str(len(data)), "Content-Type": "application/octet-stream"}
    return 200, headers, data


def _list(cloud: DirectBackend, params: Mapping[str, str], _environ: WSGIEnvironment) -> Told:
    snapshot = cloud.readable(params["SnapshotId"])
    page, more = _page(_held(cloud, snapshot), params)
    blocks = [{"BlockIndex": index, "BlockToken": _token(snapshot, index)} for index in page]
    return _json(200, {"Blocks": blocks, "VolumeSize": snapshot.size, "BlockSize": BLOCK, **more})


def _changed(cloud: DirectBackend, params: Mapping[str, str], _environ: WSGIEnvironment) -> Told:
    first, second = cloud.readable(params.get("firstSnapshotId", "")), cloud.readable(params["SnapshotId"])
    if not cloud.related(first, second):
        invalid("The snapshots are not related.")
    held = [set(_held(cloud, each)) for each in (first, second)]
    differing = [i for i in sorted(held[0] | held[1]) if _block(cloud, first, i) != _block(cloud, second, i)]
    page, more = _page(differing, params)
    blocks = [
        {
            "BlockIndex": index,
            **({"FirstBlockToken": _token(first, index)} if index in held[0] else {}),
            **({"SecondBlockToken": _token(second, index)} if index in held[1] else {}),
        }
        for index in page
    ]
    return _json(200, {"ChangedBlocks": blocks, "VolumeSize": second.size, "BlockSize": BLOCK, **more})


_ACTIONS: Mapping[str, Callable[[DirectBackend, Mapping[str, str], Any], Told]] = {
    "StartSnapshot": _start,
    "PutSnapshotBlock": _put,
    "CompleteSnapshot": _complete,
    "GetSnapshotBlock": _get,
    "ListSnapshotBlocks": _list,
    "ListChangedBlocks": _changed,
}


def _json(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Told:
    return status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()


def _checksum(environ: WSGIEnvironment) -> str:
    return str(environ.get("HTTP_X_AMZ_CHECKSUM", ""))


def _algorithm(environ: WSGIEnvironment) -> str:
    return str(environ.get("HTTP_X_AMZ_CHECKSUM_ALGORITHM", ""))


def _checksums(told: str) -> dict[str, str]:
    return {"x-amz-Checksum": told, "x-amz-Checksum-Algorithm": "SHA256"}


def _token(snapshot: CloudSnapshot, index: int) -> str:
    return base64.b64encode(f"{snapshot.id}:{index}".encode()).decode()


def _block(cloud: DirectBackend, snapshot: CloudSnapshot, index: int) -> bytes:
    """Return a block; zeros beyond the end of a smaller volume."""
    with cloud.world.snapshot_file(snapshot.id).open("rb") as file:
        return os.pread(file.fileno(), BLOCK, index * BLOCK).ljust(BLOCK, b"\0")


def _held(cloud: DirectBackend, snapshot: CloudSnapshot) -> list[int]:
    """Return the indexes of the blocks in which the snapshot's file is no hole."""
    found: set[int] = set()
    with cloud.world.snapshot_file(snapshot.id).open("rb") as file:
        for start, end in _extents(file.fileno()):
            found.update(range(start // BLOCK, -(-end // BLOCK)))
    return sorted(found)


def _extents(number: int) -> Iterator[tuple[int, int]]:
    end = 0
    while True:
        try:
            start = os.lseek(number, end, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            return
        end = os.lseek(number, start, os.SEEK_HOLE)
        yield start, end


def _page(indexes: list[int], params: Mapping[str, str]) -> tuple[list[int], dict[str, str]]:
    """Return one page of a listing, and what tells that there is another."""
    first = int(params.get("startingBlockIndex", "0"))
    if params.get("pageToken"):
        first = int(base64.b64decode(params["pageToken"]))
    most = max(100, min(10000, int(params.get("maxResults", "10000"))))
    rest = [index for index in indexes if index >= first]
    more = {"NextToken": base64.b64encode(str(rest[most]).encode()).decode()} if len(rest) > most else {}
    return rest[:most], more
