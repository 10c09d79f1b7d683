"""What is in the account, by a store's tag and whatever job it belongs to; and what the account may and has.

Unlike the nouns' own describe calls these do not start from jobs: the sweep looks for what no job knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ebspub.aws import tags
from ebspub.aws.failures import AwsError, calling
from ebspub.states import Kind

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

#: What EC2 answers to a call with DryRun that it would have carried out.
WOULD_SUCCEED = "DryRunOperation"
#: The code of the quota of public AMIs in a region, and how it is called here.
PUBLIC_AMIS = "L-0E3CBAB9"
PUBLIC_NAME = "Public AMIs"
_ENDED = frozenset({"terminated", "deregistered", "deleting", "deleted"})


@dataclass(frozen=True, slots=True)
class Owned:
    """A thing that carries the tag of a store.

    ``created``: seconds since the epoch, None for security groups, of which EC2 does not tell. ``size`` in GiB.
    ``kind_of``: the instance type or the volume type. ``uses``: ids of what it is attached to (a volume) or made of
    (an AMI: its snapshots; a snapshot: its volume).
    """

    kind: Kind
    id: str
    region: str
    state: str
    created: float | None
    tags: Mapping[str, str]
    size: float = 0.0
    kind_of: str = ""
    uses: tuple[str, ...] = ()

    @property
    def job(self) -> str:
        """The id of the job whose tag it carries."""
        return self.tags.get(tags.JOB, "")

    @property
    def attempt(self) -> int:
        """The attempt of the job that it was made in; 0 where its tag does not say."""
        told = self.tags.get(tags.ATTEMPT, "")
        return int(told) if told.isascii() and told.isdigit() else 0


def owned(ec2: EC2Client, region: str, store: str, kinds: Collection[Kind] = tuple(Kind)) -> list[Owned]:
    """Return everything of a region that carries the tag of ``store`` and has not ended. Raises AwsError."""
    return [thing for thing in _listed(ec2, region, _of_store(store), kinds) if thing.tags.get(tags.STORE) == store]


def present(ec2: EC2Client, region: str, kind: Kind, ids: Collection[str]) -> set[str]:
    """Return those of ``ids`` that exist and have not ended, whatever tags they carry. Raises AwsError."""
    name = {
        Kind.INSTANCE: "instance-id",
        Kind.VOLUME: "volume-id",
        Kind.SNAPSHOT: "snapshot-id",
        Kind.IMAGE: "image-id",
        Kind.GROUP: "group-id",
    }[kind]
    found: set[str] = set()
    for chunk in tags.chunks(ids):
        found |= {thing.id for thing in _listed(ec2, region, [{"Name": name, "Values": chunk}], (kind,))}
    return found


def _of_store(store: str) -> list[Any]:
    return [{"Name": f"tag:{tags.STORE}", "Values": [store]}]


def _listed(ec2: EC2Client, region: str, filters: list[Any], kinds: Collection[Kind]) -> Iterator[Owned]:
    for kind in kinds:
        for thing in _LISTS[kind](ec2, region, filters):
            if thing.state not in _ENDED:
                yield thing


def _instances(ec2: EC2Client, region: str, filters: list[Any]) -> Iterator[Owned]:
    with calling("DescribeInstances"):
        found = tags.paged(ec2.describe_instances, "Reservations", Filters=filters, MaxResults=1000)
    for item in (instance for reservation in found for instance in reservation["Instances"]):
        yield Owned(
            kind=Kind.INSTANCE,
            id=item["InstanceId"],
            region=region,
            state=item.get("State", {}).get("Name", "pending"),
            created=_seconds(item.get("LaunchTime")),
            tags=tags.as_dict(item.get("Tags")),
            kind_of=item.get("InstanceType", ""),
        )


def _volumes(ec2: EC2Client, region: str, filters: list[Any]) -> Iterator[Owned]:
    with calling("DescribeVolumes"):
        found = tags.paged(ec2.describe_volumes, "Volumes", Filters=filters, MaxResults=500)
    for item in found:
        holders = (a.get("InstanceId", "") for a in item.get("Attachments", ()) if a.get("State") != "detached")
        yield Owned(
            kind=Kind.VOLUME,
            id=item["VolumeId"],
            region=region,
            state=item.get("State", "creating"),
            created=_seconds(item.get("CreateTime")),
            tags=tags.as_dict(item.get("Tags")),
            size=float(item.get("Size", 0)),
            kind_of=item.get("VolumeType", ""),
            uses=tuple(holders),
        )


def _snapshots(ec2: EC2Client, region: str, filters: list[Any]) -> Iterator[Owned]:
    with calling("DescribeSnapshots"):
        found = tags.paged(ec2.describe_snapshots, "Snapshots", OwnerIds=["self"], Filters=filters, MaxResults=1000)
    for item in found:
        yield Owned(
            kind=Kind.SNAPSHOT,
            id=item["SnapshotId"],
            region=region,
            state=item.get("State", "pending"),
            created=_seconds(item.get("StartTime")),
            tags=tags.as_dict(item.get("Tags")),
            size=float(item.get("VolumeSize", 0)),
            uses=(item["VolumeId"],) if item.get("VolumeId") else (),
        )


def _images(ec2: EC2Client, region: str, filters: list[Any]) -> Iterator[Owned]:
    with calling("DescribeImages"):
        found = tags.paged(
            ec2.describe_images,
            "Images",
            Owners=["self"],
            Filters=filters,
            IncludeDisabled=True,
            IncludeDeprecated=True,
        )
    for item in found:
        mappings = (m.get("Ebs", {}).get("SnapshotId") for m in item.get("BlockDeviceMappings", ()))
        yield Owned(
            kind=Kind.IMAGE,
            id=item["ImageId"],
            region=region,
            state=item.get("State", "pending"),
            created=_seconds(item.get("CreationDate")),
            tags=tags.as_dict(item.get("Tags")),
            uses=tuple(snapshot for snapshot in mappings if snapshot),
        )


def _groups(ec2: EC2Client, region: str, filters: list[Any]) -> Iterator[Owned]:
    with calling("DescribeSecurityGroups"):
        found = tags.paged(ec2.describe_security_groups, "SecurityGroups", Filters=filters, MaxResults=1000)
    for item in found:
        yield Owned(
            kind=Kind.GROUP,
            id=item["GroupId"],
            region=region,
            state="",
            created=None,
            tags=tags.as_dict(item.get("Tags")),
        )


_LISTS: dict[Kind, Callable[[EC2Client, str, list[Any]], Iterator[Owned]]] = {
    Kind.INSTANCE: _instances,
    Kind.VOLUME: _volumes,
    Kind.SNAPSHOT: _snapshots,
    Kind.IMAGE: _images,
    Kind.GROUP: _groups,
}


def _seconds(value: object) -> float | None:
    """Return a time of an answer in seconds since the epoch: boto3 gives datetimes, and text for an AMI's."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    # Text without a zone is UTC.
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def opt_in(ec2: EC2Client) -> dict[str, str]:
    """Return every region of the partition with its status: opt-in-not-required, opted-in, not-opted-in."""
    with calling("DescribeRegions"):
        found = ec2.describe_regions(AllRegions=True)["Regions"]
    return {region["RegionName"]: region.get("OptInStatus", "opt-in-not-required") for region in found}


def dry_run(action: str, call: Callable[[], object]) -> AwsError | None:
    """Make a call that carries DryRun; return None where EC2 would have carried it out, else its refusal.

    Raises LookupError where the endpoint took no notice of DryRun and answered as if it had done it.
    """
    try:
        with calling(action):
            call()
    except AwsError as error:
        return None if error.code == WOULD_SUCCEED else error
    raise LookupError(f"{action}: the endpoint takes no notice of DryRun")


def skew(ec2: EC2Client, now: Callable[[], float]) -> float | None:
    """Return by how many seconds this machine's clock is ahead of AWS's; None where the answer carries no date.

    An answer that refuses the call (because of the very clock) tells the time as well. Raises AwsError.
    """
    before = now()
    try:
        with calling("DescribeRegions"):
            metadata: Any = ec2.describe_regions()["ResponseMetadata"]
    except AwsError as error:
        metadata = getattr(error.__cause__, "response", {}).get("ResponseMetadata", {})
        if not metadata:
            raise
    date = metadata.get("HTTPHeaders", {}).get("date", "")
    try:
        # The header has whole seconds, cut off.
        told = parsedate_to_datetime(date).timestamp() + 0.5
    except ValueError:
        return None
    return (before + now()) / 2 - told


def offerings(ec2: EC2Client, types: Collection[str], zones: Collection[str] = ()) -> dict[str, set[str]]:
    """Return where each of ``types`` is offered: the region, or those of ``zones`` that have it. Raises AwsError."""
    filters: list[Any] = [{"Name": "instance-type", "Values": sorted(types)}]
    if zones:
        filters.append({"Name": "location", "Values": sorted(zones)})
    with calling("DescribeInstanceTypeOfferings"):
        found = tags.paged(
            ec2.describe_instance_type_offerings,
            "InstanceTypeOfferings",
            LocationType="availability-zone" if zones else "region",
            Filters=filters,
        )
    places: dict[str, set[str]] = {each: set() for each in types}
    for item in found:
        places.setdefault(item["InstanceType"], set()).add(item["Location"])
    return places


def architectures(ec2: EC2Client, types: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the architectures that each of ``types`` runs; all must be offered in the region. Raises AwsError."""
    with calling("DescribeInstanceTypes"):
        found = tags.paged(ec2.describe_instance_types, "InstanceTypes", InstanceTypes=sorted(types))
    return {
        item["InstanceType"]: frozenset(item.get("ProcessorInfo", {}).get("SupportedArchitectures", ()))
        for item in found
    }


def subnets(ec2: EC2Client, ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the VPC and the zone of those of ``ids`` that exist. Raises AwsError."""
    with calling("DescribeSubnets"):
        found = ec2.describe_subnets(Filters=[{"Name": "subnet-id", "Values": sorted(ids)}])["Subnets"]
    return {item["SubnetId"]: (item["VpcId"], item["AvailabilityZone"]) for item in found}


def security_groups(ec2: EC2Client, ids: Collection[str]) -> dict[str, str]:
    """Return the VPC of those of ``ids`` that exist. Raises AwsError."""
    with calling("DescribeSecurityGroups"):
        found = ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": sorted(ids)}])["SecurityGroups"]
    return {item["GroupId"]: item.get("VpcId", "") for item in found}


def public_images(ec2: EC2Client) -> int:
    """Return how many of this account's AMIs in a region are public. Raises AwsError."""
    with calling("DescribeImages"):
        found = ec2.describe_images(Owners=["self"], Filters=[{"Name": "is-public", "Values": ["true"]}])["Images"]
    return len(found)


def quotas(region: str) -> dict[str, float]:
    """Return the quotas of a region that publishing may meet, by their names. Raises AwsError."""
    client: Any
    with calling("GetServiceQuota"):
        options = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=10, read_timeout=20)
        client = boto3.session.Session().client("service-quotas", region_name=region, config=options)
        public = client.get_service_quota(ServiceCode="ec2", QuotaCode=PUBLIC_AMIS)["Quota"]
    with calling("ListServiceQuotas"):
        listed = tags.paged(client.list_service_quotas, "Quotas", ServiceCode="ebs", MaxResults=100)
    # What limits snapshots under way has one quota for each type of volume, whose codes nobody writes down.
    found = {item["QuotaName"]: float(item["Value"]) for item in listed if "snapshot" in item["QuotaName"].lower()}
    return {PUBLIC_NAME: float(public["Value"]), **found}
