"""Security groups: the temporary one that lets the publisher, and nobody else, reach a builder's SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebspub.aws.answers import listed, paged, said, text
from ebspub.aws.failures import calling
from ebspub.aws.tags import as_dict, marked, of_jobs, specification

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


@dataclass(frozen=True, slots=True)
class Group:
    """What DescribeSecurityGroups says. ``open_ports`` are the first ports of its ingress rules."""

    id: str
    name: str
    open_ports: frozenset[int]
    tags: Mapping[str, str]


def parse(item: Mapping[str, Any]) -> Group:
    """Return a Group from an item of DescribeSecurityGroups. Raises GarbledAnswerError."""
    return Group(
        id=text(item, "GroupId"),
        name=said(item, "GroupName"),
        open_ports=frozenset(int(rule.get("FromPort", -1)) for rule in item.get("IpPermissions", ())),
        tags=as_dict(item.get("Tags")),
    )


def describe(ec2: EC2Client, store: str, jobs: Sequence[str]) -> list[Group]:
    """Return the temporary groups of some jobs (at most 200)."""
    with calling("DescribeSecurityGroups"):
        found = paged(ec2.describe_security_groups, "SecurityGroups", Filters=of_jobs(store, jobs), MaxResults=1000)
        return [parse(item) for item in marked(found)]


def vpc_of(ec2: EC2Client, subnet: str | None) -> str | None:
    """Return the VPC of a subnet, or the region's default VPC; None where there is no default VPC."""
    if subnet:
        with calling("DescribeSubnets"):
            subnets = listed(ec2.describe_subnets(SubnetIds=[subnet]), "Subnets")
            return text(subnets[0], "VpcId") if subnets else None
    with calling("DescribeVpcs"):
        vpcs = listed(ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}]), "Vpcs")
        return text(vpcs[0], "VpcId") if vpcs else None


def create(ec2: EC2Client, request: Mapping[str, Any], *, tags: Mapping[str, str]) -> str:
    """Create a group; return its id. ``request``: name (unique in the VPC), vpc, description."""
    with calling("CreateSecurityGroup"):
        answer = ec2.create_security_group(
            GroupName=request["name"],
            Description=request["description"],
            VpcId=request["vpc"],
            TagSpecifications=[specification("security-group", tags)],
        )
        return text(answer, "GroupId")


def admit(ec2: EC2Client, group: str, *, port: int, cidr: str) -> None:
    """Admit TCP ``port`` from the network ``cidr``."""
    permission: Any = {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": cidr, "Description": "ebspub publisher"}],
    }
    with calling("AuthorizeSecurityGroupIngress"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])


def delete(ec2: EC2Client, group: str) -> None:
    """Delete a group that no instance uses."""
    with calling("DeleteSecurityGroup"):
        ec2.delete_security_group(GroupId=group)
