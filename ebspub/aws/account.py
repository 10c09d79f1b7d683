"""What is in the account, by a store's tag and whatever job it belongs to; and what the account may and has.

Unlike the nouns' own describe calls these do not start from jobs: the sweep looks for what no job knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ebspub.aws import tags
from ebspub.aws.answers import GarbledAnswerError, listed, paged, said, text
from ebspub.aws.failures import AwsError, calling, preparing
from ebspub.states import Kind

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

#: What EC2 answers to a call with DryRun that it would have carried out.
WOULD_SUCCEED = "DryRunOperation"
#: The code of the quota of public AMIs in a region, and how it is called here.
PUBLIC_AMIS = "L-0E3CBAB9"
PUBLIC_NAME = "Public AMIs"
_ID = re.compile(r"\b(?:i|vol|snap|ami|sg)-[0-9A-Za-z]+", re.ASCII)
_ENDED = frozenset({"terminated", "deregistered", "deleting", "deleted"})


@dataclass(frozen=True, slots=True)
class Owned:
    """A thing that carries the tag of a store.

    ``created``: seconds since the epoch, None for security groups, of which EC2 does not tell. ``size`` in GiB.
    ``kind_of``: the instance type or the volume type. ``uses``: ids of what it is attached to (a volume) or made of
    (an AMI: its snapshots; a snapshot: its volume). ``description``: of a snapshot.
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
    description: str = ""

    @property
    def job(self) -> str:
        """The id of the job whose tag it carries."""
        return self.tags.get(tags.JOB, "")

    @property
    def attempt(self) -> int:
        """The attempt of the job that it was made in; 0 where its tag does not say."""
        told = self.tags.get(tags.ATTEMPT, "")
        return int(told) if told.isascii() and told.isdigit() else 0


@dataclass(frozen=True, slots=True)
class LookUp:
    """What EC2 says of things by their ids; of one that is in neither it says nothing."""

    there: dict[str, Owned] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


def owned(ec2: EC2Client, region: str, store: str, kinds: Collection[Kind] = tuple(Kind)) -> list[Owned]:
    """Return everything of a region that carries the tag of ``store`` and has not ended. Raises AwsError."""
    filters = [{"Name": f"tag:{tags.STORE}", "Values": [store]}]
    found = _listed(ec2, region, filters, kinds, mark=tags.STORE)
    return [thing for thing in found if thing.tags.get(tags.STORE) == store]


def look_up(ec2: EC2Client, region: str, kind: Kind, ids: Collection[str]) -> LookUp:
    """Ask for things by their very ids, whatever tags they carry. Raises AwsError.

    To a filter EC2 answers with what matches, which may be nothing, for whatever reason. To an id it answers with the
    thing or with an error that says so (``InvalidVolume.NotFound``); only that, or a state in which a thing has ended,
    makes it gone.
    """
    found = LookUp()
    waiting = tags.chunks(ids)
    while waiting:
        asked = waiting.pop()
        try:
            _look_up(ec2, region, kind, asked, found)
        except AwsError as error:
            if not error.missing:
                raise
            named = set(_ID.findall(error.message)) & set(asked)
            if len(asked) > 1 and len(named) in (0, len(asked)):
                # Which of them it means it does not say, or it only repeats the question.
                waiting += [[each] for each in asked]
                continue
            found.gone.update(named or asked)
            waiting += tags.chunks(set(asked) - found.gone)
    return found


def _look_up(ec2: EC2Client, region: str, kind: Kind, ids: list[str], found: LookUp) -> None:
    action, look = _LISTS[kind]
    with calling(action):
        things = {thing.id: thing for thing in look(ec2, region, {_IDS[kind]: ids})}
    for name in sorted(things.keys() & set(ids)):
        if things[name].state in _ENDED:
            found.gone.add(name)
        else:
            found.there[name] = things[name]


def _listed(
    ec2: EC2Client, region: str, filters: list[Any], kinds: Collection[Kind], *, mark: str = ""
) -> Iterator[Owned]:
    """Yield what has not ended; ``mark`` is the tag that all of it must show, because it was asked for by it."""
    for kind in kinds:
        action, look = _LISTS[kind]
        with calling(action):
            found = list(look(ec2, region, {"Filters": filters, **_PAGES.get(kind, {})}))
            if any(mark not in thing.tags for thing in found if mark):
                raise GarbledAnswerError(f"what was asked for by its tag {mark} does not show it")
        yield from (thing for thing in found if thing.state not in _ENDED)


def _instances(ec2: EC2Client, region: str, wanted: dict[str, Any]) -> Iterator[Owned]:
    found = paged(ec2.describe_instances, "Reservations", **wanted)
    items = [instance for reservation in found for instance in listed(reservation, "Instances")]
    for item in items:
        yield Owned(
            kind=Kind.INSTANCE,
            id=text(item, "InstanceId"),
            region=region,
            state=said(item, "State", "Name") or "pending",
            created=_seconds(item.get("LaunchTime")),
            tags=tags.as_dict(item.get("Tags")),
            kind_of=said(item, "InstanceType"),
        )


def _volumes(ec2: EC2Client, region: str, wanted: dict[str, Any]) -> Iterator[Owned]:
    found = paged(ec2.describe_volumes, "Volumes", **wanted)
    for item in found:
        holders = (said(a, "InstanceId") for a in item.get("Attachments", ()) if a.get("State") != "detached")
        yield Owned(
            kind=Kind.VOLUME,
            id=text(item, "VolumeId"),
            region=region,
            state=said(item, "State") or "creating",
            created=_seconds(item.get("CreateTime")),
            tags=tags.as_dict(item.get("Tags")),
            size=float(item.get("Size", 0)),
            kind_of=said(item, "VolumeType"),
            uses=tuple(holders),
        )


def _snapshots(ec2: EC2Client, region: str, wanted: dict[str, Any]) -> Iterator[Owned]:
    found = paged(ec2.describe_snapshots, "Snapshots", **wanted)
    for item in found:
        yield Owned(
            kind=Kind.SNAPSHOT,
            id=text(item, "SnapshotId"),
            region=region,
            state=said(item, "State") or "pending",
            created=_seconds(item.get("StartTime")),
            tags=tags.as_dict(item.get("Tags")),
            size=float(item.get("VolumeSize", 0)),
            uses=(said(item, "VolumeId"),) if item.get("VolumeId") else (),
            description=said(item, "Description"),
        )


def _images(ec2: EC2Client, region: str, wanted: dict[str, Any]) -> Iterator[Owned]:
    found = paged(ec2.describe_images, "Images", IncludeDisabled=True, IncludeDeprecated=True, **wanted)
    for item in found:
        mappings = (said(m, "Ebs", "SnapshotId") for m in item.get("BlockDeviceMappings", ()))
        yield Owned(
            kind=Kind.IMAGE,
            id=text(item, "ImageId"),
            region=region,
            state=said(item, "State") or "pending",
            created=_seconds(item.get("CreationDate")),
            tags=tags.as_dict(item.get("Tags")),
            uses=tuple(snapshot for snapshot in mappings if snapshot),
        )


def _groups(ec2: EC2Client, region: str, wanted: dict[str, Any]) -> Iterator[Owned]:
    found = paged(ec2.describe_security_groups, "SecurityGroups", **wanted)
    for item in found:
        yield Owned(
            kind=Kind.GROUP,
            id=text(item, "GroupId"),
            region=region,
            state="",
            created=None,
            tags=tags.as_dict(item.get("Tags")),
        )


_LISTS: dict[Kind, tuple[str, Callable[[EC2Client, str, dict[str, Any]], Iterator[Owned]]]] = {
    Kind.INSTANCE: ("DescribeInstances", _instances),
    Kind.VOLUME: ("DescribeVolumes", _volumes),
    Kind.SNAPSHOT: ("DescribeSnapshots", _snapshots),
    Kind.IMAGE: ("DescribeImages", _images),
    Kind.GROUP: ("DescribeSecurityGroups", _groups),
}

#: What goes with a filter and not with ids: whose things, and (where EC2 takes it) how many a page.
_PAGES: dict[Kind, dict[str, Any]] = {
    Kind.INSTANCE: {"MaxResults": 1000},
    Kind.VOLUME: {"MaxResults": 500},
    Kind.SNAPSHOT: {"MaxResults": 1000, "OwnerIds": ["self"]},
    Kind.IMAGE: {"Owners": ["self"]},
    Kind.GROUP: {"MaxResults": 1000},
}
_IDS = {
    Kind.INSTANCE: "InstanceIds",
    Kind.VOLUME: "VolumeIds",
    Kind.SNAPSHOT: "SnapshotIds",
    Kind.IMAGE: "ImageIds",
    Kind.GROUP: "GroupIds",
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
        found = listed(ec2.describe_regions(AllRegions=True), "Regions")
        return {text(region, "RegionName"): said(region, "OptInStatus") or "opt-in-not-required" for region in found}


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
    except (ValueError, OverflowError):
        return None
    return (before + now()) / 2 - told


def offerings(ec2: EC2Client, types: Collection[str], zones: Collection[str] = ()) -> dict[str, set[str]]:
    """Return where each of ``types`` is offered: the region, or those of ``zones`` that have it. Raises AwsError."""
    filters: list[Any] = [{"Name": "instance-type", "Values": sorted(types)}]
    if zones:
        filters.append({"Name": "location", "Values": sorted(zones)})
    with calling("DescribeInstanceTypeOfferings"):
        found = paged(
            ec2.describe_instance_type_offerings,
            "InstanceTypeOfferings",
            LocationType="availability-zone" if zones else "region",
            Filters=filters,
        )
        places: dict[str, set[str]] = {each: set() for each in types}
        for item in found:
            places.setdefault(text(item, "InstanceType"), set()).add(text(item, "Location"))
    return places


def architectures(ec2: EC2Client, types: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the architectures that each of ``types`` runs; all must be offered in the region. Raises AwsError."""
    with calling("DescribeInstanceTypes"):
        found = paged(ec2.describe_instance_types, "InstanceTypes", InstanceTypes=sorted(types))
        return {
            text(item, "InstanceType"): frozenset(item.get("ProcessorInfo", {}).get("SupportedArchitectures", ()))
            for item in found
        }


def subnets(ec2: EC2Client, ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return the VPC and the zone of those of ``ids`` that exist. Raises AwsError."""
    with calling("DescribeSubnets"):
        found = listed(ec2.describe_subnets(Filters=[{"Name": "subnet-id", "Values": sorted(ids)}]), "Subnets")
        return {text(item, "SubnetId"): (text(item, "VpcId"), text(item, "AvailabilityZone")) for item in found}


def security_groups(ec2: EC2Client, ids: Collection[str]) -> dict[str, str]:
    """Return the VPC of those of ``ids`` that exist. Raises AwsError."""
    with calling("DescribeSecurityGroups"):
        answer = ec2.describe_security_groups(Filters=[{"Name": "group-id", "Values": sorted(ids)}])
        return {text(item, "GroupId"): said(item, "VpcId") for item in listed(answer, "SecurityGroups")}


def public_images(ec2: EC2Client) -> int:
    """Return how many of this account's AMIs in a region are public. Raises AwsError."""
    with calling("DescribeImages"):
        found = ec2.describe_images(Owners=["self"], Filters=[{"Name": "is-public", "Values": ["true"]}])
        return len(listed(found, "Images"))


def quotas(region: str) -> dict[str, float]:
    """Return the quotas of a region that publishing may meet, by their names. Raises AwsError."""
    client = _quota_client(region)
    found = {PUBLIC_NAME: _public_quota(client)}
    with calling("ListServiceQuotas"):
        items = paged(client.list_service_quotas, "Quotas", ServiceCode="ebs", MaxResults=100)
        # What limits snapshots under way has one quota for each type of volume, whose codes nobody writes down.
        some = {text(item, "QuotaName"): float(item["Value"]) for item in items}
    return {**found, **{name: value for name, value in some.items() if "snapshot" in name.lower()}}


def public_quota(region: str) -> float:
    """Return how many AMIs this account may have public in a region. Raises AwsError."""
    return _public_quota(_quota_client(region))


def _quota_client(region: str) -> Any:
    with preparing("creating a client"):
        options = Config(retries={"mode": "standard", "total_max_attempts": 2}, connect_timeout=10, read_timeout=20)
        return boto3.session.Session().client("service-quotas", region_name=region, config=options)


def _public_quota(client: Any) -> float:
    with calling("GetServiceQuota"):
        public = client.get_service_quota(ServiceCode="ec2", QuotaCode=PUBLIC_AMIS).get("Quota", {})
        return float(public["Value"])
