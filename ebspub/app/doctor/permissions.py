"""May these credentials do what publishing does? Every call that changes something is tried with DryRun.

EC2 answers `DryRunOperation` where it would have done it, and `UnauthorizedOperation` where it may not. A call that
changes or removes something is tried on a thing of ours if there is one: a policy that allows it only for what carries
our tags (examples/iam-policy.json does) refuses it for a thing that does not exist, and that says nothing. Any other
answer came before EC2 looked at the permission, and says nothing either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebspub.app.doctor.rows import Level, Row
from ebspub.aws import account, groups, tags
from ebspub.aws.account import Owned
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import AwsError, Cause
from ebspub.spec import JobSpec
from ebspub.states import Kind

#: Well-formed ids of things that are not there.
_NOBODY = {
    Kind.INSTANCE: "i-00000000000000000",
    Kind.VOLUME: "vol-00000000000000000",
    Kind.SNAPSHOT: "snap-00000000000000000",
    Kind.IMAGE: "ami-00000000000000000",
    Kind.GROUP: "sg-00000000000000000",
}
#: An account that nothing is shared with.
_NO_ACCOUNT = "000000000000"


@dataclass(frozen=True)
class Trial:
    """What the calls are tried with: ids of ours by kind (or of nobody), a builder's image, a job of the region."""

    spec: JobSpec
    image: str
    vpc: str | None
    marks: Mapping[str, str]
    ids: Mapping[Kind, str]

    def named(self, kind: Any) -> list[Any]:
        """Return the tags as the creating calls take them."""
        return [tags.specification(kind, self.marks)]


def _run_instances(ec2: Any, trial: Trial) -> None:
    builder = trial.spec.builder
    interface: dict[str, Any] = {"DeviceIndex": 0, "DeleteOnTermination": True}
    if builder.security_groups:
        interface["Groups"] = list(builder.security_groups)
    if builder.subnets:
        interface["SubnetId"] = builder.subnets[0]
    if builder.address == "public":
        interface["AssociatePublicIpAddress"] = True
    ec2.run_instances(
        DryRun=True,
        ImageId=trial.image,
        InstanceType=builder.instance_types[0],
        MinCount=1,
        MaxCount=1,
        NetworkInterfaces=[interface],
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        TagSpecifications=[each for kind in ("instance", "volume", "network-interface") for each in trial.named(kind)],
        **({"IamInstanceProfile": {"Name": builder.instance_profile}} if builder.instance_profile else {}),
    )


def _create_volume(ec2: Any, trial: Trial) -> None:
    zones = trial.spec.builder.zones or (f"{trial.spec.region}a",)
    volume = trial.spec.volume
    ec2.create_volume(
        DryRun=True,
        AvailabilityZone=zones[0],
        Size=volume.size,
        VolumeType=volume.type,
        TagSpecifications=trial.named("volume"),
        **({"Iops": volume.iops} if volume.iops else {}),
    )


def _register_image(ec2: Any, trial: Trial) -> None:
    root = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": trial.ids[Kind.SNAPSHOT]}}
    ec2.register_image(
        DryRun=True,
        Name="ebspub doctor",
        Architecture="x86_64",
        VirtualizationType="hvm",
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[root],
        TagSpecifications=trial.named("image"),
    )


def _create_group(ec2: Any, trial: Trial) -> None:
    ec2.create_security_group(
        DryRun=True,
        GroupName="ebspub-doctor",
        Description="ebspub doctor",
        TagSpecifications=trial.named("security-group"),
        **({"VpcId": trial.vpc} if trial.vpc else {}),
    )


def _authorize(ec2: Any, trial: Trial) -> None:
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "127.0.0.1/32"}]}
    ec2.authorize_security_group_ingress(DryRun=True, GroupId=trial.ids[Kind.GROUP], IpPermissions=[permission])


def _create_snapshot(ec2: Any, trial: Trial) -> None:
    ec2.create_snapshot(DryRun=True, VolumeId=trial.ids[Kind.VOLUME], TagSpecifications=trial.named("snapshot"))


def _copy_snapshot(ec2: Any, trial: Trial) -> None:
    # Within the region: here is what is ours, and the permission is the same.
    ec2.copy_snapshot(
        DryRun=True,
        SourceSnapshotId=trial.ids[Kind.SNAPSHOT],
        SourceRegion=trial.spec.region,
        TagSpecifications=trial.named("snapshot"),
    )


def _attach(ec2: Any, trial: Trial) -> None:
    ids = trial.ids
    ec2.attach_volume(DryRun=True, VolumeId=ids[Kind.VOLUME], InstanceId=ids[Kind.INSTANCE], Device="/dev/sdf")


#: What a call is tried on (none: it makes something new), and how.
Action = tuple[tuple[Kind, ...], Callable[[Any, Trial], object]]
#: Every call that changes something, of jobs that have a builder.
ACTIONS: Mapping[str, Action] = {
    "RunInstances": ((), _run_instances),
    "CreateVolume": ((), _create_volume),
    "CreateSnapshot": ((Kind.VOLUME,), _create_snapshot),
    "RegisterImage": ((Kind.SNAPSHOT,), _register_image),
    "CreateSecurityGroup": ((), _create_group),
    "AuthorizeSecurityGroupIngress": ((Kind.GROUP,), _authorize),
    "AttachVolume": ((Kind.VOLUME, Kind.INSTANCE), _attach),
    "DetachVolume": ((Kind.VOLUME,), lambda ec2, t: ec2.detach_volume(DryRun=True, VolumeId=t.ids[Kind.VOLUME])),
    "StopInstances": (
        (Kind.INSTANCE,),
        lambda ec2, t: ec2.stop_instances(DryRun=True, InstanceIds=[t.ids[Kind.INSTANCE]]),
    ),
    "StartInstances": (
        (Kind.INSTANCE,),
        lambda ec2, t: ec2.start_instances(DryRun=True, InstanceIds=[t.ids[Kind.INSTANCE]]),
    ),
    "TerminateInstances": (
        (Kind.INSTANCE,),
        lambda ec2, t: ec2.terminate_instances(DryRun=True, InstanceIds=[t.ids[Kind.INSTANCE]]),
    ),
    "DeleteVolume": ((Kind.VOLUME,), lambda ec2, t: ec2.delete_volume(DryRun=True, VolumeId=t.ids[Kind.VOLUME])),
    "DeleteSecurityGroup": (
        (Kind.GROUP,),
        lambda ec2, t: ec2.delete_security_group(DryRun=True, GroupId=t.ids[Kind.GROUP]),
    ),
    "DeregisterImage": ((Kind.IMAGE,), lambda ec2, t: ec2.deregister_image(DryRun=True, ImageId=t.ids[Kind.IMAGE])),
    "DeleteSnapshot": (
        (Kind.SNAPSHOT,),
        lambda ec2, t: ec2.delete_snapshot(DryRun=True, SnapshotId=t.ids[Kind.SNAPSHOT]),
    ),
}
#: What a copy needs beside, or instead of, the above.
COPYING: Mapping[str, Action] = {
    "CopySnapshot": ((Kind.SNAPSHOT,), _copy_snapshot),
    **{name: ACTIONS[name] for name in ("RegisterImage", "DeregisterImage", "DeleteSnapshot")},
}
#: What `ebspub publish` does beside. (Parameter Store has no DryRun.)
PUBLISHING: Mapping[str, Action] = {
    "ModifySnapshotAttribute": (
        (Kind.SNAPSHOT,),
        lambda ec2, t: ec2.modify_snapshot_attribute(
            DryRun=True,
            SnapshotId=t.ids[Kind.SNAPSHOT],
            Attribute="createVolumePermission",
            OperationType="remove",
            UserIds=[_NO_ACCOUNT],
        ),
    ),
    "ModifyImageAttribute": (
        (Kind.IMAGE,),
        lambda ec2, t: ec2.modify_image_attribute(
            DryRun=True,
            ImageId=t.ids[Kind.IMAGE],
            Attribute="launchPermission",
            LaunchPermission={"Remove": [{"UserId": _NO_ACCOUNT}]},
        ),
    ),
    "CreateTags": (
        (Kind.IMAGE,),
        lambda ec2, t: ec2.create_tags(
            DryRun=True, Resources=[t.ids[Kind.IMAGE]], Tags=[{"Key": tags.LABEL, "Value": "doctor"}]
        ),
    ),
    "DeleteTags": (
        (Kind.IMAGE,),
        lambda ec2, t: ec2.delete_tags(DryRun=True, Resources=[t.ids[Kind.IMAGE]], Tags=[{"Key": tags.LABEL}]),
    ),
}
_GRANT = "Grant the actions to the credentials in use (examples/iam-policy.json)."


def check(
    clients: RegionClients, spec: JobSpec, image: str, store: str, actions: Mapping[str, Action] = ACTIONS
) -> Iterator[Row]:
    """Try ``actions`` in a region; ``image`` is the builder's, ``store`` this database's id (empty: none yet)."""
    region = clients.region
    try:
        account.dry_run("DescribeRegions", lambda: clients.reader.describe_regions(DryRun=True))
    except LookupError:
        what = "this endpoint takes no notice of DryRun: not tried"
        yield Row(region, "permissions", Level.YELLOW, what)
        return
    ours = account.owned(clients.reader, region, store) if store else []
    trial = _trial(clients, spec, image, store, ours)
    present = {thing.kind for thing in ours}
    granted, refused, unsure, silent = [], [], [], []
    for action, (on, call) in actions.items():
        refusal = _try(clients, action, call, trial)
        if refusal is None:
            granted.append(action)
        elif refusal.cause is not Cause.PERMISSION:
            silent.append(action)
        elif set(on) <= present:
            refused.append(action)
        else:
            unsure.append(action)
    yield from _rows(region, granted, refused, unsure, silent)


def _trial(clients: RegionClients, spec: JobSpec, image: str, store: str, ours: Sequence[Owned]) -> Trial:
    ids = {**_NOBODY, **{thing.kind: thing.id for thing in ours}}
    subnet = spec.builder.subnets[0] if spec.builder.subnets else None
    try:
        vpc = groups.vpc_of(clients.reader, subnet)
    except AwsError:
        vpc = None  # the check of subnets tells it
    marks = {"Name": "ebspub doctor", tags.STORE: store or "doctor", tags.JOB: "doctor"}
    return Trial(spec, image or _NOBODY[Kind.IMAGE], vpc, marks, ids)


def _try(clients: RegionClients, action: str, call: Callable[[Any, Trial], object], trial: Trial) -> AwsError | None:
    return account.dry_run(action, lambda: call(clients.writer, trial))


def _rows(
    region: str, granted: Sequence[str], refused: Sequence[str], unsure: Sequence[str], silent: Sequence[str]
) -> Iterator[Row]:
    if refused:
        yield Row(region, "permissions", Level.RED, f"refused: {', '.join(refused)}", _GRANT)
    if unsure:
        what = f"refused for a thing that does not exist: {', '.join(unsure)}"
        todo = "Well if your policy allows these for what carries ebspub's tags only (examples/iam-policy.json does)."
        yield Row(region, "permissions", Level.YELLOW, what, todo)
    tried = sum(len(each) for each in (granted, refused, unsure, silent))
    said = f"; not told by EC2: {', '.join(silent)}" if silent else ""
    if granted or silent:
        yield Row(region, "permissions", Level.GREEN, f"{len(granted)} of {tried} actions granted{said}")
