"""What publishing needs in one region. Every check is a function in a literal registry; a new one is one line there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ebspub.app.doctor import direct, permissions
from ebspub.app.doctor.rows import Level, Row
from ebspub.aws import account, groups, images, parameters, sharing, tags
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import AwsError, Cause
from ebspub.aws.images import Image
from ebspub.spec import JobSpec

#: What a builder's architecture may be by the job's arch: files are copied, not run.
_BUILDERS = {"amd64": {"x86_64"}, "arm64": {"arm64"}, "i386": {"i386", "x86_64"}}
#: What only the doctor asks, and what publishing asks if it may.
_EXTRA = frozenset(
    (
        "DescribeInstanceTypeOfferings",
        "DescribeInstanceTypes",
        "GetImageBlockPublicAccessState",
        "GetSnapshotBlockPublicAccessState",
    )
)
#: Share of a quota from which on it is told.
_NEARLY = 0.8


@dataclass
class Case:
    """One region: the jobs that the configuration describes there, and those of them whose names are known.

    ``store``: the id of the state database, empty where there is none yet.
    """

    clients: RegionClients
    specs: Sequence[JobSpec]
    named: Sequence[JobSpec]
    store: str
    #: Whether the configuration shares anything, or names it in parameters.
    publishes: bool = False
    #: Whether it makes anything everybody's.
    public: bool = False
    _images: dict[str, Image | None] = field(default_factory=dict)

    @property
    def region(self) -> str:
        return self.clients.region

    @property
    def built(self) -> Sequence[JobSpec]:
        """The jobs that need a builder, or may: which of them copy for less is decided when they are planned."""
        return [spec for spec in self.specs if spec.builder.image]

    @property
    def copied(self) -> Sequence[JobSpec]:
        """The jobs that copy a snapshot, or may."""
        return [spec for spec in self.specs if spec.primary is not None]

    @property
    def uploaded(self) -> Sequence[JobSpec]:
        """The jobs that put blocks, or may."""
        return [spec for spec in self.specs if spec.method == "direct" and not _always_copied(spec)]

    def image(self, spec: JobSpec) -> Image | None:
        """Return the builder image of a job, asked for once; None where there is none. Raises AwsError."""
        wanted = spec.builder.image
        if wanted not in self._images:
            found = parameters.image_id(self.clients.ssm, wanted)
            self._images[wanted] = images.get(self.clients.reader, found)
        return self._images[wanted]


def _always_copied(spec: JobSpec) -> bool:
    return spec.fan_out is not None and spec.fan_out.copies and spec.fan_out.when == "always"


def builder_images(case: Case) -> Iterator[Row]:
    """See that every builder image exists, is available and of an architecture that fits."""
    for (name, arch), spec in {(spec.builder.image, spec.arch): spec for spec in case.built}.items():
        yield _builder_image(case, name, arch, spec)


def _builder_image(case: Case, name: str, arch: str, spec: JobSpec) -> Row:
    key = f"builder image {arch}"
    todo = f"Name another one: builder.images.{arch}, in [builder] or [regions.{case.region}.builder]."
    try:
        found = case.image(spec)
    except AwsError as error:
        if error.cause is Cause.OPT_IN:
            raise
        if error.cause is Cause.PERMISSION:
            return Row(case.region, key, Level.RED, error.what, error.todo)
        return Row(case.region, key, Level.RED, f"{name}: {error.what}", todo)
    if found is None:
        return Row(case.region, key, Level.RED, f"{name}: no such AMI, or this account may not see it", todo)
    if found.state != "available":
        return Row(case.region, key, Level.RED, f"{found.id} ({name}) is {found.state}", todo)
    if found.architecture not in _BUILDERS[arch]:
        fitting = " or ".join(sorted(_BUILDERS[arch]))
        return Row(case.region, key, Level.RED, f"{found.id} is {found.architecture}, expected {fitting}", todo)
    return Row(case.region, key, Level.GREEN, f"{found.id} {found.name}")


def instance_types(case: Case) -> Iterator[Row]:
    """See that the instance types are offered where builders are to run, and run the builder image's architecture."""
    alike: dict[object, list[JobSpec]] = {}
    for spec in case.built:
        builder = spec.builder
        alike.setdefault((builder.instance_types, builder.zones, builder.subnets, builder.image), []).append(spec)
    for specs in alike.values():
        builder = specs[0].builder
        there = account.subnets(case.clients.reader, builder.subnets) if builder.subnets else {}
        if builder.subnets and not there:
            continue  # the check of the network tells it
        zones = builder.zones or tuple(zone for _, zone in there.values())
        yield _offered(case, specs, zones, account.offerings(case.clients.reader, builder.instance_types, zones))


def _offered(case: Case, specs: Sequence[JobSpec], zones: Sequence[str], offered: Mapping[str, set[str]]) -> Row:
    spec, types = specs[0], specs[0].builder.instance_types
    key = f"instance types {', '.join(dict.fromkeys(each.arch for each in specs))}"
    where = f"in {', '.join(sorted(set(zones)))}" if zones else "in the region"
    todo = f"Choose others: builder.instance_types.{spec.arch}, in [builder] or [regions.{case.region}.builder]."
    there = [name for name in types if offered.get(name)]
    if not there:
        return Row(case.region, key, Level.RED, f"none of {', '.join(types)} is offered {where}", todo)
    image = case.image(spec)
    runs = account.architectures(case.clients.reader, there)
    if image is not None:
        unfit = [name for name in there if image.architecture not in runs.get(name, {image.architecture})]
        if unfit:
            what = f"{', '.join(unfit)} cannot run {image.id}, which is {image.architecture}"
            return Row(case.region, key, Level.RED, what, todo)
    missing = [name for name in types if name not in there]
    if missing:
        return Row(case.region, key, Level.YELLOW, f"{', '.join(missing)} not offered {where}; others are", todo)
    return Row(case.region, key, Level.GREEN, f"{', '.join(there)} offered {where}")


def places(case: Case) -> Iterator[Row]:
    """See that the subnets and security groups exist and are of one VPC, or that there is a default VPC."""
    if not case.built:
        return
    subnets = {name for spec in case.built for name in spec.builder.subnets}
    wanted = {name for spec in case.built for name in spec.builder.security_groups}
    found = account.subnets(case.clients.reader, subnets) if subnets else {}
    there = account.security_groups(case.clients.reader, wanted) if wanted else {}
    missing = sorted((subnets - found.keys()) | (wanted - there.keys()))
    table = f"[builder] or [regions.{case.region}.builder]"
    if missing:
        todo = f"Name others in {table}."
        yield Row(case.region, "network", Level.RED, f"no such thing: {', '.join(missing)}", todo)
        return
    if not subnets and groups.vpc_of(case.clients.reader, None) is None:
        todo = f"Set builder.subnets under [regions.{case.region}], or make a default VPC."
        yield Row(case.region, "network", Level.RED, "no default VPC, and no subnets are configured", todo)
        return
    networks = {vpc for vpc, _ in found.values()} | set(there.values())
    if len(networks) > 1:
        what = f"subnets and security groups are of several VPCs: {', '.join(sorted(networks))}"
        yield Row(case.region, "network", Level.RED, what, f"Use those of one VPC in {table}.")
        return
    what = ", ".join(sorted(subnets | wanted)) or "default VPC; a temporary security group is made for each builder"
    yield Row(case.region, "network", Level.GREEN, what)


def names(case: Case) -> Iterator[Row]:
    """See that every AMI name is free, or is that of the very build."""
    specs = {spec.registration.name: spec for spec in case.named}
    if not specs:
        return
    found = [image for chunk in tags.chunks(specs) for image in images.named(case.clients.reader, chunk)]
    taken = []
    for image in found:
        spec = specs.get(image.name)
        if spec is None or image.state == "deregistered":
            continue
        same = image.tags.get(tags.JOB) == spec.job_id
        source = spec.source.sha256
        if not same or (source is not None and image.tags.get(tags.SOURCE) != source):
            taken.append(f"{image.name} ({image.id})")
    if taken:
        todo = "Publish under another serial or name, or deregister those AMIs if nobody needs them."
        yield Row(case.region, "AMI names", Level.RED, f"taken by another image: {', '.join(taken)}", todo)
    else:
        yield Row(case.region, "AMI names", Level.GREEN, f"{len(specs)} free or ours")


def quotas(case: Case) -> Iterator[Row]:
    """Say the quotas that publishing may meet. Nothing here is red: whether they suffice depends on what is to come."""
    try:
        known = account.quotas(case.region)
        public = account.public_images(case.clients.reader)
    except AwsError as error:
        todo = "Look at them in Service Quotas."
        if error.cause is Cause.PERMISSION:
            todo = "Grant servicequotas:GetServiceQuota and ListServiceQuotas to see them here."
        yield Row(case.region, "quotas", Level.YELLOW, f"cannot be read: {error.what}", todo)
        return
    limit = known.pop(account.PUBLIC_NAME)
    what = f"public AMIs: {public} of {limit:.0f}"
    if public >= _NEARLY * limit:
        todo = f"Raise the quota {account.PUBLIC_AMIS} in Service Quotas before you publish more."
        yield Row(case.region, "quotas", Level.YELLOW, what, todo)
    else:
        yield Row(case.region, "quotas", Level.GREEN, what)
    others = "; ".join(f"{name}: {value:.0f}" for name, value in sorted(known.items()) if "oncurrent" in name)
    if others:
        yield Row(case.region, "quotas", Level.GREEN, others)


def public_access(case: Case) -> Iterator[Row]:
    """See that the account does not forbid itself what the configuration makes everybody's."""
    if not case.public:
        return
    states = {
        "AMIs": sharing.images_blocked(case.clients.reader),
        "snapshots": sharing.snapshots_blocked(case.clients.reader),
    }
    blocked = [f"{what} ({state})" for what, state in states.items() if state != "unblocked"]
    if blocked:
        todo = "Allow it again for the account (`aws ec2 disable-image-block-public-access`, "
        todo += "`disable-snapshot-block-public-access`), or set public = false in [publish]."
        yield Row(case.region, "public access", Level.RED, f"blocked for {', '.join(blocked)}", todo)
    else:
        yield Row(case.region, "public access", Level.GREEN, "not blocked")


def granted(case: Case) -> Iterator[Row]:
    """See that the credentials may do all that publishing does."""
    if case.uploaded:
        yield direct.check(case.clients)
    actions = {**(permissions.ACTIONS if case.built else {}), **(permissions.COPYING if case.copied else {})}
    if case.publishes:
        actions |= permissions.PUBLISHING
    if not (actions and case.specs):
        return
    spec = (case.built or case.copied or case.specs)[0]
    try:
        image = case.image(spec) if spec.builder.image else None
    except AwsError:
        image = None  # the check of builder images tells it
    yield from permissions.check(case.clients, spec, image.id if image else "", case.store, actions)


#: Every check of a region, in the order of the table.
CHECKS: Mapping[str, Callable[[Case], Iterator[Row]]] = {
    "builder images": builder_images,
    "instance types": instance_types,
    "network": places,
    "AMI names": names,
    "permissions": granted,
    "public access": public_access,
    "quotas": quotas,
}


def check(case: Case) -> list[Row]:
    """Return the rows of all checks of a region; one that EC2 does not answer is a row, and stops no other.

    Only a region that refuses the account as such is asked no more.
    """
    rows: list[Row] = []
    for name, look in CHECKS.items():
        try:
            rows += look(case)
        except AwsError as error:
            if error.cause is Cause.OPT_IN:
                return [*rows, Row(case.region, "region", Level.RED, error.what, error.todo)]
            # What only the doctor asks for is no condition of publishing.
            extra = error.action in _EXTRA
            level = Level.YELLOW if extra and error.cause is Cause.PERMISSION else Level.RED
            rows.append(Row(case.region, name, level, error.what, error.todo or "Try again later."))
    return rows
