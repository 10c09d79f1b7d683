"""Every function of ebspub.aws that asks or tells EC2 something, with a right answer to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ebspub.aws import account, groups, images, instances, sharing, snapshots, tags, volumes
from ebspub.aws.view import look
from ebspub.spec import Registration
from ebspub.states import Kind

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

Call = Callable[["EC2Client"], Any]

REGION = "us-east-1"
STORE, JOB = "store", "job"
NAME = "lucid-1"
_TAGS = "".join(
    f"<item><key>{key}</key><value>{value}</value></item>"
    for key, value in ((tags.STORE, STORE), (tags.JOB, JOB), (tags.TOKEN, "token"), (tags.ATTEMPT, "1"))
)
TAG_SET = f"<tagSet>{_TAGS}</tagSet>"


def answer(action: str, inner: str) -> str:
    """Return EC2's answer to ``action``."""
    return f"<{action}Response><requestId>r-1</requestId>{inner}</{action}Response>"


_INSTANCE = (
    "<item><instanceId>i-1</instanceId><instanceState><code>16</code><name>running</name></instanceState>"
    "<placement><availabilityZone>us-east-1a</availabilityZone></placement><ipAddress>192.0.2.7</ipAddress>"
    "<privateIpAddress>10.0.0.7</privateIpAddress><instanceType>m5.large</instanceType>"
    "<launchTime>2010-10-20T00:00:00Z</launchTime><stateReason><code>x</code><message>why</message></stateReason>"
    f"<reason>because</reason>{TAG_SET}</item>"
)
_RESERVATIONS = f"<reservationSet><item><instancesSet>{_INSTANCE}</instancesSet></item></reservationSet>"
_VOLUMES = (
    "<volumeSet><item><volumeId>vol-1</volumeId><size>8</size><status>in-use</status><volumeType>gp3</volumeType>"
    "<availabilityZone>us-east-1a</availabilityZone><createTime>2010-10-20T00:00:00Z</createTime><attachmentSet><item>"
    "<instanceId>i-1</instanceId><device>/dev/sdf</device><status>attached</status></item></attachmentSet>"
    f"{TAG_SET}</item></volumeSet>"
)
_SNAPSHOTS = (
    "<snapshotSet><item><snapshotId>snap-1</snapshotId><volumeId>vol-1</volumeId><status>completed</status>"
    "<startTime>2010-10-20T00:00:00Z</startTime><progress>100%</progress><volumeSize>8</volumeSize>"
    f"<statusMessage>well</statusMessage>{TAG_SET}</item></snapshotSet>"
)
_IMAGES = (
    f"<imagesSet><item><imageId>ami-1</imageId><name>{NAME}</name><imageState>available</imageState>"
    "<stateReason><message>why</message></stateReason><architecture>x86_64</architecture>"
    "<creationDate>2010-10-20T00:00:00.000Z</creationDate><rootDeviceName>/dev/sda1</rootDeviceName>"
    "<blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><snapshotId>snap-1</snapshotId></ebs></item>"
    f"</blockDeviceMapping>{TAG_SET}</item></imagesSet>"
)
_GROUPS = (
    "<securityGroupInfo><item><groupId>sg-1</groupId><groupName>g</groupName><vpcId>vpc-1</vpcId><ipPermissions><item>"
    f"<fromPort>22</fromPort><toPort>22</toPort></item></ipPermissions>{TAG_SET}</item></securityGroupInfo>"
)
_SUBNETS = (
    "<subnetSet><item><subnetId>subnet-1</subnetId><vpcId>vpc-1</vpcId><availabilityZone>us-east-1a</availabilityZone>"
    "</item></subnetSet>"
)
_REGIONS = (
    "<regionInfo><item><regionName>us-east-1</regionName><optInStatus>opt-in-not-required</optInStatus></item>"
    "</regionInfo>"
)
_OFFERINGS = (
    "<instanceTypeOfferingSet><item><instanceType>m5.large</instanceType><location>us-east-1</location></item>"
    "</instanceTypeOfferingSet>"
)
_TYPES = (
    "<instanceTypeSet><item><instanceType>m5.large</instanceType><processorInfo><supportedArchitectures>"
    "<item>x86_64</item></supportedArchitectures></processorInfo></item></instanceTypeSet>"
)
_LISTS: dict[Kind, tuple[str, str]] = {
    Kind.INSTANCE: ("DescribeInstances", _RESERVATIONS),
    Kind.VOLUME: ("DescribeVolumes", _VOLUMES),
    Kind.SNAPSHOT: ("DescribeSnapshots", _SNAPSHOTS),
    Kind.IMAGE: ("DescribeImages", _IMAGES),
    Kind.GROUP: ("DescribeSecurityGroups", _GROUPS),
}


def _view(kind: Kind) -> Call:
    return lambda ec2: look(ec2, store=STORE, jobs=[JOB], names=[NAME], kinds=[kind], at=0.0).things[kind]


def _owned(kind: Kind) -> Call:
    return lambda ec2: account.owned(ec2, REGION, STORE, (kind,))


def _looked_up(kind: Kind) -> Call:
    return lambda ec2: account.look_up(ec2, REGION, kind, ["x-1"])


#: What reads lists: by name the call, EC2's answer, and the element without which it is no answer.
LISTS: dict[str, tuple[Call, str]] = {
    **{f"view of {kind}": (_view(kind), answer(*_LISTS[kind])) for kind in Kind},
    **{f"owned {kind}": (_owned(kind), answer(*_LISTS[kind])) for kind in Kind},
    **{f"looked up {kind}": (_looked_up(kind), answer(*_LISTS[kind])) for kind in Kind},
    "one image": (lambda ec2: images.get(ec2, "ami-1"), answer("DescribeImages", _IMAGES)),
    "public images": (account.public_images, answer("DescribeImages", _IMAGES)),
    "launch permissions": (
        lambda ec2: sharing.launch_permissions(ec2, "ami-1"),
        answer(
            "DescribeImageAttribute",
            "<imageId>ami-1</imageId><launchPermission><item><group>all</group></item>"
            "<item><userId>111122223333</userId></item></launchPermission>",
        ),
    ),
    "volume permissions": (
        lambda ec2: sharing.volume_permissions(ec2, "snap-1"),
        answer(
            "DescribeSnapshotAttribute",
            "<snapshotId>snap-1</snapshotId><createVolumePermission><item>"
            "<group>all</group></item></createVolumePermission>",
        ),
    ),
    "VPC": (
        lambda ec2: groups.vpc_of(ec2, None),
        answer("DescribeVpcs", "<vpcSet><item><vpcId>v</vpcId></item></vpcSet>"),
    ),
    "VPC of a subnet": (lambda ec2: groups.vpc_of(ec2, "subnet-1"), answer("DescribeSubnets", _SUBNETS)),
    "subnets": (lambda ec2: account.subnets(ec2, ["subnet-1"]), answer("DescribeSubnets", _SUBNETS)),
    "groups": (lambda ec2: account.security_groups(ec2, ["sg-1"]), answer("DescribeSecurityGroups", _GROUPS)),
    "opt-in": (account.opt_in, answer("DescribeRegions", _REGIONS)),
    "offerings": (
        lambda ec2: account.offerings(ec2, ["m5.large"]),
        answer("DescribeInstanceTypeOfferings", _OFFERINGS),
    ),
    "architectures": (lambda ec2: account.architectures(ec2, ["m5.large"]), answer("DescribeInstanceTypes", _TYPES)),
}
READERS: dict[str, tuple[Call, str]] = {
    **LISTS,
    "images blocked": (
        sharing.images_blocked,
        answer(
            "GetImageBlockPublicAccessState", "<imageBlockPublicAccessState>unblocked</imageBlockPublicAccessState>"
        ),
    ),
    "snapshots blocked": (
        sharing.snapshots_blocked,
        answer("GetSnapshotBlockPublicAccessState", "<state>block-all-sharing</state>"),
    ),
    "console": (
        lambda ec2: instances.console(ec2, "i-1"),
        answer("GetConsoleOutput", "<instanceId>i-1</instanceId><output>ZWJzcHViOiB4</output>"),
    ),
    "clock": (lambda ec2: account.skew(ec2, lambda: 1_700_000_000.0), answer("DescribeRegions", _REGIONS)),
}

_BUILDER = {"image": "ami-1", "instance_type": "m5.large", "groups": ["sg-1"], "public": True}
_VOLUME = {"zone": "us-east-1a", "size": 8, "type": "gp3"}
_MARKS = {tags.JOB: JOB}
_REGISTRATION = Registration(name=NAME, description="Ubuntu", architecture="x86_64")
#: What makes things: the call, EC2's answer.
MAKERS: dict[str, tuple[Call, str]] = {
    "RunInstances": (
        lambda ec2: instances.run(ec2, _BUILDER, token="token", tags=_MARKS, user_data="#!/bin/sh\n"),
        answer("RunInstances", f"<reservationId>r-1</reservationId><instancesSet>{_INSTANCE}</instancesSet>"),
    ),
    "CreateVolume": (
        lambda ec2: volumes.create(ec2, _VOLUME, token="token", tags=_MARKS),
        answer("CreateVolume", "<volumeId>vol-1</volumeId><size>8</size><createTime>2010-10-20T00:00:00Z</createTime>"),
    ),
    "CreateSnapshot": (
        lambda ec2: snapshots.create(ec2, {"volume": "vol-1", "description": "x"}, tags=_MARKS),
        answer("CreateSnapshot", "<snapshotId>snap-1</snapshotId><startTime>2010-10-20T00:00:00Z</startTime>"),
    ),
    "RegisterImage": (
        lambda ec2: images.register(ec2, _REGISTRATION, {"snapshot": "snap-1"}, tags=_MARKS),
        answer("RegisterImage", "<imageId>ami-1</imageId>"),
    ),
    "CreateSecurityGroup": (
        lambda ec2: groups.create(ec2, {"name": "g", "vpc": "vpc-1", "description": "x"}, tags=_MARKS),
        answer("CreateSecurityGroup", "<return>true</return><groupId>sg-1</groupId>"),
    ),
}
_TRUE = "<return>true</return>"
#: What changes or removes things.
CHANGERS: dict[str, tuple[Call, str]] = {
    "TerminateInstances": (
        lambda ec2: instances.terminate(ec2, "i-1"),
        answer("TerminateInstances", f"<instancesSet>{_INSTANCE}</instancesSet>"),
    ),
    "AttachVolume": (
        lambda ec2: volumes.attach(ec2, "vol-1", "i-1", "/dev/sdf"),
        answer("AttachVolume", "<volumeId>vol-1</volumeId><attachTime>2010-10-20T00:00:00Z</attachTime>"),
    ),
    "DetachVolume": (lambda ec2: volumes.detach(ec2, "vol-1"), answer("DetachVolume", "<volumeId>vol-1</volumeId>")),
    "DeleteVolume": (lambda ec2: volumes.delete(ec2, "vol-1"), answer("DeleteVolume", _TRUE)),
    "DeleteSnapshot": (lambda ec2: snapshots.delete(ec2, "snap-1"), answer("DeleteSnapshot", _TRUE)),
    "DeregisterImage": (lambda ec2: images.deregister(ec2, "ami-1"), answer("DeregisterImage", _TRUE)),
    "DeleteSecurityGroup": (lambda ec2: groups.delete(ec2, "sg-1"), answer("DeleteSecurityGroup", _TRUE)),
    "ModifyImageAttribute": (
        lambda ec2: sharing.change_launch(ec2, "ami-1", add=["all", "111122223333"]),
        answer("ModifyImageAttribute", _TRUE),
    ),
    "ModifySnapshotAttribute": (
        lambda ec2: sharing.change_volumes(ec2, "snap-1", remove=["111122223333"]),
        answer("ModifySnapshotAttribute", _TRUE),
    ),
    "CreateTags": (lambda ec2: sharing.tag(ec2, "ami-1", {"a": "b"}), answer("CreateTags", _TRUE)),
    "DeleteTags": (lambda ec2: sharing.untag(ec2, "ami-1", ["a"]), answer("DeleteTags", _TRUE)),
    "AuthorizeSecurityGroupIngress": (
        lambda ec2: groups.admit(ec2, "sg-1", port=22, cidr="192.0.2.1/32"),
        answer("AuthorizeSecurityGroupIngress", _TRUE),
    ),
}
