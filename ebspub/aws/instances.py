"""Builders: EC2 instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ebspub.aws.answers import listed, paged, said, text
from ebspub.aws.failures import calling
from ebspub.aws.tags import as_dict, marked, of_jobs, specification

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

#: States out of which no builder comes back to us.
LOST = frozenset({"shutting-down", "terminated", "stopping", "stopped"})
GONE = frozenset({"terminated"})


@dataclass(frozen=True, slots=True)
class Instance:
    """What DescribeInstances says of a builder."""

    id: str
    state: str
    zone: str
    public_address: str
    private_address: str
    reason: str
    tags: Mapping[str, str]


def parse(item: Mapping[str, Any]) -> Instance:
    """Return an Instance from an item of DescribeInstances. Raises GarbledAnswerError."""
    return Instance(
        id=text(item, "InstanceId"),
        state=said(item, "State", "Name") or "pending",
        zone=said(item, "Placement", "AvailabilityZone"),
        public_address=said(item, "PublicIpAddress"),
        private_address=said(item, "PrivateIpAddress"),
        reason=said(item, "StateReason", "Message")
        or said(item, "StateReason", "Code")
        or said(item, "StateTransitionReason"),
        tags=as_dict(item.get("Tags")),
    )


def describe(ec2: EC2Client, store: str, jobs: Sequence[str]) -> list[Instance]:
    """Return the builders of some jobs (at most 200)."""
    with calling("DescribeInstances"):
        found = paged(ec2.describe_instances, "Reservations", Filters=of_jobs(store, jobs), MaxResults=1000)
        items = [item for reservation in found for item in listed(reservation, "Instances")]
        return [parse(item) for item in marked(items)]


def run(ec2: EC2Client, request: Mapping[str, Any], *, token: str, tags: Mapping[str, str], user_data: str) -> str:
    """Launch a builder; return its id.

    ``request``: image, instance_type, zone, subnet, groups, public, root ({device, size} or None), profile, old_imds
    (for images whose cloud-init knows no IMDSv2). Else IMDSv2 only, hop limit 1; when it shuts itself down it
    terminates, so that the dead-man timer leaves nothing.
    """
    interface: dict[str, Any] = {"DeviceIndex": 0, "DeleteOnTermination": True}
    if request["groups"]:
        interface["Groups"] = list(request["groups"])
    if request.get("public"):
        interface["AssociatePublicIpAddress"] = True
    if request.get("subnet"):
        interface["SubnetId"] = request["subnet"]
    arguments: dict[str, Any] = {
        "ImageId": request["image"],
        "InstanceType": request["instance_type"],
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": token,
        "UserData": user_data,
        "NetworkInterfaces": [interface],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "TagSpecifications": [specification(kind, tags) for kind in ("instance", "volume", "network-interface")],
    }
    if request.get("old_imds"):
        arguments["MetadataOptions"]["HttpTokens"] = "optional"
    if request.get("zone"):
        arguments["Placement"] = {"AvailabilityZone": request["zone"]}
    if request.get("profile"):
        arguments["IamInstanceProfile"] = {"Name": request["profile"]}
    if request.get("root"):
        root = request["root"]
        ebs = {"VolumeSize": root["size"], "DeleteOnTermination": True}
        arguments["BlockDeviceMappings"] = [{"DeviceName": root["device"], "Ebs": ebs}]
    with calling("RunInstances"):
        made = listed(ec2.run_instances(**arguments), "Instances")
        return text(made[0], "InstanceId")


def terminate(ec2: EC2Client, instance: str) -> None:
    """Terminate a builder; calling it again is harmless."""
    with calling("TerminateInstances"):
        ec2.terminate_instances(InstanceIds=[instance])


def stop(ec2: EC2Client, instance: str) -> None:
    """Stop an instance: its root volume stays. Calling it again is harmless."""
    with calling("StopInstances"):
        ec2.stop_instances(InstanceIds=[instance])


def start(ec2: EC2Client, instance: str) -> None:
    """Start a stopped instance; its public address will be another."""
    with calling("StartInstances"):
        ec2.start_instances(InstanceIds=[instance])


@dataclass(frozen=True, slots=True)
class Console:
    """What GetConsoleOutput says: what an instance wrote, and when EC2 posted that (0 where it does not say)."""

    text: str = ""
    at: float = 0.0

    def since(self, before: Console) -> str:
        """Return what was written after ``before`` was posted; empty while EC2 still shows ``before``.

        EC2 posts what is in its buffer some time after an instance was started or stopped. Until then it shows what it
        had; and what it posts late of the boot before begins with that.
        """
        if self == before or self.at < before.at:
            return ""
        # The same words, posted anew: a boot need not say anything that the boot before has not said.
        return self.text if self.text == before.text else self.text.removeprefix(before.text)


def console(ec2: EC2Client, instance: str) -> Console:
    """Return the latest console output of an instance, decoded; empty where there is none."""
    with calling("GetConsoleOutput"):
        answer = ec2.get_console_output(InstanceId=instance)
        posted: object = answer.get("Timestamp")
        return Console(said(answer, "Output"), posted.timestamp() if isinstance(posted, datetime) else 0.0)
