"""The log of API calls: what was asked, in which order, and how it ended."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict

_READING = re.compile(r"(Describe|Get|List|Head|GET|HEAD)")
_ID = re.compile(r"\b(?:i|r|vol|snap|ami|sg|key)-[0-9a-f]{8,17}\b")
_REQUEST_ID = re.compile(r"<[rR]equestI[dD]>([^<]+)<")
_XML_CODE = re.compile(r"<Code>([^<]+)</Code>")
_JSON_CODE = re.compile(r'"__type"\s*:\s*"(?:[^"#]*#)?([^"]+)"')
_SNAPSHOT, _BLOCK = r"(?P<SnapshotId>[^/]+)", r"(?P<BlockIndex>\d+)"
_EBS_CALLS = (
    ("POST", re.compile(r"/snapshots"), "StartSnapshot"),
    ("POST", re.compile(rf"/snapshots/completion/{_SNAPSHOT}"), "CompleteSnapshot"),
    ("PUT", re.compile(rf"/snapshots/{_SNAPSHOT}/blocks/{_BLOCK}"), "PutSnapshotBlock"),
    ("GET", re.compile(rf"/snapshots/{_SNAPSHOT}/blocks/{_BLOCK}"), "GetSnapshotBlock"),
    ("GET", re.compile(rf"/snapshots/{_SNAPSHOT}/blocks"), "ListSnapshotBlocks"),
    ("GET", re.compile(rf"/snapshots/{_SNAPSHOT}/changedblocks"), "ListChangedBlocks"),
)


class Call(BaseModel):
    """One API call. ``outcome`` is "ok", an error code, or "lost" when no answer was sent."""

    model_config = ConfigDict(extra="forbid")

    n: int
    at: float
    region: str
    service: str
    action: str
    mutating: bool
    outcome: str = ""
    executed: bool = False
    request_id: str = ""
    client_token: str = ""
    ids: list[str] = []


@dataclass(frozen=True)
class Incoming:
    """A request, read as far as faults and the log need it."""

    access_key: str
    region: str
    service: str
    action: str
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def mutating(self) -> bool:
        """Whether the call would change something: not one that reads, nor a dry run."""
        return _READING.match(self.action) is None and self.service != "sts" and self.params.get("DryRun", "") != "true"


def read(environ: Mapping[str, object], body: bytes) -> Incoming:
    """Read a request: the credential scope names key, region and service (Signature Version 4)."""
    header = str(environ.get("HTTP_AUTHORIZATION", ""))
    query = dict(parse_qsl(str(environ.get("QUERY_STRING", ""))))
    scope = re.search(r"Credential=([^,\s]+)", header)
    credential = scope.group(1) if scope else query.get("X-Amz-Credential", "")
    key, _, region, service = [*credential.split("/"), "", "", "", ""][:4]
    params = query
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        params = dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    method, path = str(environ["REQUEST_METHOD"]), str(environ.get("PATH_INFO", "/"))
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if service == "ebs":
        action, params = _ebs_call(method, path, params, body)
    else:
        action = params.get("Action") or target.rpartition(".")[2] or method
    return Incoming(key, region, service, action, params)


def _ebs_call(method: str, path: str, query: Mapping[str, str], body: bytes) -> tuple[str, dict[str, str]]:
    """Return the action of a call of the EBS direct APIs and its parameters; the log's and the faults' are texts."""
    for verb, pattern, action in _EBS_CALLS:
        found = pattern.fullmatch(path) if verb == method else None
        if found is not None:
            told = json.loads(body) if action == "StartSnapshot" else {}
            plain = {key: str(value) for key, value in told.items() if isinstance(value, str | int)}
            return action, {**query, **plain, **found.groupdict()}
    return method, dict(query)


class CallLog:
    """All calls so far, in the order in which they came."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def open(self, incoming: Incoming) -> Call:
        """Note a call that comes in."""
        with self._lock:
            call = Call(
                n=len(self._calls) + 1,
                at=time.time(),
                region=incoming.region,
                service=incoming.service,
                action=incoming.action,
                mutating=incoming.mutating,
                client_token=incoming.params.get("ClientToken", ""),
            )
            self._calls.append(call)
        return call

    def since(self, n: int) -> list[Call]:
        """Return the calls after the ``n``-th."""
        with self._lock:
            return self._calls[n:]


def note_answer(call: Call, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Write into ``call`` what was answered."""
    content = headers.get("content-type", "")
    text = "" if content == "application/octet-stream" else body.decode("utf-8", "replace")
    found = _REQUEST_ID.search(text)
    call.request_id = found.group(1) if found else headers.get("x-amzn-requestid", "")
    call.outcome = "ok"
    if status >= 400:
        code = _XML_CODE.search(text) or _JSON_CODE.search(text)
        call.outcome = code.group(1) if code else headers.get("x-amzn-errortype", str(status))
    if call.mutating:
        call.ids = sorted(set(_ID.findall(text)))
