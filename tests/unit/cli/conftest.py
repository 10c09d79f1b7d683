"""A program to start, a configuration for it, and a database with a job in every state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from ebspub.config import load, select
from ebspub.spec import JobSpec
from ebspub.states import Kind, State, Status
from ebspub.store import Failure, Store, effects, events, jobs, leases

ROOT = Path(__file__).resolve().parents[3]
REGIONS = ("us-east-1", "us-west-1", "eu-west-1", "ap-southeast-1", "sa-east-1", "ap-northeast-1")
START = 1_290_000_000.0
#: An owner on this host whose process is long gone.
DEAD = "nowhere/boot/1/1/dead"

CONFIG = """
[store]
folder = "{folder}"
[builder]
images.amd64 = "ami-0a1b2c3d4e5f60718"
ssh_cidr = "203.0.113.0/24"
{regions}
[[builds]]
suite = "lucid"
label = "release"
version = "10.04"
serial = "20101020"
arches = ["amd64", "i386"]
[builds.source]
url = "http://127.0.0.1:9/{{suite}}-{{arch}}.tar.gz"
amd64.sha256 = "{amd64}"
i386.sha256 = "{i386}"
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of 12 jobs whose sources are proved without a look at the network."""
    tables = "\n".join(f"[regions.{name}]" for name in REGIONS)
    file = tmp_path / "ebspub.toml"
    text = CONFIG.format(folder=tmp_path / "state", regions=tables, amd64="a" * 64, i386="b" * 64)
    file.write_text(text)
    return file


@pytest.fixture
def environment(config: Path, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a program that finds ``config`` and no credentials."""
    return {**os.environ, "EBSPUB_CONFIG": str(config), "PYTHONPATH": str(ROOT), "TERM": "dumb"}


@pytest.fixture
def ebspub(environment: Mapping[str, str], tmp_path: Path) -> Run:
    """Return a function that runs the program with arguments to its end."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "ebspub", *arguments]
        env = {**environment, **extra}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    return run


@pytest.fixture
def specs(config: Path) -> tuple[JobSpec, ...]:
    """Return the jobs of the configuration, in the order of the file."""
    return select(load(config))


@pytest.fixture
def store(config: Path) -> Iterator[Store]:
    """Return the open database of the configuration, without jobs."""
    with Store.open(load(config).store_url()) as found:
        yield found


class Story:
    """Writes the life of a job with the store's own functions."""

    def __init__(self, store: Store, spec: JobSpec, number: int) -> None:
        self.store = store
        self.spec = spec
        self.id = spec.job_id
        self.number = number
        self.now = START
        with store.write() as conn:
            assert jobs.add(conn, spec, self.now)
            events.add(conn, self.id, self.now, attempt=1, epoch=0, action="planned")
        self.lease = self._claim(DEAD, Status.RUNNING)

    def name(self, kind: str) -> str:
        return f"{kind}-{self.number:017x}"

    def _claim(self, owner: str, status: Status, until: float = 0.0) -> jobs.Lease:
        with self.store.write() as conn:
            lease = leases.claim(
                conn, self.id, owner=owner, now=self.now, until=until or self.now, status=status, dead=lambda _: True
            )
        assert lease is not None
        return lease

    def change(self, **values: object) -> Story:
        with self.store.write() as conn:
            jobs.change(conn, self.id, self.lease, self.now, **values)
        return self

    def make(self, kind: Kind, name: str, action: str) -> None:
        with self.store.write() as conn:
            job = jobs.get(conn, self.id)
            assert job is not None
            token = f"{self.id}-{kind.value}-{job.attempt}"[-64:]
            row = effects.intend(conn, job, kind=kind, purpose="root", token=token, request={}, now=self.now)
            call = effects.open_effect(
                conn, job, epoch=self.lease.epoch, action=action, resource=row, target=None, now=self.now
            )
            effects.made(conn, row, name, self.now + 1.5)
            effects.close_effect(conn, call, self.now + 1.5)

    def reach(self, state: State) -> Story:
        """Take the job to ``state``, 60 seconds a step."""
        path = {
            State.LAUNCHED: (Kind.INSTANCE, "i", "RunInstances", "instance_id", "launch"),
            State.ATTACHED: (Kind.VOLUME, "vol", "CreateVolume", "volume_id", "attach"),
            State.POPULATED: (None, "", "", "", "populate"),
            State.SNAPSHOTTED: (Kind.SNAPSHOT, "snap", "CreateSnapshot", "snapshot_id", "snapshot"),
            State.REGISTERED: (Kind.IMAGE, "ami", "RegisterImage", "ami_id", "register"),
        }
        before = State.PENDING
        for each, (kind, prefix, action, column, step) in path.items():
            if list(State).index(each) > list(State).index(state):
                break
            ids: dict[str, object] = {column: self.name(prefix)} if kind else {}
            if kind:
                self.make(kind, self.name(prefix), action)
            self.now += 60
            ended: dict[str, object] = {}
            if each is State.REGISTERED:
                ended = {"status": "done", "ended_at": self.now, "lease_owner": None, "lease_until": None}
            self.change(state=each.value, **ids, **ended)
            with self.store.write() as conn:
                events.add(
                    conn,
                    self.id,
                    self.now,
                    attempt=1,
                    epoch=1,
                    action=step,
                    change=(before, each),
                    facts={**ids, "seconds": 60.0},
                )
            before = each
        return self

    def free(self, status: Status, **values: object) -> Story:
        """Give the lease back."""
        return self.change(status=status.value, lease_owner=None, lease_until=None, **values)

    def fail(self, step: str, message: str, code: str, request_id: str) -> Story:
        failure = Failure(message, code, request_id, "Mend it, then `ebspub resume`.", step, self.now)
        with self.store.write() as conn:
            facts = {"code": code, "request_id": request_id}
            events.add(conn, self.id, self.now, attempt=1, epoch=1, action="failed", message=message, facts=facts)
        return self.free(Status.FAILED, error=failure.as_json())

    def drive(self, owner: str, until: float, status: Status = Status.RUNNING) -> Story:
        """Let ``owner`` hold the lease."""
        self.lease = self._claim(owner, status, until)
        return self


Tell = Callable[[int], Story]


@pytest.fixture
def tell(store: Store, specs: tuple[JobSpec, ...]) -> Tell:
    """Return a function that begins the story of a job of the configuration."""
    return lambda number: Story(store, specs[number], number)


@pytest.fixture
def every_state(tell: Tell) -> list[str]:
    """Fill the database: a job in every state and status; return their ids."""
    owner = leases.this_process()
    far = START * 2
    stories = [
        tell(0).free(Status.WAITING),
        tell(1).reach(State.LAUNCHED).drive(owner, far).change(progress={"step": "attach", "what": "volume is creating"}),
        tell(2)
        .reach(State.ATTACHED)
        .drive(owner, far)
        .change(
            progress={"step": "populate", "what": "copy", "phase": "copy", "done": 1 << 30, "total": 4 << 30},
            attempt=2,
        ),
        tell(3).reach(State.POPULATED),
        tell(4).reach(State.SNAPSHOTTED).fail("register", "RegisterImage: no\x1b[31m such snapshot", "Refused", "req-4711"),
        tell(5).reach(State.REGISTERED),
        tell(6).free(Status.CANCELLED, ended_at=START + 5, cancel_requested=True),
        tell(7).reach(State.LAUNCHED).change(cancel_requested=True).drive(owner, far, Status.CANCELLING),
    ]
    return [story.id for story in stories]
