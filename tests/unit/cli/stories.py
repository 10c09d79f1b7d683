"""Lives of jobs, written with the store's own functions; and the words that fixtures and tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ebspub.spec import JobSpec
from ebspub.states import Kind, State, Status
from ebspub.store import Failure, Lease, Store, effects, events, jobs, leases

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


@dataclass(frozen=True)
class Ended:
    """A program that has come to its end."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ended]


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

    def _claim(self, owner: str, status: Status, until: float = 0.0) -> Lease:
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
