"""What is wanted of a published build, what EC2 shows of it, and the calls that make the one the other. Pure.

Every call is what it would be if the ones before it had never been made by somebody else: it may be made twice, and a
process that dies between two of them is repaired by looking again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from ebspub.aws import tags
from ebspub.aws.parameters import IMAGE, Parameter
from ebspub.config import templates
from ebspub.config.publishing import Sharing, names, values
from ebspub.spec import JobSpec
from ebspub.store import Job

#: Names of the AMI of a job that stay with it, or that go on to the next build (True).
Names = Mapping[str, bool]
NOBODY: frozenset[str] = frozenset()


class Phase(IntEnum):
    """The order of calls: usable before it is found, and found no more before it is taken back."""

    TAG = 0
    OPEN_SNAPSHOT = 1
    OPEN_IMAGE = 2
    NAME = 3
    MOVE_NAME = 4
    UNNAME = 5
    CLOSE_IMAGE = 6
    CLOSE_SNAPSHOT = 7


@dataclass(frozen=True, slots=True)
class Change:
    """One call that is to be made. ``what``: in words, for people."""

    phase: Phase
    job_id: str
    region: str
    action: str
    target: str
    request: Mapping[str, Any]
    what: str

    @property
    def opens(self) -> bool:
        """Whether it makes more public, so that it must not follow what failed."""
        return self.phase <= Phase.MOVE_NAME

    @property
    def moves(self) -> bool:
        """Whether its path may be that of several builds: whose it is must be decided at the last moment."""
        return self.phase in (Phase.MOVE_NAME, Phase.UNNAME)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of the AMI of one job.

    ``parameters``: paths that hold it; ``moving``: of these, those that go on to the next build. ``left``: paths that
    it was written to and that are not wanted any more, with the AMI that takes its place, None for nothing. ``untag``:
    tags that it was given and that are not wanted any more.
    """

    job_id: str
    region: str
    image: str
    snapshot: str
    launch: frozenset[str] = NOBODY
    volume: frozenset[str] = NOBODY
    tags: Mapping[str, str] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    moving: frozenset[str] = NOBODY
    left: Mapping[str, str | None] = field(default_factory=dict)
    untag: frozenset[str] = NOBODY

    @property
    def withdrawn(self) -> bool:
        """Whether it is to be public no more."""
        return not self.tags

    @property
    def names(self) -> frozenset[str]:
        """Every path that must be looked at."""
        return frozenset((*self.parameters, *self.left))

    @property
    def shared(self) -> frozenset[str]:
        """Those paths among them that other builds may hold as well."""
        return frozenset((*self.moving, *self.left))


@dataclass(frozen=True, slots=True)
class Seen:
    """What EC2 and Parameter Store show of the AMI of one job. Absent parameters are absent."""

    launch: frozenset[str]
    volume: frozenset[str]
    image_tags: Mapping[str, str]
    snapshot_tags: Mapping[str, str]
    parameters: Mapping[str, Parameter]


def serial_key(serial: str) -> tuple[int, ...]:
    """Return what orders serials: 20101020 < 20101020.2 < 20101020.10."""
    return tuple(int(part) for part in serial.split("."))


def newest(jobs: Iterable[Job]) -> Job | None:
    """Return the job of the newest build."""
    return max(jobs, key=lambda job: (serial_key(job.spec.serial), job.id), default=None)


@dataclass(frozen=True)
class Others:
    """The jobs that others can use at present, of all other builds, and the paths that each of them holds or held."""

    jobs: Sequence[Job] = ()
    names: Callable[[Job], Iterable[str]] = lambda _job: ()

    def holding(self, path: str, spec: JobSpec) -> Iterator[Job]:
        """Yield those of the same region that are to be found under ``path``, but for the job of ``spec`` itself."""
        for job in self.jobs:
            if job.spec.region == spec.region and job.id != spec.job_id and path in self.names(job):
                yield job


def publish(job: Job, sharing: Sharing, label: str, written: tuple[set[str], set[str]], others: Others) -> Wanted:
    """Return what is wanted of a registered job that is public. ``written``: paths and tags that it was given before.

    A path that goes from build to build is another one's as soon as a newer build is published: repairing an older one
    does not take it back.
    """
    told = values(job.spec, label)
    found = names(sharing, job.spec, label)
    mine = [path for path, moving in found.items() if not (moving and _is_newer(path, job, others))]
    wanted_tags = {**job.spec.tags, **{key: templates.expand(text, told) for key, text in sharing.tags}}
    wanted_tags[tags.LABEL] = label
    return Wanted(
        **_of(job),
        launch=sharing.launch,
        volume=sharing.volume,
        tags=wanted_tags,
        parameters=tuple(mine),
        moving=frozenset(path for path in mine if found[path]),
        left=_left(job, written[0] - set(found), others),
        untag=frozenset(written[1] - wanted_tags.keys()),
    )


def withdraw(job: Job, written: tuple[set[str], set[str]], others: Others) -> Wanted:
    """Return what is wanted of a job that is to be public no more: nobody may use it, nothing names it."""
    return Wanted(**_of(job), left=_left(job, written[0], others))


def _of(job: Job) -> dict[str, Any]:
    return {"job_id": job.id, "region": job.spec.region, "image": job.ami_id, "snapshot": job.snapshot_id}


def _is_newer(path: str, job: Job, others: Others) -> bool:
    mine = serial_key(job.spec.serial)
    return any(serial_key(other.spec.serial) > mine for other in others.holding(path, job.spec))


def _left(job: Job, paths: Iterable[str], others: Others) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for path in sorted(paths):
        heir = newest(others.holding(path, job.spec))
        found[path] = heir.ami_id if heir is not None else None
    return found


def decided(change: Change, job: Job, others: Others) -> Change | None:
    """Return the call that is to be made instead of one that moves a path of ``job``, if any, as ``others`` are now.

    The path goes to the newest build that can be used, whatever it was when it was looked at.
    """
    heir = newest(others.holding(change.target, job.spec))
    if change.phase is Phase.MOVE_NAME:
        return None if _is_newer(change.target, job, others) else change
    if heir is None:
        return replace(change, action="DeleteParameter", request={}, what=f"held {job.ami_id}")
    told = {"value": str(heir.ami_id)}
    return replace(change, job_id=heir.id, action="PutParameter", request=told, what=f"holds {heir.ami_id} again")


def changes(wanted: Sequence[Wanted], seen: Mapping[str, Seen]) -> list[Change]:
    """Return the calls that are missing for one region, in order; none where all is as wanted."""
    found = [change for each in wanted for change in _changes(each, seen[each.job_id])]
    return sorted(found, key=lambda change: change.phase)


def _changes(wanted: Wanted, seen: Seen) -> Iterator[Change]:
    def change(phase: Phase, action: str, target: str, request: Mapping[str, Any], what: str) -> Change:
        return Change(phase, wanted.job_id, wanted.region, action, target, request, what)

    for target, there in ((wanted.snapshot, seen.snapshot_tags), (wanted.image, seen.image_tags)):
        fresh = {key: value for key, value in wanted.tags.items() if there.get(key) != value}
        if fresh:
            yield change(Phase.TAG, "CreateTags", target, {"tags": fresh}, f"tags {_list(fresh)}")
        stale = sorted(wanted.untag & there.keys())
        if stale:
            yield change(Phase.TAG, "DeleteTags", target, {"keys": stale}, f"without tags {_list(stale)}")
    yield from _permissions(wanted, seen, change)
    for path in wanted.parameters:
        if seen.parameters.get(path) != Parameter(wanted.image, IMAGE):
            phase = Phase.MOVE_NAME if path in wanted.moving else Phase.NAME
            yield change(phase, "PutParameter", path, {"value": wanted.image}, f"holds {wanted.image}")
    for path, heir in wanted.left.items():
        held = seen.parameters.get(path)
        if held is None or held.value != wanted.image:
            continue  # somebody else's by now
        if heir is None:
            yield change(Phase.UNNAME, "DeleteParameter", path, {}, f"held {wanted.image}")
        else:
            yield change(Phase.UNNAME, "PutParameter", path, {"value": heir}, f"holds {heir} again")


def _permissions(wanted: Wanted, seen: Seen, change: Callable[..., Change]) -> Iterator[Change]:
    for opening, closing, action, target, mine, theirs, what in (
        (
            Phase.OPEN_SNAPSHOT,
            Phase.CLOSE_SNAPSHOT,
            "ModifySnapshotAttribute",
            wanted.snapshot,
            wanted.volume,
            seen.volume,
            "volumes",
        ),
        (
            Phase.OPEN_IMAGE,
            Phase.CLOSE_IMAGE,
            "ModifyImageAttribute",
            wanted.image,
            wanted.launch,
            seen.launch,
            "launch",
        ),
    ):
        more, less = sorted(mine - theirs), sorted(theirs - mine)
        if more:
            yield change(opening, action, target, {"add": more}, f"{what} for {_list(more)}")
        if less:
            yield change(closing, action, target, {"remove": less}, f"no {what} for {_list(less)}")


def _list(names: Iterable[str]) -> str:
    return ", ".join("everybody" if each == "all" else each for each in names)
