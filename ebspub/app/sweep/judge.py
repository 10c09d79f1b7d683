"""Does anybody need this thing? Rules only: no clock, no network, no database.

What is asked about carries this database's tag. Its job tells whether it is needed; where the job is not in this
database, or is younger there than the thing (a database restored from a backup), nobody can tell. Then what only costs
money goes, and what somebody may have published (AMIs, snapshots) is reported and never removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ebspub.aws import tags
from ebspub.aws.account import Owned
from ebspub.states import Kind, Status
from ebspub.store import Job, Presence, Resource

#: In this order things are judged and removed: each may hang on an earlier one.
ORDER = (Kind.INSTANCE, Kind.VOLUME, Kind.GROUP, Kind.IMAGE, Kind.SNAPSHOT)
_PUBLISHED = frozenset({Kind.IMAGE, Kind.SNAPSHOT})


class Fate(StrEnum):
    """What is to become of a thing."""

    KEEP = "keep"  #: needed
    REMOVE = "remove"
    GOING = "going"  #: on its way out already
    YOUNG = "young"  #: not needed, but younger than the grace time
    REPORT = "report"  #: nobody can tell: a person must look


@dataclass(frozen=True, slots=True)
class Verdict:
    """A fate and its reason, in words that follow the thing's id."""

    fate: Fate
    reason: str


@dataclass(frozen=True, slots=True)
class Around:
    """What a thing is judged by besides its job.

    ``grace``: seconds. ``fates``: of the things of the region that were judged before. ``makers``: ids of AMIs by the
    snapshots that they need. ``newest``: when the youngest thing of each job was made.
    """

    now: float
    grace: float
    fates: Mapping[str, Fate]
    makers: Mapping[str, str]
    newest: Mapping[str, float]


def row_of(thing: Owned, job: Job) -> Resource | None:
    """Return the row that made a thing: by its id, or by its token where the answer to the call was lost.

    A row of another id does not count, whatever the token: copying an AMI can copy its tags.
    """
    for row in job.resources:
        if row.kind is thing.kind and row.resource_id == thing.id:
            return row
    token = thing.tags.get(tags.TOKEN)
    return next(
        (row for row in job.resources if row.kind is thing.kind and row.token == token and row.resource_id is None),
        None,
    )


def judge(thing: Owned, job: Job | None, around: Around) -> Verdict:
    """Return what is to become of ``thing``; ``job`` is the one whose tag it carries, None where there is none."""
    if thing.state == "shutting-down":
        return Verdict(Fate.GOING, "is terminating")
    why = _needed(thing, job, around.now) if job is not None else ""
    if why:
        return Verdict(Fate.KEEP, why)
    held = _held(thing, job, around)
    if held is not None:
        return held
    unknown = _unknown(thing, job)
    if unknown and thing.kind in _PUBLISHED:
        return Verdict(Fate.REPORT, f"{unknown}; it may be published, so a person must look")
    return _aged(thing, job, around, unknown or _unneeded(thing, job))


def being_verified(job: Job, now: float) -> bool:
    """Whether somebody boots the job's AMI, for as long as the lease lasts that a living process renews."""
    return job.verification is not None and job.verification.until > now


def _needed(thing: Owned, job: Job, now: float) -> str:
    """Return why a job needs a thing; empty where it does not."""
    if job.lease is not None:
        return "its job is driven, or was interrupted: `ebspub resume` removes what is left of it"
    if being_verified(job, now) and thing.kind not in _PUBLISHED:
        return "its job's AMI is being booted for a test"
    row = row_of(thing, job)
    if row is not None and row.id in job.lent:
        return "other jobs share this builder"
    if job.ended:
        published = job.status is Status.DONE and thing.id in (job.ami_id, job.snapshot_id)
        return "published" if published else ""
    live = row is not None and row.presence is not Presence.GONE
    left = {behind.id for behind in job.left_behind}
    if row is not None and live and row.attempt == job.attempt and row.id not in left:
        return "its job goes on with it"
    if thing.kind is Kind.IMAGE and not live and thing.region == job.spec.region:
        return "its job adopts it, if it is this very build"
    return ""


def _held(thing: Owned, job: Job | None, around: Around) -> Verdict | None:
    """Return the verdict on what hangs on something that stays: a builder's volume, an AMI's snapshot."""
    if thing.kind is Kind.SNAPSHOT and thing.id in around.makers:
        image = around.makers[thing.id]
        if around.fates.get(image) is not Fate.REMOVE:
            return Verdict(Fate.KEEP, f"AMI {image} needs it")
    if thing.kind is not Kind.VOLUME or not thing.uses:
        return None
    holder = thing.uses[0]
    fate = around.fates.get(holder)
    if fate in (Fate.REMOVE, Fate.GOING):
        return None
    if fate is None:
        return Verdict(Fate.REPORT, f"is attached to {holder}, which is not of this database")
    token = thing.tags.get(tags.TOKEN)
    roots = job is not None and any(r.token == token for r in job.resources if r.kind is Kind.INSTANCE)
    if roots or fate is Fate.YOUNG:
        return Verdict(fate, f"belongs to builder {holder}")
    return Verdict(Fate.REPORT, f"is attached to builder {holder}, which stays")


def _unknown(thing: Owned, job: Job | None) -> str:
    """Return why this database cannot tell what a thing is; empty where it can."""
    if job is None:
        return f"its job {thing.job or '(no tag)'} is not in this database"
    if thing.region != job.spec.region:
        return f"its job is of {job.spec.region}"
    if thing.attempt > job.attempt:
        return f"is of attempt {thing.attempt}; this database knows {job.attempt} of its job"
    ours = _taken_of_ours(thing, job) or _copied_by_us(thing, job)
    if thing.kind in _PUBLISHED and row_of(thing, job) is None and not ours:
        return "its job did not make it (a copy with the tags of the original?)"
    return ""


def _taken_of_ours(thing: Owned, job: Job) -> bool:
    """Whether a snapshot is of a volume that the job made: then the job made it, with the answer lost twice."""
    volumes = {r.resource_id for r in job.resources if r.kind is Kind.VOLUME}
    return thing.kind is Kind.SNAPSHOT and any(volume in volumes for volume in thing.uses)


def _copied_by_us(thing: Owned, job: Job) -> bool:
    """Whether a snapshot is a copy that the job made once too often: the call went out when its intent was given up.

    CopySnapshot takes no client token, so a process that stood still within it makes another copy, whatever has become
    of its job meanwhile. It has the intent's token and description; a copy by hand has a description of its own.
    """
    token = thing.tags.get(tags.TOKEN)
    intents = (r for r in job.resources if r.kind is Kind.SNAPSHOT and r.token == token and "region" in r.request)
    return thing.kind is Kind.SNAPSHOT and any(r.request["description"] == thing.description for r in intents)


def _unneeded(thing: Owned, job: Job | None) -> str:
    assert job is not None
    if job.status is Status.DONE:
        return "its job is registered and needs no more than its AMI and snapshot"
    if job.ended:
        return "its job was cancelled"
    row = row_of(thing, job)
    if row is None:
        return "no row of its job knows it"
    if any(row.id == behind.id for behind in job.left_behind):
        return "everybody who shared it has left"
    if row.attempt == job.attempt:
        return "its job gave it up"
    return f"was left by attempt {row.attempt}; its job is at attempt {job.attempt}"


def _aged(thing: Owned, job: Job | None, around: Around, reason: str) -> Verdict:
    row = row_of(thing, job) if job is not None else None
    made = thing.created
    if thing.kind is Kind.GROUP:
        # EC2 does not tell when a group was made. Without a row, what else there is of its job tells.
        made = (row.made_at or row.intended_at) if row is not None else around.newest.get(thing.job, 0.0)
    if made is None:
        return Verdict(Fate.YOUNG, f"{reason}; its age is unknown")
    age = around.now - made
    if age < around.grace:
        return Verdict(Fate.YOUNG, f"{reason}; {max(0, int(age))} s old, left for {around.grace:.0f} s")
    return Verdict(Fate.REMOVE, reason)


def judge_all(
    things: Iterable[Owned], jobs: Mapping[str, Job], *, now: float, grace: float
) -> tuple[list[tuple[Owned, Verdict]], Around]:
    """Judge all things of one region, in :data:`ORDER`; return the verdicts and what they were judged by."""
    listed = sorted(things, key=lambda thing: (ORDER.index(thing.kind), thing.job, thing.id))
    newest: dict[str, float] = {}
    for thing in listed:
        newest[thing.job] = max(newest.get(thing.job, 0.0), thing.created or 0.0)
    makers = {used: thing.id for thing in listed if thing.kind is Kind.IMAGE for used in thing.uses}
    fates: dict[str, Fate] = {}
    around = Around(now, grace, fates, makers, newest)
    verdicts = []
    for thing in listed:
        verdict = judge(thing, jobs.get(thing.job), around)
        fates[thing.id] = verdict.fate
        verdicts.append((thing, verdict))
    return verdicts, around
