"""Builds of the embedded cloud that are registered as a run leaves them, and what publishing makes of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ebspub.app import release as app
from ebspub.app.runtime import Runtime, Stop
from ebspub.app.verify import FACT
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.config import load
from ebspub.errors import JobError
from ebspub.localcloud import Cloud, Delays, Settings, running
from ebspub.states import Kind, Status
from ebspub.store import Store, releases, tables
from tests.local.leftovers import Stage, staged

REGIONS = itertools.cycle(["us-east-1", "us-west-2", "eu-west-1", "eu-central-1", "sa-east-1", "ap-southeast-1"])
FRIEND, OTHER = "111122223333", "444455556666"
ORGANIZATION = "arn:aws:organizations::111122223333:organization/o-abcdefghij"
UNIT = "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678"
PUBLISH = f"""
[publish]
public = true
accounts = ["{FRIEND}"]
organizations = "{ORGANIZATION}"
parameters = ["/images/{{suite}}/{{serial}}/{{arch}}", "/images/{{suite}}/current/{{arch}}"]
tags = {{ Stream = "{{label}}" }}
"""


@pytest.fixture(scope="module")
def clients() -> BotoClients:
    """Return clients for all tests: making them takes longer than most of what they do."""
    return BotoClients()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("cloud"), Settings(delays=Delays.all(0.0), public_images=1000)) as found:
        yield found


@pytest.fixture
def stage(cloud: Cloud, clients: BotoClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(cloud, clients, tmp_path, monkeypatch, (next(REGIONS), next(REGIONS))) as made:
        configure(made, PUBLISH)
        yield made


def configure(stage: Stage, publish: str) -> None:
    """Write the configuration with another [publish] in place of the present one."""
    text = stage.config.read_text().partition("\n# publish")[0]
    stage.config.write_text(f"{text}\n# publish\n{publish}")


def ebspub(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "ebspub", "--config", str(stage.config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=dict(os.environ))


def register(stage: Stage, arch: str, region: str) -> None:
    """Let a job be registered: an AMI with its snapshot, as a run leaves them."""
    job = stage.job(Status.WAITING, arch, region)
    snapshot = stage.make(Kind.SNAPSHOT, job, region=region, row=False)
    stage.finish(job, stage.make(Kind.IMAGE, job, region=region, snapshot=snapshot, row=False), snapshot)


def register_all(stage: Stage) -> None:
    for region, arch in itertools.product(stage.regions, ("amd64", "i386")):
        register(stage, arch, region)


def boot(stage: Stage, region: str, *arches: str, result: str = "verified") -> None:
    """Let AMIs have been booted, as `ebspub verify` records it."""
    for arch in arches or ("amd64", "i386"):
        job = stage.get(f"lucid-server-20101020-{arch}-{region}")
        facts = {**job.facts, FACT: {"m5.large": {"result": result, "ami": job.ami_id}}}
        with stage.store.write() as conn:
            conn.execute(tables.jobs.update().where(tables.jobs.c.id == job.id).values(facts=facts))


def seen(stage: Stage, arch: str = "amd64", region: str = "") -> dict[str, Any]:
    """Return what the cloud shows of a job's AMI."""
    where = region or stage.region
    job = stage.get(f"lucid-server-20101020-{arch}-{where}")
    ec2, ssm = stage.ec2(where), stage.clients.region(where).ssm
    image = ec2.describe_images(ImageIds=[job.ami_id])["Images"][0]
    launch = ec2.describe_image_attribute(ImageId=job.ami_id, Attribute="launchPermission")["LaunchPermissions"]
    volume = ec2.describe_snapshot_attribute(SnapshotId=job.snapshot_id, Attribute="createVolumePermission")
    found = ssm.get_parameters_by_path(Path=f"/images/{job.spec.suite}", Recursive=True)["Parameters"]
    return {
        "launch": sorted(value for each in launch for value in each.values()),
        "volume": sorted(value for each in volume["CreateVolumePermissions"] for value in each.values()),
        "tags": {tag["Key"]: tag["Value"] for tag in image["Tags"]},
        "parameters": sorted(each["Name"] for each in found if each["Value"] == job.ami_id),
    }


@dataclass
class Files:
    """Feeds that note what they are called for, and what was public then."""

    stage: Stage
    fault: str = ""
    notes: list[tuple[list[str], int]] = field(default_factory=list)

    def write(self, store: Store) -> list[str]:
        if self.fault:
            raise JobError(self.fault)
        with store.read() as conn:
            names = [each.job_id for each in releases.announced(conn)]
        self.notes.append((names, len(self.stage.cloud.calls())))
        return ["released.txt"]

    def check(self, store: Store) -> list[str]:
        del store
        return []


def runtime_of(stage: Stage) -> Runtime:
    return Runtime(load(stage.config), stage.store, SystemClock(), stage.clients, Stop())


def publish(stage: Stage, *targets: str, label: str | None = None, feeds: Files | None = None) -> list[str]:
    """Publish; return the calls that were made, all of which must have done what they were for."""
    result = app.publish(runtime_of(stage), targets or ("lucid-server",), lambda _: None, label=label, feeds=feeds)
    assert result.exit_code == 0, result
    return [change.action for each in result.releases for change in each.made]


def refused(stage: Stage) -> str:
    """Publish in vain; return why."""
    before = len(stage.cloud.calls())
    result = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    assert result.exit_code == 3
    assert stage.mutating(before) == []
    return " ".join(str(error) for error in result.releases[0].errors.values())


def state(stage: Stage, name: str = "lucid-server-20101020") -> tuple[str, str]:
    with stage.store.read() as conn:
        found = releases.get(conn, name)
    assert found is not None
    assert found.lease is None
    return found.state.value, found.label


def public(stage: Stage) -> set[str]:
    with stage.store.read() as conn:
        return {each.job_id for each in releases.announced(conn)}


def open_calls(stage: Stage) -> list[str]:
    with stage.store.read() as conn:
        return [each.action for each in releases.history(conn, ["lucid-server-20101020"]) if each.closed_at is None]
