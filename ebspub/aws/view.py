"""What a region looked like at one moment: one describe call per kind of resource for all jobs at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebspub.aws import groups, images, instances, snapshots, tags, volumes
from ebspub.aws.groups import Group
from ebspub.aws.images import Image
from ebspub.aws.instances import Instance
from ebspub.aws.snapshots import Snapshot
from ebspub.aws.volumes import Volume
from ebspub.states import Kind

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

Thing = Instance | Volume | Snapshot | Image | Group


@dataclass(frozen=True)
class RegionView:
    """The things of some jobs, by kind and id. ``at`` is the time just before the first question was asked.

    Only the kinds in ``asked`` were looked for, and the things of ``jobs``: of the others the view knows nothing.
    """

    at: float
    asked: frozenset[Kind]
    #: The id of the database whose things these are; AMIs of a name are anybody's.
    store: str = ""
    things: Mapping[Kind, Mapping[str, Thing]] = field(default_factory=dict)
    jobs: frozenset[str] = frozenset()

    def instance(self, name: str | None) -> Instance | None:
        """Return a builder by id."""
        found = self._get(Kind.INSTANCE, name)
        return found if isinstance(found, Instance) else None

    def volume(self, name: str | None) -> Volume | None:
        """Return a volume by id."""
        found = self._get(Kind.VOLUME, name)
        return found if isinstance(found, Volume) else None

    def snapshot(self, name: str | None) -> Snapshot | None:
        """Return a snapshot by id."""
        found = self._get(Kind.SNAPSHOT, name)
        return found if isinstance(found, Snapshot) else None

    def image(self, name: str | None) -> Image | None:
        """Return an AMI by id."""
        found = self._get(Kind.IMAGE, name)
        return found if isinstance(found, Image) else None

    def group(self, name: str | None) -> Group | None:
        """Return a security group by id."""
        found = self._get(Kind.GROUP, name)
        return found if isinstance(found, Group) else None

    def images_named(self, name: str) -> list[Image]:
        """Return the AMIs of a name that are, or may become, of use."""
        self._look(Kind.IMAGE)
        found = self.things.get(Kind.IMAGE, {}).values()
        return [i for i in found if isinstance(i, Image) and i.name == name and i.state != "deregistered"]

    def by_token(self, kind: Kind, token: str) -> Thing | None:
        """Return the thing that an intent made."""
        self._look(kind)
        for thing in self.things.get(kind, {}).values():
            if thing.tags.get(tags.TOKEN) == token and not _leaving(thing):
                return thing
        return None

    def of_job(self, kind: Kind, job: str) -> list[Thing]:
        """Return everything of a kind that carries a job's tag and is still there."""
        self._look(kind)
        found = self.things.get(kind, {}).values()
        return [
            thing
            for thing in found
            if thing.tags.get(tags.JOB) == job and thing.tags.get(tags.STORE) == self.store and not _leaving(thing)
        ]

    def _get(self, kind: Kind, name: str | None) -> Thing | None:
        self._look(kind)
        return None if name is None else self.things.get(kind, {}).get(name)

    def _look(self, kind: Kind) -> None:
        if kind not in self.asked:
            raise LookupError(f"the view was not asked for {kind}")


def _leaving(thing: Thing) -> bool:
    return isinstance(thing, Instance | Image) and thing.state in ("terminated", "deregistered")


_DESCRIBE: dict[Kind, Callable[[EC2Client, str, Sequence[str]], Sequence[Any]]] = {
    Kind.INSTANCE: instances.describe,
    Kind.VOLUME: volumes.describe,
    Kind.SNAPSHOT: snapshots.describe,
    Kind.GROUP: groups.describe,
}


def look(
    ec2: EC2Client, *, store: str, jobs: Collection[str], names: Collection[str], kinds: Collection[Kind], at: float
) -> RegionView:
    """Ask a region for the things of ``jobs`` and the AMIs called ``names``, of the given kinds only.

    Raises AwsError; a view is whole or not at all. The calls go out in one order always: of a set's own order, which
    differs from process to process, neither a simulated history nor a recorded run could be played again.
    """
    things: dict[Kind, dict[str, Thing]] = {}
    for kind in (each for each in Kind if each in kinds):
        found: list[Thing] = []
        if kind is Kind.IMAGE:
            for chunk in tags.chunks(names):
                found.extend(images.named(ec2, chunk))
        else:
            for chunk in tags.chunks(jobs):
                found.extend(_DESCRIBE[kind](ec2, store, chunk))
        things[kind] = {thing.id: thing for thing in found}
    return RegionView(at=at, asked=frozenset(kinds), store=store, things=things, jobs=frozenset(jobs))
