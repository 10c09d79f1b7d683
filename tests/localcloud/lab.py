"""Means to use an embedded cloud as a publisher does: clients, builders, volumes."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from ebspub.localcloud import Cloud

PARAMETER = "/aws/service/canonical/ubuntu/server/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id"
PATIENCE = 20.0


def until(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Return the first true value of ``condition``."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)
    return value


def code_of(call: Callable[..., Any], **arguments: Any) -> str:
    """Return the error code that the call answers."""
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def keygen(file: Path, kind: str = "ed25519") -> str:
    """Make an SSH key pair at ``file``; returns the public key."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(file)], check=True)
    return file.with_name(file.name + ".pub").read_text().strip()


@dataclass
class Builder:
    """A launched instance, and a way in."""

    lab: Lab
    instance_id: str
    address: str
    zone: str

    def ssh(self, command: str, *, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command; only the host key that the user data gave is accepted."""
        arguments = ["ssh", "-F", "/dev/null", "-i", str(self.lab.key), "-p", str(self.lab.port), "-o", "BatchMode=yes"]
        arguments += ["-o", f"UserKnownHostsFile={self.lab.known_hosts(self.address)}"]
        arguments += ["-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5"]
        arguments += [f"{user or self.lab.user}@{self.address}", command]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=30)

    def run(self, command: str) -> str:
        """Run a command that must succeed; returns what it prints."""
        done = self.ssh(command)
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout

    def state(self) -> str:
        """Return the instance's state."""
        return str(self.describe()["State"]["Name"])

    def describe(self) -> dict[str, Any]:
        """Return what EC2 says of the instance."""
        answer = self.lab.client("ec2").describe_instances(InstanceIds=[self.instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])


@dataclass
class Lab:
    """A cloud, an SSH key, a host key, and clients."""

    cloud: Cloud
    folder: Path
    region: str = "us-east-1"
    user: str = "ubuntu"
    port: int = 22
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key = self.folder / "login"
        self.public = keygen(self.key)
        self.host_key = self.folder / "host"
        self.host_public = keygen(self.host_key, "ecdsa")

    def client(self, service: str, region: str = "") -> Any:
        """Return a boto3 client that tries once."""
        where = region or self.region
        if (service, where) not in self._clients:
            make: Any = boto3.client  # typed by the name of the service, which varies here
            self._clients[service, where] = make(
                service,
                region_name=where,
                endpoint_url=self.cloud.endpoint,
                aws_access_key_id=self.cloud.access_key,
                aws_secret_access_key="-",
                config=Config(retries={"total_max_attempts": 1}, read_timeout=20),
            )
        return self._clients[service, where]

    def known_hosts(self, address: str) -> Path:
        """Return a file that knows the address by the lab's host key."""
        file = self.folder / f"known-{address}"
        file.write_text(f"{address} {self.host_public}\n[{address}]:{self.port} {self.host_public}\n")
        return file

    def user_data(self, **more: Any) -> str:
        """Return a #cloud-config with the lab's keys."""
        document = {
            "ssh_deletekeys": True,
            "ssh_genkeytypes": [],
            "ssh_keys": {"ecdsa_private": self.host_key.read_text(), "ecdsa_public": self.host_public},
            "ssh_authorized_keys": [self.public],
            **more,
        }
        return "#cloud-config\n" + json.dumps(document)

    def image(self, arch: str = "amd64", region: str = "") -> str:
        """Return the builder image of an arch."""
        answer = self.client("ssm", region).get_parameter(Name=PARAMETER.format(arch=arch))
        return str(answer["Parameter"]["Value"])

    def run_instances(self, **arguments: Any) -> str:
        """Launch an instance; returns its id."""
        arguments.setdefault("ImageId", self.image())
        arguments.setdefault("InstanceType", "t3.micro")
        arguments.setdefault("UserData", self.user_data())
        arguments.setdefault("InstanceInitiatedShutdownBehavior", "terminate")
        answer = self.client("ec2").run_instances(MinCount=1, MaxCount=1, **arguments)
        return str(answer["Instances"][0]["InstanceId"])

    def launch(self, **arguments: Any) -> Builder:
        """Launch a builder; returns when it answers."""
        instance_id = self.run_instances(**arguments)
        described = self.client("ec2").describe_instances(InstanceIds=[instance_id])
        instance = described["Reservations"][0]["Instances"][0]
        zone = instance["Placement"]["AvailabilityZone"]
        builder = Builder(self, instance_id, instance["PublicIpAddress"], zone)
        until(lambda: builder.ssh("true").returncode == 0)
        until(lambda: builder.state() == "running")
        return builder

    def volume(self, zone: str = "", size: int = 1, **arguments: Any) -> str:
        """Create a volume; returns its id when it is available."""
        ec2 = self.client("ec2")
        made = ec2.create_volume(AvailabilityZone=zone or f"{self.region}a", Size=size, **arguments)
        until(lambda: self.volume_state(made["VolumeId"]) == "available")
        return str(made["VolumeId"])

    def volume_state(self, volume_id: str) -> str:
        """Return a volume's state."""
        return str(self.client("ec2").describe_volumes(VolumeIds=[volume_id])["Volumes"][0]["State"])

    def attachment(self, volume_id: str) -> str:
        """Return the state of a volume's attachment, or `detached`."""
        volume = self.client("ec2").describe_volumes(VolumeIds=[volume_id])["Volumes"][0]
        return str(volume["Attachments"][0]["State"]) if volume["Attachments"] else "detached"

    def attach(self, builder: Builder, volume_id: str, device: str = "/dev/sdf") -> None:
        """Attach a volume; returns when it is."""
        self.client("ec2").attach_volume(VolumeId=volume_id, InstanceId=builder.instance_id, Device=device)
        until(lambda: self.attachment(volume_id) == "attached")

    def detach(self, volume_id: str) -> None:
        """Detach a volume; returns when it is."""
        self.client("ec2").detach_volume(VolumeId=volume_id)
        until(lambda: self.attachment(volume_id) == "detached")

    def snapshot(self, volume_id: str, **arguments: Any) -> str:
        """Snapshot a volume; returns the id when it is completed."""
        made = self.client("ec2").create_snapshot(VolumeId=volume_id, **arguments)
        until(lambda: self.snapshot_state(made["SnapshotId"]) == "completed")
        return str(made["SnapshotId"])

    def snapshot_state(self, snapshot_id: str) -> str:
        """Return a snapshot's state."""
        return str(self.client("ec2").describe_snapshots(SnapshotIds=[snapshot_id])["Snapshots"][0]["State"])

    def image_state(self, image_id: str) -> str:
        """Return an image's state."""
        return str(self.client("ec2").describe_images(ImageIds=[image_id])["Images"][0]["State"])

    def terminate(self, builder: Builder) -> None:
        """Terminate a builder; returns when it is gone."""
        self.client("ec2").terminate_instances(InstanceIds=[builder.instance_id])
        until(lambda: builder.state() == "terminated")
