"""boto3's clients, as far as the steps call them, on a simulated region."""

from __future__ import annotations

import json
from typing import Any

from ebspub.aws.clients import RegionClients
from tests.simulation.chaos import Chaos, failure
from tests.simulation.ec2 import Region, Thing, tags_of

ACCOUNT = "123456789012"
#: Seconds within a call after which the process that made it may have lost its job.
SUSPENDED = 120.0


class Client:
    """EC2 and SSM of one region."""

    def __init__(self, region: Region) -> None:
        self._region = region

    def __getattr__(self, name: str) -> Any:
        method = getattr(Actions(self._region), name)
        chaos = self._region.chaos
        action = "".join(word.title() for word in name.split("_"))

        def call(**arguments: Any) -> Any:
            reading = name.startswith(("describe", "get"))
            began = chaos.clock.now()
            chaos.before_call(f"{self._region.name} {action}")
            self._region.late = chaos.clock.now() - began > SUSPENDED
            if action in self._region.denied:
                raise failure(action, "UnauthorizedOperation", 403)
            answer = method(**arguments)
            if not reading:
                chaos.after_call(f"{self._region.name} {action}")
            return answer

        return call


class SimulatedClients:
    """Clients of simulated regions."""

    def __init__(self, regions: dict[str, Region]) -> None:
        self._regions = {
            name: RegionClients(name, *(Client(region) for _ in range(4)))  # type: ignore[arg-type]
            for name, region in regions.items()
        }

    def region(self, region: str) -> RegionClients:
        """Return the clients of a region."""
        return self._regions[region]

    def account(self, region: str) -> str:
        """Return the one account."""
        del region
        return ACCOUNT


class Actions:
    """What EC2's actions do, with the names and errors of EC2."""

    #: What a snapshot holds that was filled block by block.
    _whole = "5" * 64

    def __init__(self, region: Region) -> None:
        self._region = region
        self._chaos: Chaos = region.chaos

    @property
    def _now(self) -> float:
        return self._region.now

    # Reading ----------------------------------------------------------------------------------------------------

    def get_parameter(self, **_: Any) -> Any:
        return {"Parameter": {"Value": "ami-0000b0b0"}}

    def get_console_output(self, **_: Any) -> Any:
        return {"Output": ""}

    def describe_vpcs(self, **_: Any) -> Any:
        return {"Vpcs": [{"VpcId": "vpc-1"}]}

    def describe_instances(self, **arguments: Any) -> Any:
        rng, weather = self._chaos.rng, self._chaos.weather
        for thing in self._region.alive("instance"):
            if self._chaos.happens(weather.builder_dies):
                self._chaos.tell(f"builder {thing.id} dies")
                thing.become(self._now, (0.0, "shutting-down"), (rng.random() * 20, "terminated"))
        found = self._region.listed("instance", arguments["Filters"])
        return {"Reservations": [{"Instances": [self._instance(thing)]} for thing in found]}

    def _instance(self, thing: Thing) -> dict[str, Any]:
        return {
            "InstanceId": thing.id,
            "State": {"Name": thing.state(self._now)},
            "Placement": {"AvailabilityZone": f"{self._region.name}a"},
            "PublicIpAddress": thing.id,
            "Tags": _listed(thing.tags),
        }

    def describe_volumes(self, **arguments: Any) -> Any:
        found = self._region.listed("volume", arguments["Filters"])
        return {"Volumes": [self._volume(thing) for thing in found]}

    def _volume(self, thing: Thing) -> dict[str, Any]:
        state, holder = thing.shown(self._now), thing.data.get("instance")
        where = {"InstanceId": holder, "Device": thing.data.get("device")}
        attached = [{**where, "State": thing.data["attachment"]}] if holder else []
        if holder and self._now >= thing.data["attached_at"] and thing.data["attachment"] == "attaching":
            thing.data["attachment"] = "attached"
        shown = "in-use" if holder else state
        return {"VolumeId": thing.id, "State": shown, "Attachments": attached, "Tags": _listed(thing.tags)}

    def describe_snapshots(self, **arguments: Any) -> Any:
        found = self._region.listed("snapshot", arguments["Filters"])
        return {
            "Snapshots": [
                {"SnapshotId": t.id, "State": t.shown(self._now), "VolumeId": t.data["volume"], "Tags": _listed(t.tags)}
                for t in found
            ]
        }

    def describe_images(self, **arguments: Any) -> Any:
        found = self._region.listed("image", arguments["Filters"])
        return {
            "Images": [
                {
                    "ImageId": t.id,
                    "Name": t.data["Name"],
                    "State": t.shown(self._now),
                    "RootDeviceName": "/dev/sda1",
                    "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": t.data["snapshot"]}}],
                    "Tags": _listed(t.tags),
                }
                for t in found
            ]
        }

    def describe_security_groups(self, **arguments: Any) -> Any:
        found = self._region.listed("group", arguments["Filters"])
        return {
            "SecurityGroups": [
                {
                    "GroupId": t.id,
                    "GroupName": t.data["Name"],
                    "IpPermissions": [{"FromPort": port} for port in t.data["ports"]],
                    "Tags": _listed(t.tags),
                }
                for t in found
            ]
        }

    # Making and removing ----------------------------------------------------------------------------------------

    def run_instances(self, **arguments: Any) -> Any:
        earlier = self._by_token("RunInstances", arguments)
        if earlier is not None:
            if earlier.state(self._now) in ("terminated", "shutting-down"):
                raise failure("RunInstances", "IdempotentInstanceTerminated")
            return {"Instances": [self._instance(earlier)]}
        short = arguments["InstanceType"] in self._region.no_capacity
        if short or self._chaos.happens(self._chaos.weather.no_capacity):
            self._chaos.tell("RunInstances: no capacity")
            raise failure("RunInstances", "InsufficientInstanceCapacity", 500)
        made = self._region.make("instance", tags_of(arguments, "instance"), (0.0, "pending"), (5.0, "running"))
        made.data["groups"] = arguments["NetworkInterfaces"][0]["Groups"]
        self._remember(arguments, made)
        return {"Instances": [self._instance(made)]}

    def terminate_instances(self, **arguments: Any) -> Any:
        for name in arguments["InstanceIds"]:
            self._region.on_terminate(name)
            thing = self._region.get("TerminateInstances", name, "instance", "InvalidInstanceID.NotFound")
            if thing.state(self._now) not in ("terminated", "shutting-down"):
                self._region.remove(thing, (0.0, "shutting-down"), (5.0 * self._chaos.weather.slow, "terminated"))

    def create_security_group(self, **arguments: Any) -> Any:
        if any(t.data["Name"] == arguments["GroupName"] for t in self._region.alive("group")):
            raise failure("CreateSecurityGroup", "InvalidGroup.Duplicate")
        marks = tags_of(arguments, "security-group")
        made = self._region.make("group", marks, (0.0, "present"), Name=arguments["GroupName"], ports=set())
        return {"GroupId": made.id}

    def authorize_security_group_ingress(self, **arguments: Any) -> Any:
        group = self._region.get(
            "AuthorizeSecurityGroupIngress", arguments["GroupId"], "group", "InvalidGroup.NotFound"
        )
        port = arguments["IpPermissions"][0]["FromPort"]
        if port in group.data["ports"]:
            raise failure("AuthorizeSecurityGroupIngress", "InvalidPermission.Duplicate")
        group.data["ports"].add(port)

    def delete_security_group(self, **arguments: Any) -> Any:
        group = self._region.get("DeleteSecurityGroup", arguments["GroupId"], "group", "InvalidGroup.NotFound")
        users = [t for t in self._region.of("instance") if t.state(self._now) != "terminated"]
        if any(group.id in t.data["groups"] for t in users):
            raise failure("DeleteSecurityGroup", "DependencyViolation")
        self._region.remove(group)

    def create_volume(self, **arguments: Any) -> Any:
        made = self._by_token("CreateVolume", arguments)
        if made is None:
            marks = tags_of(arguments, "volume")
            fails = self._chaos.happens(self._chaos.weather.volume_error)
            then = (2.0, "error" if fails else "available")
            made = self._region.make("volume", marks, (0.0, "creating"), then, content="")
            self._remember(arguments, made)
        return {"VolumeId": made.id}

    def attach_volume(self, **arguments: Any) -> Any:
        self._region.settle()
        volume = self._region.get("AttachVolume", arguments["VolumeId"], "volume", "InvalidVolume.NotFound")
        holder = self._region.get("AttachVolume", arguments["InstanceId"], "instance", "InvalidInstanceID.NotFound")
        if volume.data.get("instance"):
            raise failure("AttachVolume", "VolumeInUse")
        if volume.state(self._now) != "available" or holder.state(self._now) != "running":
            raise failure("AttachVolume", "IncorrectState")
        device = arguments["Device"]
        others = [t for t in self._region.of("volume") if t.data.get("instance") == holder.id]
        if any(t.data["device"] == device for t in others):
            raise failure("AttachVolume", "InvalidParameterValue", message=f"{device} is already in use")
        sticks = self._chaos.happens(self._chaos.weather.attach_sticks)
        later = self._now + (1e9 if sticks else 3.0 * self._chaos.weather.slow)
        volume.data.update(instance=holder.id, attachment="attaching", attached_at=later, device=device)

    def detach_volume(self, **arguments: Any) -> Any:
        self._region.settle()
        volume = self._region.get("DetachVolume", arguments["VolumeId"], "volume", "InvalidVolume.NotFound")
        if not volume.data.get("instance"):
            raise failure("DetachVolume", "IncorrectState")
        volume.data["instance"] = None

    def delete_volume(self, **arguments: Any) -> Any:
        self._region.settle()
        volume = self._region.get("DeleteVolume", arguments["VolumeId"], "volume", "InvalidVolume.NotFound")
        if volume.data.get("instance"):
            raise failure("DeleteVolume", "VolumeInUse")
        self._region.remove(volume)

    def create_snapshot(self, **arguments: Any) -> Any:
        volume = self._region.get("CreateSnapshot", arguments["VolumeId"], "volume", "InvalidVolume.NotFound")
        fails = self._chaos.happens(self._chaos.weather.snapshot_error)
        made = self._region.make(
            "snapshot",
            tags_of(arguments, "snapshot"),
            (0.0, "pending"),
            (20.0, "error" if fails else "completed"),
            volume=volume.id,
            content=volume.data["content"],
            while_attached=bool(volume.data.get("instance")),
        )
        return {"SnapshotId": made.id}

    def copy_snapshot(self, **arguments: Any) -> Any:
        there = self._region.others[arguments["SourceRegion"]]
        code = "InvalidSnapshot.NotFound"
        original = there.get("CopySnapshot", arguments["SourceSnapshotId"], "snapshot", code)
        if original.state(self._now) != "completed":
            raise failure("CopySnapshot", "IncorrectState")
        under_way = [t for t in self._region.of("snapshot") if "copy" in t.data and t.state(self._now) == "pending"]
        if len(under_way) >= self._region.copies_at_once:
            message = "Too many snapshot copies in progress. The limit is 2 for this destination region."
            raise failure("CopySnapshot", "ResourceLimitExceeded", message=message)
        fails = self._chaos.happens(self._chaos.weather.snapshot_error)
        made = self._region.make(
            "snapshot",
            tags_of(arguments, "snapshot"),
            (0.0, "pending"),
            (60.0, "error" if fails else "completed"),
            **{**original.data, "volume": "vol-ffffffff", "copy": original.id, "late": self._region.late},
        )
        made.data.pop("put", None)
        return {"SnapshotId": made.id}

    def start_snapshot(self, **arguments: Any) -> Any:
        made = self._by_token("StartSnapshot", arguments)
        if made is None:
            marks = {tag["Key"]: tag["Value"] for tag in arguments["Tags"]}
            data: dict[str, Any] = {"volume": "vol-ffffffff", "content": "", "while_attached": False}
            made = self._region.make("snapshot", marks, (0.0, "pending"), **data, put=set(), sealed=False)
            self._remember(arguments, made)
        return {"SnapshotId": made.id}

    def complete_snapshot(self, **arguments: Any) -> Any:
        snapshot = self._region.get(
            "CompleteSnapshot", arguments["SnapshotId"], "snapshot", "ResourceNotFoundException"
        )
        if len(snapshot.data["put"]) != arguments["ChangedBlocksCount"] or snapshot.data["sealed"]:
            raise failure("CompleteSnapshot", "ValidationException")
        fails = self._chaos.happens(self._chaos.weather.snapshot_error)
        snapshot.data.update(sealed=True, content=self._whole)
        snapshot.become(self._now, (20.0 * self._chaos.weather.slow, "error" if fails else "completed"))

    def delete_snapshot(self, **arguments: Any) -> Any:
        snapshot = self._region.get("DeleteSnapshot", arguments["SnapshotId"], "snapshot", "InvalidSnapshot.NotFound")
        if any(t.data["snapshot"] == snapshot.id for t in self._region.alive("image")):
            raise failure("DeleteSnapshot", "InvalidSnapshot.InUse")
        self._region.remove(snapshot)

    def register_image(self, **arguments: Any) -> Any:
        name = arguments["Name"]
        if any(t.data["Name"] == name for t in self._region.alive("image")):
            raise failure("RegisterImage", "InvalidAMIName.Duplicate")
        root = arguments["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        snapshot = self._region.get("RegisterImage", root, "snapshot", "InvalidSnapshot.NotFound")
        if snapshot.state(self._now) != "completed":
            raise failure("RegisterImage", "InvalidSnapshot.NotFound")
        fails = self._chaos.happens(self._chaos.weather.image_fails)
        made = self._region.make(
            "image",
            tags_of(arguments, "image"),
            (0.0, "pending"),
            (4.0, "failed" if fails else "available"),
            Name=name,
            snapshot=root,
        )
        return {"ImageId": made.id}

    def deregister_image(self, **arguments: Any) -> Any:
        image = self._region.get("DeregisterImage", arguments["ImageId"], "image", "InvalidAMIID.NotFound")
        self._region.remove(image)

    # Client tokens ----------------------------------------------------------------------------------------------

    def _by_token(self, action: str, arguments: dict[str, Any]) -> Thing | None:
        token = arguments.get("ClientToken")
        if token is None or token not in self._region.tokens:
            return None
        name, said = self._region.tokens[token]
        if said != _said(arguments):
            raise failure(action, "IdempotentParameterMismatch")
        return self._region.things[name]

    def _remember(self, arguments: dict[str, Any], made: Thing) -> None:
        if arguments.get("ClientToken"):
            self._region.tokens[arguments["ClientToken"]] = (made.id, _said(arguments))


def _said(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, default=str)


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
