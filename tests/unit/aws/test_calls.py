"""What EC2 is sent: every call, word for word, and valid by botocore's model of the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from botocore.stub import Stubber

from ebspub.aws import groups, images, instances, parameters, snapshots, volumes
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import AwsError, Cause
from ebspub.spec import Registration

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

TAGS = {"Name": "a job", "ebspub:token": "token"}
#: TAGS as EC2 takes them.
PAIRS = [{"Key": "Name", "Value": "a job"}, {"Key": "ebspub:token", "Value": "token"}]
BUILDER = {"image": "ami-1", "instance_type": "m5.large", "groups": ["sg-1"], "public": True}
VOLUME = {"zone": "us-east-1a", "size": 8, "type": "gp3"}
REGISTRATION = Registration(name="lucid-1", description="Ubuntu", architecture="x86_64")
CIDR = "192.0.2.1/32"

RUN = {
    "ImageId": "ami-1",
    "InstanceType": "m5.large",
    "MinCount": 1,
    "MaxCount": 1,
    "ClientToken": "token",
    "UserData": "#!/bin/sh\n",
    "NetworkInterfaces": [
        {"DeviceIndex": 0, "Groups": ["sg-1"], "DeleteOnTermination": True, "AssociatePublicIpAddress": True}
    ],
    # The dead-man timer shuts it down, which must leave nothing.
    "InstanceInitiatedShutdownBehavior": "terminate",
    # IMDSv2 only, and not for what is one hop away.
    "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
    "TagSpecifications": [
        {"ResourceType": kind, "Tags": PAIRS} for kind in ("instance", "volume", "network-interface")
    ],
}
RUN_ALL = {
    **RUN,
    "NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-1"], "DeleteOnTermination": True, "SubnetId": "subnet-1"}],
    "Placement": {"AvailabilityZone": "us-east-1b"},
    "IamInstanceProfile": {"Name": "builder"},
    "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": True}}],
}
#: An image whose cloud-init knows no IMDSv2, where nothing connects to it.
RUN_OLD = {
    **RUN,
    "NetworkInterfaces": [{"DeviceIndex": 0, "DeleteOnTermination": True, "AssociatePublicIpAddress": True}],
    "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
}
COPY = {"snapshot": "snap-1", "region": "us-east-1", "description": "lucid", "encrypted": False, "kms_key": None}
COPIED = {
    "SourceSnapshotId": "snap-1",
    "SourceRegion": "us-east-1",
    "Description": "lucid",
    "TagSpecifications": [{"ResourceType": "snapshot", "Tags": PAIRS}],
}
CREATE = {
    "AvailabilityZone": "us-east-1a",
    "Size": 8,
    "VolumeType": "gp3",
    "ClientToken": "token",
    "TagSpecifications": [{"ResourceType": "volume", "Tags": PAIRS}],
}
REGISTER = {
    "Name": "lucid-1",
    "Description": "Ubuntu",
    "Architecture": "x86_64",
    "VirtualizationType": "hvm",
    "RootDeviceName": "/dev/sda1",
    "BlockDeviceMappings": [
        {
            "DeviceName": "/dev/sda1",
            "Ebs": {"SnapshotId": "snap-1", "DeleteOnTermination": True, "VolumeType": "gp3"},
        }
    ],
    "TagSpecifications": [{"ResourceType": "image", "Tags": PAIRS}],
}
#: io1 and io2 have no default.
REGISTER_IOPS = {
    **REGISTER,
    "BlockDeviceMappings": [
        {
            "DeviceName": "/dev/sda1",
            "Ebs": {"SnapshotId": "snap-1", "DeleteOnTermination": True, "VolumeType": "io2", "Iops": 4000},
        }
    ],
}
REGISTER_FAST = {
    **REGISTER,
    "BlockDeviceMappings": [
        {
            "DeviceName": "/dev/sda1",
            "Ebs": {
                "SnapshotId": "snap-1",
                "DeleteOnTermination": True,
                "VolumeType": "gp3",
                "Iops": 4000,
                "Throughput": 500,
            },
        }
    ],
}
REGISTER_ALL = {
    **REGISTER,
    "BlockDeviceMappings": [
        *REGISTER["BlockDeviceMappings"],
        {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
        {"DeviceName": "/dev/sdc", "VirtualName": "ephemeral1"},
    ],
    "KernelId": "aki-1",
    "RamdiskId": "ari-1",
    "BootMode": "uefi-preferred",
    "ImdsSupport": "v2.0",
    "TpmSupport": "v2.0",
    "UefiData": "QU1aTlVFRkk=",
    "EnaSupport": True,
    "SriovNetSupport": "simple",
}
ALL = REGISTRATION.model_copy(
    update={
        "kernel_id": "aki-1",
        "ramdisk_id": "ari-1",
        "boot_mode": "uefi-preferred",
        "imds": "v2.0",
        "tpm": "v2.0",
        "uefi_data": "QU1aTlVFRkk=",
        "ena": True,
        "sriov": True,
        "ephemeral": (("/dev/sdb", "ephemeral0"), ("/dev/sdc", "ephemeral1")),
    }
)
BARE = REGISTRATION.model_copy(update={"description": "", "imds": "v1.0"})


def run(ec2: EC2Client, **more: Any) -> str:
    return instances.run(ec2, {**BUILDER, **more}, token="token", tags=TAGS, user_data="#!/bin/sh\n")


#: Name; call; EC2's action; what it is sent; its answer; what the call returns.
CALLS: list[tuple[str, Callable[[EC2Client], object], str, dict[str, Any], dict[str, Any], object]] = [
    ("run", run, "run_instances", RUN, {"Instances": [{"InstanceId": "i-1"}]}, "i-1"),
    (
        "run with everything",
        lambda ec2: run(
            ec2,
            public=False,
            subnet="subnet-1",
            zone="us-east-1b",
            profile="builder",
            root={"device": "/dev/sda1", "size": 20},
        ),
        "run_instances",
        RUN_ALL,
        {"Instances": [{"InstanceId": "i-1"}]},
        "i-1",
    ),
    (
        "terminate",
        lambda ec2: instances.terminate(ec2, "i-1"),
        "terminate_instances",
        {"InstanceIds": ["i-1"]},
        {},
        None,
    ),
    ("stop", lambda ec2: instances.stop(ec2, "i-1"), "stop_instances", {"InstanceIds": ["i-1"]}, {}, None),
    ("start", lambda ec2: instances.start(ec2, "i-1"), "start_instances", {"InstanceIds": ["i-1"]}, {}, None),
    (
        "run an old image",
        lambda ec2: run(ec2, groups=[], old_imds=True),
        "run_instances",
        RUN_OLD,
        {"Instances": [{"InstanceId": "i-1"}]},
        "i-1",
    ),
    (
        "create a volume",
        lambda ec2: volumes.create(ec2, VOLUME, token="token", tags=TAGS),
        "create_volume",
        CREATE,
        {"VolumeId": "vol-1"},
        "vol-1",
    ),
    (
        "create a fast volume",
        lambda ec2: volumes.create(ec2, {**VOLUME, "iops": 4000, "throughput": 500}, token="token", tags=TAGS),
        "create_volume",
        {**CREATE, "Iops": 4000, "Throughput": 500},
        {"VolumeId": "vol-1"},
        "vol-1",
    ),
    (
        "create an encrypted volume",
        lambda ec2: volumes.create(
            ec2, {**VOLUME, "encrypted": True, "kms_key": "alias/images"}, token="token", tags=TAGS
        ),
        "create_volume",
        {**CREATE, "Encrypted": True, "KmsKeyId": "alias/images"},
        {"VolumeId": "vol-1"},
        "vol-1",
    ),
    (
        "attach",
        lambda ec2: volumes.attach(ec2, "vol-1", "i-1", "/dev/sdf"),
        "attach_volume",
        {"VolumeId": "vol-1", "InstanceId": "i-1", "Device": "/dev/sdf"},
        {},
        None,
    ),
    ("detach", lambda ec2: volumes.detach(ec2, "vol-1"), "detach_volume", {"VolumeId": "vol-1"}, {}, None),
    ("delete a volume", lambda ec2: volumes.delete(ec2, "vol-1"), "delete_volume", {"VolumeId": "vol-1"}, {}, None),
    (
        "snapshot",
        lambda ec2: snapshots.create(ec2, {"volume": "vol-1", "description": "lucid"}, tags=TAGS),
        "create_snapshot",
        {
            "VolumeId": "vol-1",
            "Description": "lucid",
            "TagSpecifications": [{"ResourceType": "snapshot", "Tags": PAIRS}],
        },
        {"SnapshotId": "snap-1"},
        "snap-1",
    ),
    (
        "copy a snapshot",
        lambda ec2: snapshots.copy(ec2, COPY, tags=TAGS),
        "copy_snapshot",
        COPIED,
        {"SnapshotId": "snap-2"},
        "snap-2",
    ),
    (
        "copy a snapshot and encrypt it",
        lambda ec2: snapshots.copy(ec2, {**COPY, "encrypted": True, "kms_key": "alias/images"}, tags=TAGS),
        "copy_snapshot",
        {**COPIED, "Encrypted": True, "KmsKeyId": "alias/images"},
        {"SnapshotId": "snap-2"},
        "snap-2",
    ),
    (
        "delete a snapshot",
        lambda ec2: snapshots.delete(ec2, "snap-1"),
        "delete_snapshot",
        {"SnapshotId": "snap-1"},
        {},
        None,
    ),
    (
        "register",
        lambda ec2: images.register(ec2, REGISTRATION, {"snapshot": "snap-1"}, tags=TAGS),
        "register_image",
        REGISTER,
        {"ImageId": "ami-1"},
        "ami-1",
    ),
    (
        "register with everything",
        lambda ec2: images.register(ec2, ALL, {"snapshot": "snap-1"}, tags=TAGS),
        "register_image",
        REGISTER_ALL,
        {"ImageId": "ami-1"},
        "ami-1",
    ),
    (
        "register with provisioned IOPS",
        lambda ec2: images.register(
            ec2,
            REGISTRATION.model_copy(update={"volume_type": "io2"}),
            {"snapshot": "snap-1", "iops": 4000},
            tags=TAGS,
        ),
        "register_image",
        REGISTER_IOPS,
        {"ImageId": "ami-1"},
        "ami-1",
    ),
    (
        "register with IOPS and throughput",
        lambda ec2: images.register(
            ec2, REGISTRATION, {"snapshot": "snap-1", "iops": 4000, "throughput": 500}, tags=TAGS
        ),
        "register_image",
        REGISTER_FAST,
        {"ImageId": "ami-1"},
        "ami-1",
    ),
    (
        "register with as little as can be",  # IMDSv1 is EC2's default and no value that it takes
        lambda ec2: images.register(ec2, BARE, {"snapshot": "snap-1"}, tags=TAGS),
        "register_image",
        {key: value for key, value in REGISTER.items() if key != "Description"},
        {"ImageId": "ami-1"},
        "ami-1",
    ),
    ("deregister", lambda ec2: images.deregister(ec2, "ami-1"), "deregister_image", {"ImageId": "ami-1"}, {}, None),
    (
        "create a group",
        lambda ec2: groups.create(ec2, {"name": "ebspub-1", "vpc": "vpc-1", "description": "SSH"}, tags=TAGS),
        "create_security_group",
        {
            "GroupName": "ebspub-1",
            "Description": "SSH",
            "VpcId": "vpc-1",
            "TagSpecifications": [{"ResourceType": "security-group", "Tags": PAIRS}],
        },
        {"GroupId": "sg-1"},
        "sg-1",
    ),
    (
        "admit",
        lambda ec2: groups.admit(ec2, "sg-1", port=22, cidr=CIDR),
        "authorize_security_group_ingress",
        {
            "GroupId": "sg-1",
            "IpPermissions": [
                {
                    "IpProtocol": "tcp",
                    "FromPort": 22,
                    "ToPort": 22,
                    "IpRanges": [{"CidrIp": CIDR, "Description": "ebspub publisher"}],
                }
            ],
        },
        {},
        None,
    ),
    ("delete a group", lambda ec2: groups.delete(ec2, "sg-1"), "delete_security_group", {"GroupId": "sg-1"}, {}, None),
]
#: The calls that EC2 makes one thing of, however often they are sent with one token.
TOKENED = {"run_instances", "create_volume"}
CREATING = TOKENED | {"create_snapshot", "copy_snapshot", "register_image", "create_security_group"}


@pytest.mark.parametrize(
    ("call", "action", "sent", "answer", "returned"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS]
)
def test_a_call_is_sent_as_ec2_takes_it(
    clients: RegionClients,
    stub: Stubber,
    call: Callable[[EC2Client], object],
    action: str,
    sent: dict[str, Any],
    answer: dict[str, Any],
    returned: object,
) -> None:
    stub.add_response(action, answer, sent)
    assert call(clients.writer) == returned


@pytest.mark.parametrize(("call", "action"), [(c[1], c[2]) for c in CALLS], ids=[c[0] for c in CALLS])
def test_a_refusal_is_told_with_the_action_and_sent_once(
    clients: RegionClients, stub: Stubber, call: Callable[[EC2Client], object], action: str
) -> None:
    stub.add_client_error(action, "UnauthorizedOperation", "no", 403, response_meta={"RequestId": "r-1"})
    with pytest.raises(AwsError) as told:
        call(clients.writer)
    name = "".join(word.title() for word in action.split("_"))
    assert (told.value.action, told.value.cause, told.value.request_id) == (name, Cause.PERMISSION, "r-1")


@pytest.mark.parametrize(("action", "sent"), [(c[2], c[3]) for c in CALLS], ids=[c[0] for c in CALLS])
def test_whatever_makes_something_says_whose_it_is(action: str, sent: dict[str, Any]) -> None:
    assert ("TagSpecifications" in sent) == (action in CREATING)
    assert ("ClientToken" in sent) == (action in TOKENED)


def test_the_vpc_of_a_subnet_or_the_default_one(clients: RegionClients, stub: Stubber) -> None:
    default = {"Filters": [{"Name": "is-default", "Values": ["true"]}]}
    stub.add_response("describe_subnets", {"Subnets": [{"VpcId": "vpc-1"}]}, {"SubnetIds": ["subnet-1"]})
    stub.add_response("describe_vpcs", {"Vpcs": [{"VpcId": "vpc-2"}]}, default)
    stub.add_response("describe_vpcs", {"Vpcs": []}, default)
    assert groups.vpc_of(clients.writer, "subnet-1") == "vpc-1"
    assert groups.vpc_of(clients.writer, None) == "vpc-2"
    assert groups.vpc_of(clients.writer, None) is None


def test_an_image_is_named_by_itself_or_by_a_parameter(clients: RegionClients) -> None:
    with Stubber(clients.ssm) as stub:
        assert parameters.image_id(clients.ssm, "ami-1") == "ami-1"
        stub.add_response("get_parameter", {"Parameter": {"Value": "ami-2"}}, {"Name": "/canonical/ubuntu"})
        assert parameters.image_id(clients.ssm, "ssm:/canonical/ubuntu") == "ami-2"
        stub.add_client_error("get_parameter", "ParameterNotFound", "no")
        with pytest.raises(AwsError) as told:
            parameters.image_id(clients.ssm, "ssm:/none")
    assert told.value.missing
