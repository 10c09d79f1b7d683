"""A database and an account for tests of the sweep, and what they put there: jobs in any status, things of any kind."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ebspub.app.sweep import Patience, Report, sweep
from ebspub.aws import tags
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.config import load, select
from ebspub.localcloud import Cloud
from ebspub.spec import JobSpec
from ebspub.states import Kind, State, Status
from ebspub.store import Failure, Job, Store, effects, jobs, leases, tables

CONFIG = """
[store]
folder = "{folder}"
[engine]
poll_interval = 0.2
[limits]
listing_lag = 0
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
QUICK = Patience(builders=20.0, thing=1.0, first=0.05, most=0.2)


@dataclass
class Stage:
    """A database, an account, and what a test puts into them."""

    cloud: Cloud
    config: Path
    store: Store
    regions: tuple[str, str]
    clients: BotoClients
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def region(self) -> str:
        return self.regions[0]

    def ec2(self, region: str = "") -> Any:
        return self.clients.region(region or self.region).writer

    def spec(self, arch: str = "amd64", region: str = "") -> JobSpec:
        return next(s for s in select(load(self.config)) if (s.arch, s.region) == (arch, region or self.region))

    def job(self, status: Status, arch: str = "amd64", region: str = "", **values: Any) -> str:
        """Plan a job and put it into a status without any driver."""
        spec = self.spec(arch, region)
        if status in (Status.CANCELLED, Status.DONE):
            values["ended_at"] = time.time()
        if status is Status.FAILED:
            values["error"] = Failure("broken").as_json()
        if status is Status.DONE:
            values["state"] = State.REGISTERED.value
        with self.store.write() as conn:
            assert jobs.add(conn, spec, time.time())
            change = tables.jobs.update().where(tables.jobs.c.id == spec.job_id)
            conn.execute(change.values(status=status.value, account="123456789012", **values))
        return spec.job_id

    def get(self, job_id: str) -> Job:
        with self.store.read() as conn:
            found = jobs.get(conn, job_id)
        assert found is not None
        return found

    def finish(self, job: str, image: str, snapshot: str) -> None:
        """Let a job be registered."""
        ended = {"state": "registered", "status": "done", "ended_at": time.time()}
        with self.store.write() as conn:
            change = tables.jobs.update().where(tables.jobs.c.id == job)
            conn.execute(change.values(ami_id=image, snapshot_id=snapshot, **ended))

    def claim(self, job: str) -> None:
        """Let this process drive a job."""
        now, owner = time.time(), leases.this_process()
        with self.store.write() as conn:
            assert leases.claim(conn, job, owner=owner, now=now, until=now + 60, status=Status.RUNNING)

    def marks(self, job_id: str, attempt: int, token: str, store: str = "") -> dict[str, str]:
        owner = store or self.store.id
        return {tags.STORE: owner, tags.JOB: job_id, tags.ATTEMPT: str(attempt), tags.TOKEN: token}

    def make(
        self,
        kind: Kind,
        job_id: str,
        *,
        attempt: int = 1,
        row: bool = True,
        answered: bool = True,
        store: str = "",
        region: str = "",
        **how: Any,
    ) -> str:
        """Make a thing with our tags; ``row``: the database knows; ``answered``: it knows the id, too."""
        token = f"token-{self.store.id}-{next(self.numbers)}"
        made = _MAKE[kind](self.ec2(region), self.marks(job_id, attempt, token, store), **how)
        if row:
            with self.store.write() as conn:
                conn.execute(
                    tables.resources.insert(),
                    {
                        "job_id": job_id,
                        "attempt": attempt,
                        "kind": kind.value,
                        "purpose": "root",
                        "token": token,
                        "region": self.region,
                        "resource_id": made if answered else None,
                        "presence": "present" if answered else "intended",
                        "request": {},
                        "intended_at": time.time() - 1,
                        "made_at": time.time() - 1 if answered else None,
                    },
                )
        return made

    def sweep(self, *, grace: float = 0.0, dry_run: bool = False, regions: tuple[str, ...] = ()) -> Report:
        return sweep(
            self.store,
            self.clients,
            regions or (self.region,),
            clock=SystemClock(),
            grace=grace,
            dry_run=dry_run,
            patience=QUICK,
        )

    def there(self, region: str = "") -> set[str]:
        """Return the ids of all that exists in a region."""
        inventory, where = self.cloud.inventory(), region or self.region
        things = [i for i in inventory.instances if i.state not in ("terminated", "shutting-down")]
        rest = [*inventory.volumes, *inventory.snapshots, *inventory.images, *inventory.security_groups]
        return {each.id for each in (*things, *rest) if each.region == where}

    def mutating(self, since: int) -> list[str]:
        return [call.action for call in self.cloud.calls(since) if call.mutating]

    def rows(self) -> list[Any]:
        """Return everything in the database."""
        with self.store.read() as conn:
            return [list(conn.execute(sa.select(table))) for table in tables.metadata.sorted_tables]


@contextmanager
def staged(
    cloud: Cloud, clients: BotoClients, folder: Path, monkeypatch: pytest.MonkeyPatch, regions: tuple[str, str]
) -> Iterator[Stage]:
    """Hand out a stage in two regions; what it broke in the cloud is healed afterwards."""
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    config = folder / "ebspub.toml"
    listed = "\n".join(f"[regions.{region}]" for region in regions)
    config.write_text(CONFIG.format(folder=folder / "state", regions=listed, amd64="a" * 64, i386="b" * 64))
    with Store.open(load(config).store_url()) as store:
        yield Stage(cloud, config, store, regions, clients)
    cloud.heal()


def open_removal(stage: Stage, job_id: str, action: str, target: str) -> None:
    """Record a removal whose answer was lost."""
    with stage.store.write() as conn:
        job = stage.get(job_id)
        effects.open_effect(conn, job, epoch=job.epoch, action=action, resource=None, target=target, now=time.time())


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)


def _spec_of(kind: str, marks: dict[str, str]) -> list[Any]:
    return [tags.specification(kind, marks)]  # type: ignore[arg-type]


def _told(ec2: Any, instance: str) -> Any:
    return ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]


def _instance(ec2: Any, marks: dict[str, str], group: str = "") -> str:
    image = ec2.describe_images(Owners=["099720109477"], Filters=[{"Name": "architecture", "Values": ["x86_64"]}])
    made = ec2.run_instances(
        ImageId=image["Images"][0]["ImageId"],
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[*_spec_of("instance", marks), *_spec_of("volume", marks)],
        **({"SecurityGroupIds": [group]} if group else {}),
    )["Instances"][0]["InstanceId"]
    until(lambda: _told(ec2, made)["State"]["Name"] == "running")
    return str(made)


def make_volume(ec2: Any, marks: dict[str, str], instance: str = "") -> str:
    zone = f"{ec2.meta.region_name}a"
    if instance:
        zone = _told(ec2, instance)["Placement"]["AvailabilityZone"]
    tagged = {"TagSpecifications": _spec_of("volume", marks)} if marks else {}
    made = ec2.create_volume(AvailabilityZone=zone, Size=1, VolumeType="gp3", **tagged)["VolumeId"]

    def told() -> Any:
        return ec2.describe_volumes(VolumeIds=[made])["Volumes"][0]

    until(lambda: told()["State"] == "available")
    if instance:
        ec2.attach_volume(VolumeId=made, InstanceId=instance, Device="/dev/sdf")
        until(lambda: told()["Attachments"][0]["State"] == "attached")
    return str(made)


def _snapshot(ec2: Any, marks: dict[str, str], volume: str = "") -> str:
    source = volume or make_volume(ec2, {})
    made = ec2.create_snapshot(VolumeId=source, TagSpecifications=_spec_of("snapshot", marks))["SnapshotId"]
    until(lambda: ec2.describe_snapshots(SnapshotIds=[made])["Snapshots"][0]["State"] == "completed")
    if not volume:
        ec2.delete_volume(VolumeId=source)
    return str(made)


def _image(ec2: Any, marks: dict[str, str], snapshot: str = "") -> str:
    made = ec2.register_image(
        Name=f"image {marks[tags.TOKEN]}",
        Architecture="x86_64",
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}],
        TagSpecifications=_spec_of("image", marks),
    )["ImageId"]
    until(lambda: ec2.describe_images(ImageIds=[made])["Images"][0]["State"] == "available")
    return str(made)


def _group(ec2: Any, marks: dict[str, str]) -> str:
    name = f"group-{marks[tags.TOKEN]}"
    return str(
        ec2.create_security_group(
            GroupName=name, Description=name, TagSpecifications=_spec_of("security-group", marks)
        )["GroupId"]
    )


_MAKE: dict[Kind, Callable[..., str]] = {
    Kind.INSTANCE: _instance,
    Kind.VOLUME: make_volume,
    Kind.SNAPSHOT: _snapshot,
    Kind.IMAGE: _image,
    Kind.GROUP: _group,
}
