"""Remove what a job no longer needs: in the order that EC2 asks for, one call at a time, until it is seen to be gone.

An instance first (its volume detaches when it is gone), then the volume and the security group, then an AMI before its
snapshot. An intent whose outcome was never recorded is settled on the way: what it made is found by its token's tag
and removed; when nothing has shown up after EC2 can no longer be hiding it, nothing was made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from ebspub.aws import groups, images, instances, snapshots, tags, volumes
from ebspub.aws.clients import RegionClients
from ebspub.aws.instances import Instance
from ebspub.aws.view import Thing
from ebspub.aws.volumes import Volume
from ebspub.engine.effects import settled_at
from ebspub.engine.outcome import Wait
from ebspub.engine.step import World
from ebspub.states import Kind
from ebspub.store import Job, Presence, Resource

_REMOVE: dict[Kind, tuple[str, Callable[[RegionClients, str], None]]] = {
    Kind.INSTANCE: ("TerminateInstances", lambda clients, name: instances.terminate(clients.writer, name)),
    Kind.VOLUME: ("DeleteVolume", lambda clients, name: volumes.delete(clients.writer, name)),
    Kind.GROUP: ("DeleteSecurityGroup", lambda clients, name: groups.delete(clients.writer, name)),
    Kind.IMAGE: ("DeregisterImage", lambda clients, name: images.deregister(clients.writer, name)),
    Kind.SNAPSHOT: ("DeleteSnapshot", lambda clients, name: snapshots.delete(clients.writer, name)),
}
_ORDER = (Kind.INSTANCE, Kind.VOLUME, Kind.GROUP, Kind.IMAGE, Kind.SNAPSHOT)


def remove(job: Job, world: World, resources: Iterable[Resource]) -> Wait | None:
    """Remove ``resources``; None when all are gone, else what is waited for. The view must show their kinds."""
    listed = [r for r in resources if r.presence is not Presence.GONE]
    for kind in _ORDER:
        for resource in (r for r in listed if r.kind is kind):
            wait = _remove_one(job, world, resource)
            if wait is not None:
                return wait
    return None


def remove_strays(job: Job, world: World, kinds: Iterable[Kind]) -> Wait | None:
    """Remove what carries the job's tag and is in no row of it; None when there is nothing.

    A process that stood still for longer than its lease, between its last check and its call, makes such things: by
    then another process has given that intent up.
    """
    known = {r.resource_id for r in job.live()}
    for kind in sorted(kinds, key=_ORDER.index):
        for thing in world.view.of_job(kind, job.id):
            if thing.id in known or _goes_with_its_builder(thing, job):
                continue
            if not _leaving(thing):
                action, call = _REMOVE[kind]
                end = partial(call, world.clients, thing.id)
                world.effects.act(job, action, end, target=thing.id, missing_ok=True)
            return Wait(f"removing {kind} {thing.id}, which an interrupted process made")
    return None


def _leaving(thing: Thing) -> bool:
    """Whether a thing goes by itself: a terminating instance, a volume that is attached to one."""
    if isinstance(thing, Instance):
        return thing.state == "shutting-down"
    return isinstance(thing, Volume) and thing.attachment is not None


def _goes_with_its_builder(thing: Thing, job: Job) -> bool:
    """Whether a volume is a builder's own root, still attached: made and tagged by RunInstances, it goes with it."""
    builders = {r.token for r in job.resources if r.kind is Kind.INSTANCE}
    return isinstance(thing, Volume) and thing.attachment is not None and thing.tags.get(tags.TOKEN) in builders


def _remove_one(job: Job, world: World, resource: Resource) -> Wait | None:
    resource_id = resource.resource_id
    if resource_id is None:
        found = world.view.by_token(resource.kind, resource.token)
        if found is None:
            return _never_made(job, world, resource)
        resource_id = world.effects.adopt(job, resource, found.id)
        return Wait(f"removing {resource.kind} {resource_id}, whose maker was interrupted")
    if resource.kind is Kind.INSTANCE:
        return _terminate(job, world, resource, resource_id)
    if resource.kind is Kind.VOLUME:
        volume = world.view.volume(resource_id)
        if volume is not None and volume.attachment is not None:
            return _detach(job, world, resource_id, volume.attachment)
    action, call = _REMOVE[resource.kind]
    gone = partial(call, world.clients, resource_id)
    old = _old(job, world, resource)
    world.effects.act(job, action, gone, target=resource_id, resource=resource, gone=True, missing_ok=old)
    return Wait(f"removed {resource.kind} {resource_id}")


def _old(job: Job, world: World, resource: Resource) -> bool:
    """Whether EC2 can no longer be hiding a resource: that it shows none means that there is none."""
    return world.view.at > (resource.made_at or 0.0) + job.spec.limits.listing_lag


def _never_made(job: Job, world: World, resource: Resource) -> Wait | None:
    """Nothing carries the intent's token (yet)."""
    if resource.unsettled_since is None:
        world.effects.forget(job, resource, "never made")
        return None
    clear = settled_at(job, resource)
    if world.view.at <= clear:
        return Wait(f"seeing whether a {resource.kind} was made", after=clear - world.view.at)
    world.effects.forget(job, resource, "never made")
    return None


def _terminate(job: Job, world: World, resource: Resource, resource_id: str) -> Wait | None:
    seen = world.view.instance(resource_id)
    lag = job.spec.limits.listing_lag
    if seen is None and _old(job, world, resource):
        world.effects.forget(job, resource, "no longer listed")
        return None
    if seen is not None and seen.state in instances.GONE:
        world.effects.forget(job, resource, seen.reason or "terminated")
        return None
    asked = resource.leaving_at
    if asked is not None and world.view.at < asked + lag:
        return Wait(f"builder {resource_id} is terminating")
    action, call = _REMOVE[Kind.INSTANCE]
    end = partial(call, world.clients, resource_id)
    old = _old(job, world, resource)
    world.effects.act(job, action, end, target=resource_id, resource=resource, leaving=True, missing_ok=old)
    return Wait(f"builder {resource_id} is terminating")


def _detach(job: Job, world: World, volume: str, attachment: tuple[str, str, str]) -> Wait:
    instance, _, state = attachment
    holder = world.view.instance(instance)
    if state in ("detaching", "busy") and holder is not None and holder.state not in instances.GONE:
        return Wait(f"volume {volume} is detaching")
    world.effects.act(job, "DetachVolume", partial(volumes.detach, world.clients.writer, volume), target=volume)
    return Wait(f"volume {volume} is detaching")
