"""Starting and stopping: nothing is left behind, whoever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import boto3
import pytest
from botocore.exceptions import ClientError

from ebspub.errors import BusyError
from ebspub.localcloud import Cloud, CloudError, Settings, find, running, start, status, stop
from tests.localcloud.conftest import SETTINGS
from tests.localcloud.lab import Lab, code_of, until


def traces(folder: Path) -> list[str]:
    """Return what the machine shows of the folder: loop devices, mounts, processes."""
    # A file that a builder attached itself has its path inside the builder: known by its name alone.
    found = [line for line in loop_devices() if str(folder) in line or own_file(folder) in line]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and int(entry.parent.name) != os.getpid():
            found.append(line)
    return found


def loop_devices() -> list[str]:
    command = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def own_file(folder: Path) -> str:
    return "own-" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def busy_builder(cloud: Cloud, folder: Path) -> Lab:
    """Launch a builder that has a volume mounted, a loop device of its own and a job in the background."""
    folder.mkdir()
    lab = Lab(cloud, folder)
    builder = lab.launch()
    lab.attach(builder, lab.volume(builder.zone))
    builder.run(
        "set -e; sudo mkfs.ext4 -q /dev/nvme1n1; sudo mount /dev/nvme1n1 /mnt; cd /var/tmp;"
        f" truncate -s 8M {own_file(folder.parent)}; sudo losetup --find {own_file(folder.parent)};"
        " (setsid sleep 1000 </dev/null >/dev/null 2>&1 &)"
    )
    assert any(own_file(folder.parent) in line for line in loop_devices())
    return lab


def test_a_cloud_runs_until_it_is_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    begin = time.monotonic()
    with running(folder, Settings(regions=("us-east-1", "eu-west-1"))) as cloud:
        assert time.monotonic() - begin < 20, "2 s on an idle machine; much slack for a busy one"
        assert status(folder).pid == cloud.pid
        assert find(folder) == cloud
        with pytest.raises(BusyError):
            start(folder)
        lab = Lab(cloud, tmp_path)
        names = [region["RegionName"] for region in lab.client("ec2").describe_regions()["Regions"]]
        assert sorted(names) == ["eu-west-1", "us-east-1"], "only enabled regions are listed"
        assert code_of(lab.client("ec2", "us-west-2").describe_images) == "AuthFailure", "and answer"
    assert not status(folder).running
    assert traces(tmp_path) == []
    stop(folder)


@pytest.mark.needs_loop
@pytest.mark.needs_tool("sshd", "unshare", "setpriv")
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_nothing_is_left_of_a_cloud_with_busy_builders(tmp_path: Path, sign: int) -> None:
    folder = tmp_path / "c"
    cloud = start(folder, settings=SETTINGS)
    try:
        lab = busy_builder(cloud, tmp_path / "lab")
        assert len(lab.cloud.inventory().instances) == 1
        os.kill(cloud.pid, sign)
        until(lambda: not status(folder).running)
        # Even of a killed cloud nothing stays but what a builder attached itself.
        until(lambda: not [line for line in traces(tmp_path) if own_file(tmp_path) not in line])
    finally:
        if sign == signal.SIGKILL:
            with running(folder, SETTINGS) as second:
                assert second.access_key != cloud.access_key, "the folder can be used again at once"
                assert second.inventory().leftovers() == []
        stop(folder)
    until(lambda: not traces(tmp_path))
    assert not any((folder / part).exists() for part in ("hosts", "volumes", "snapshots"))


def test_a_cloud_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    program = (
        "import os, pathlib, sys; from ebspub.localcloud import start; start(pathlib.Path(sys.argv[1])); os._exit(9)"
    )
    try:
        parent = subprocess.run(
            [sys.executable, "-c", program, str(folder)], check=False, cwd=Path(__file__).parents[2]
        )
        assert parent.returncode == 9
        cloud = find(folder)
        assert cloud is not None
        assert cloud.inventory().volumes == []
    finally:
        stop(folder)


def test_a_cloud_that_cannot_start_says_where_its_log_is(tmp_path: Path, lab: Lab) -> None:
    taken = int(lab.cloud.endpoint.rpartition(":")[2])
    with pytest.raises(CloudError, match=r"cloud\.log"):
        start(tmp_path / "c", settings=Settings(port=taken))


def test_the_key_is_for_the_owner_only(lab: Lab) -> None:
    file = lab.cloud.folder / "cloud.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["access_key"] == lab.cloud.access_key
    assert lab.cloud.access_key not in (Path("/proc") / str(lab.cloud.pid) / "cmdline").read_text()


def test_without_the_key_nothing_is_answered(lab: Lab) -> None:
    stranger = boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=lab.cloud.endpoint,
        aws_access_key_id="AKIAAAAAAAAAAAAAAAAA",
        aws_secret_access_key="-",
    )
    with pytest.raises(ClientError, match="AuthFailure"):
        stranger.describe_instances()
    with pytest.raises(HTTPError, match="403"):
        urllib.request.urlopen(f"{lab.cloud.endpoint}/_localcloud/inventory", timeout=10)


def test_the_environment_leads_boto3_to_the_cloud(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in lab.cloud.environment("eu-west-1").items():
        monkeypatch.setenv(variable, value)
    session = boto3.Session()
    assert session.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert session.client("ec2").describe_availability_zones()["AvailabilityZones"][0]["RegionName"] == "eu-west-1"


def test_the_inventory_tells_what_is_left_over(lab: Lab, ec2: Any, snapshot: str, name: str) -> None:
    volume_id = lab.volume()
    mapping = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}
    image_id = ec2.register_image(Name=name, RootDeviceName="/dev/sda1", BlockDeviceMappings=[mapping])["ImageId"]
    inventory = lab.cloud.inventory()
    assert volume_id in inventory.leftovers()
    assert snapshot not in inventory.leftovers()
    (image,) = [item for item in inventory.images if item.id == image_id]
    assert (image.name, image.snapshots, image.region) == (name, [snapshot], "us-east-1")
