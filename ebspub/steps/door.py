"""The temporary security group that lets the publisher, and nobody else, reach the SSH of what it launches."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

from ebspub.aws import groups
from ebspub.aws.failures import AwsError
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Wait
from ebspub.engine.step import World
from ebspub.errors import JobError
from ebspub.states import Kind
from ebspub.store import Job, Resource


@dataclass(frozen=True)
class Door:
    """What a group is to be. ``salt`` tells its name from those of the same job's other groups.

    It lies in the VPC of ``subnet``, or in the region's default VPC, and admits TCP ``port`` from ``cidr``.
    """

    purpose: str
    salt: str
    description: str
    subnet: str | None
    port: int
    cidr: str


def ensure(job: Job, world: World, row: Resource | None, door: Door) -> str | Wait:
    """Return the id of the group once it admits the publisher, or what is waited for; ``row`` is its record so far.

    Raises JobError where there is no VPC for it, and AwsError.
    """
    if row is None or row.resource_id is None:
        request = row.request if row is not None else _request(job, world, door)
        purpose = row.purpose if row is not None else door.purpose
        create = partial(_create, world)
        making = Making(Kind.GROUP, purpose, "CreateSecurityGroup", request, create, token_honoured=False)
        made = world.effects.make(job, world.view, making)
        return made if isinstance(made, Wait) else Wait(f"security group {made} made")
    seen = world.view.group(row.resource_id)
    if seen is None or door.port not in seen.open_ports:
        admit = partial(_admit, world, row.resource_id, door)
        world.effects.act(job, "AuthorizeSecurityGroupIngress", admit, target=row.resource_id)
    return row.resource_id


def _request(job: Job, world: World, door: Door) -> dict[str, Any]:
    vpc = groups.vpc_of(world.clients.reader, door.subnet)
    if vpc is None:
        raise JobError(
            f"{job.id}: {job.spec.region} has no default VPC and no subnet is configured",
            todo=f"Set builder.subnets under [regions.{job.spec.region}], then begin again.",
        )
    unique = hashlib.sha256(f"{job.id}\0{door.salt}\0{world.effects.store_id}".encode()).hexdigest()[:10]
    return {"name": f"ebspub-{unique}", "vpc": vpc, "description": door.description[:255]}


def _create(world: World, request: Any, _token: str, marks: dict[str, str]) -> str:
    return groups.create(world.clients.writer, request, tags=marks)


def _admit(world: World, group: str, door: Door) -> None:
    try:
        groups.admit(world.clients.writer, group, port=door.port, cidr=door.cidr)
    except AwsError as error:
        if error.code != "InvalidPermission.Duplicate":
            raise
