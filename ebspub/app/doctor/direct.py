"""May these credentials use the EBS direct APIs? They take no DryRun, so each call is tried so that it cannot succeed.

IAM is asked first: who may not is told so, whatever the call is about. With a snapshot that does not exist (as parent,
or to be filled) nothing can come of a call that is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ebspub.app.doctor.rows import Level, Row
from ebspub.aws import blocks, tags
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import AwsError, Cause

#: A well-formed id of a snapshot that is not there.
_NOBODY = "snap-00000000000000000"
_REQUEST = {"size": 1, "description": "ebspub doctor", "timeout": 10, "parent": _NOBODY}
_MARKS = {tags.STORE: "doctor", tags.JOB: "doctor"}
_ZERO = bytes(blocks.SIZE)


def _start(clients: RegionClients) -> None:
    blocks.start(clients.ebs, _REQUEST, token="ebspub-doctor", tags=_MARKS)


def _put(clients: RegionClients) -> None:
    blocks.put(clients.ebs, _NOBODY, 0, _ZERO, blocks.sha256(_ZERO))


def _complete(clients: RegionClients) -> None:
    blocks.complete(clients.ebs, _NOBODY, count=0, checksum=blocks.linear({}))


#: Every call of the method, and how it is tried.
CALLS: Mapping[str, Callable[[RegionClients], None]] = {
    "StartSnapshot": _start,
    "PutSnapshotBlock": _put,
    "CompleteSnapshot": _complete,
}


def check(clients: RegionClients) -> Row:
    """Return what the region says of the calls of the direct method. Raises AwsError where it does not answer."""
    refused = []
    for name, call in CALLS.items():
        try:
            call(clients)
        except AwsError as error:
            if error.cause is Cause.PERMISSION:
                refused.append(f"ebs:{name}")
            elif error.cause not in (Cause.NOT_YET, Cause.REFUSED):
                raise
    if "ebs:StartSnapshot" in refused:
        todo = "Grant the actions to the credentials in use (examples/iam-policy.json)."
        return Row(clients.region, "EBS direct", Level.RED, f"refused: {', '.join(refused)}", todo)
    if refused:
        what = f"refused for a snapshot that does not exist: {', '.join(refused)}"
        todo = "Well if your policy allows these for what carries ebspub's tags only (examples/iam-policy.json does)."
        return Row(clients.region, "EBS direct", Level.YELLOW, what, todo)
    return Row(clients.region, "EBS direct", Level.GREEN, f"{', '.join(CALLS)} granted")
