"""Starts, stops and steers an embedded cloud from another process."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import pwd
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ebspub.errors import BusyError, EbspubError
from ebspub.localcloud.calls import Call
from ebspub.localcloud.faults import Effect, Rule, RuleStatus
from ebspub.localcloud.inventory import Inventory
from ebspub.localcloud.settings import Settings

_STATE_FILE = "cloud.json"
_LOCK_FILE = "lock"
_LOG_FILE = "cloud.log"
_START_TIMEOUT = 30.0
_STOP_TIMEOUT = 30.0
Fate = Literal["snapshot", "image", "attachment"]


class CloudError(EbspubError):
    """The embedded cloud does not start, does not answer, or refuses what it is told."""


@dataclass(frozen=True)
class Status:
    """Whether a cloud runs in a folder, and where."""

    running: bool
    pid: int = 0
    endpoint: str = ""


@dataclass(frozen=True)
class Cloud:
    """A running embedded cloud."""

    folder: Path
    pid: int
    endpoint: str
    access_key: str

    def environment(self, region: str = "us-east-1") -> dict[str, str]:
        """Return the variables that point boto3 at this cloud and at nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    @property
    def ssh_user(self) -> str:
        """The login user of builders: ``ubuntu`` as root, otherwise the user who runs the cloud."""
        return "ubuntu" if self._get("health")["root"] else pwd.getpwuid(os.geteuid()).pw_name

    @property
    def ssh_port(self) -> int:
        """The port on which builders serve SSH."""
        port: int = self._get("health")["ssh_port"]
        return port

    def calls(self, since: int = 0) -> list[Call]:
        """Return every API call after the ``since``-th, in order."""
        return [Call.model_validate(call) for call in self._get("calls", since=since)]

    def inventory(self) -> Inventory:
        """Return what there is, over all regions."""
        return Inventory.model_validate(self._get("inventory"))

    def volume_path(self, volume_id: str) -> Path:
        """Return the file that is the volume."""
        return Path(self._get("file", id=volume_id)["path"])

    def snapshot_path(self, snapshot_id: str) -> Path:
        """Return the file that is the snapshot."""
        return Path(self._get("file", id=snapshot_id)["path"])

    def add_fault(self, rule: Rule) -> int:
        """Put a rule in force; returns its id."""
        number: int = self._send("POST", "faults", rule.model_dump(mode="json"))["id"]
        return number

    def faults(self) -> list[RuleStatus]:
        """Return the rules in force and what they did."""
        return [RuleStatus.model_validate(status) for status in self._get("faults")]

    def remove_fault(self, number: int) -> None:
        """Lift one rule."""
        self._send("DELETE", f"faults?id={number}")

    def heal(self) -> None:
        """Lift all faults, fates and shortages."""
        self._send("DELETE", "harm")

    def configure(self, settings: Settings) -> None:
        """Change delays and lags of the running cloud; ports and regions stay as they are."""
        self._send("PUT", "settings", settings.model_dump(mode="json"))

    def kill_host(self, instance_id: str) -> None:
        """Let a builder die at once; its instance terminates."""
        self._send("POST", "kill-host", {"instance_id": instance_id})

    def doom(self, kind: Fate, times: int = 1) -> None:
        """Let the next snapshots end in `error`, images as `failed`, or attachments hang in `attaching`."""
        self._send("POST", "fates", {"kind": kind, "times": times})

    def no_capacity(self, *, zone: str = "", instance_type: str = "") -> None:
        """Answer InsufficientInstanceCapacity for the zone and type; empty stands for any."""
        self._send("POST", "no-capacity", {"zone": zone, "instance_type": instance_type})

    def deny(self, action: str) -> int:
        """Answer UnauthorizedOperation to every call of the action; returns the rule's id."""
        message = "You are not authorized to perform this operation. Encoded authorization failure message: 4RRd"
        return self._always(
            [action], [], Effect(kind="error", code="UnauthorizedOperation", status=403, message=message)
        )

    def region_down(self, region: str, *, silent: bool = False) -> int:
        """Answer 503, or (``silent``) nothing, to every call to the region; returns the rule's id."""
        message = "The service is unavailable. Please try again shortly."
        broken = Effect(kind="error", code="ServiceUnavailable", status=503, message=message)
        return self._always([], [region], Effect(kind="drop") if silent else broken)

    def kill_at(self, pid: int, nth: int, *, when: Literal["before", "after"], actions: Iterable[str] = ()) -> int:
        """SIGKILL ``pid`` just before or after the ``nth`` mutating call takes effect; returns the rule's id."""
        effect = Effect(kind="kill", when=when, pid=pid)
        return self.add_fault(Rule(effects=(effect,), mutating=True, nth=nth, actions=frozenset(actions)))

    def _always(self, actions: Iterable[str], regions: Iterable[str], effect: Effect) -> int:
        rule = Rule(effects=(effect,), actions=frozenset(actions), regions=frozenset(regions), times=None)
        return self.add_fault(rule)

    def _get(self, name: str, **query: object) -> Any:
        return self._send("GET", f"{name}?{urllib.parse.urlencode(query)}")

    def _send(self, method: str, name: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 -- the endpoint is our own, on loopback
            f"{self.endpoint}/_localcloud/{name}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Localcloud-Key": self.access_key, "Content-Type": "application/json"},
            method=method,
        )
        # Whatever proxy the user has: it is not asked about loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read().decode("utf-8", "replace")
            raise CloudError(f"the embedded cloud refuses {method} {name}: {detail}") from error
        except OSError as error:
            raise CloudError(
                f"the embedded cloud in {self.folder} does not answer: {error}", todo=f"see {self.folder / _LOG_FILE}"
            ) from error


def start(folder: Path, *, settings: Settings | None = None) -> Cloud:
    """Start a cloud in ``folder`` as a process of its own, which outlives this one; returns when it answers.

    Raises :class:`ebspub.errors.BusyError` when one runs there already, :class:`CloudError` when it does not come up.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if status(folder).running:
        raise BusyError(f"an embedded cloud runs in {folder} already", todo="stop it, or use another folder")
    (folder / _STATE_FILE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "ebspub.localcloud", "--folder", str(folder)]
    command += ["--settings", (settings or Settings()).model_dump_json()]
    package_parent = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
    with (folder / _LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": search},
        )
    deadline = time.monotonic() + _START_TIMEOUT
    while (cloud := find(folder)) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise CloudError(f"the embedded cloud in {folder} does not start", todo=f"see {folder / _LOG_FILE}")
        time.sleep(0.02)
    _children[cloud.pid] = folder, process
    return cloud


#: Clouds started by this process, to be reaped when they are stopped.
_children: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}


@atexit.register
def _reap() -> None:
    """Reap those that ended by themselves, or that another process stopped."""
    for folder, process in _children.values():
        if not _locked(folder):  # it has ended, or is about to
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT)


def find(folder: Path) -> Cloud | None:
    """Return the cloud that runs in ``folder``, if any."""
    folder = folder.resolve()
    if not _locked(folder):
        return None
    try:
        state = json.loads((folder / _STATE_FILE).read_text())
    except FileNotFoundError:
        return None
    return Cloud(folder, state["pid"], state["endpoint"], state["access_key"])


def status(folder: Path) -> Status:
    """Tell whether a cloud runs in ``folder``."""
    cloud = find(folder)
    return Status(running=False) if cloud is None else Status(running=True, pid=cloud.pid, endpoint=cloud.endpoint)


def stop(folder: Path) -> None:
    """Stop the cloud in ``folder``, if one runs, and remove what it, or one that was killed, left behind.

    Ends all builders; deletes volumes and snapshots. Raises :class:`CloudError` when it cannot be ended.
    """
    folder = folder.resolve()
    cloud = find(folder)
    if cloud is not None:
        _end(cloud)
    from ebspub.localcloud.world import clean

    clean(folder)
    (folder / _STATE_FILE).unlink(missing_ok=True)


def _end(cloud: Cloud) -> None:
    """SIGTERM, and SIGKILL when that does not help in time."""
    _, child = _children.pop(cloud.pid, (cloud.folder, None))
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(cloud.pid, sign)
        deadline = time.monotonic() + _STOP_TIMEOUT
        while _locked(cloud.folder):
            if child is not None:
                child.poll()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            if child is not None:
                child.wait()
            return
    raise CloudError(f"the embedded cloud in {cloud.folder} (process {cloud.pid}) cannot be ended")


def _locked(folder: Path) -> bool:
    """Tell whether a living cloud holds the folder."""
    try:
        with (folder / _LOCK_FILE).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def running(folder: Path, settings: Settings | None = None) -> Iterator[Cloud]:
    """A cloud that is stopped, and its remains removed, when the block ends."""
    cloud = start(folder, settings=settings)
    try:
        yield cloud
    finally:
        stop(folder)
