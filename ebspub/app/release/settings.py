"""What the configuration wants of each job of a release, and what the store says of all others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from ebspub.app.release import wanted
from ebspub.app.release.wanted import Others, Wanted
from ebspub.config import Config
from ebspub.config.publishing import Publishing, find, names, publishing, sharing, unshared
from ebspub.errors import UsageError
from ebspub.states import Status
from ebspub.store import EffectStatus, Job, jobs, releases
from ebspub.store.releases import Release
from ebspub.store.tables import ReleaseState

#: Paths and tags that a job was given.
Written = tuple[set[str], set[str]]


@dataclass(frozen=True)
class Context:
    """All that the store knows for one release: its registered jobs, what they were given, and the other builds."""

    release: Release
    jobs: tuple[Job, ...]
    written: dict[str, Written]
    others: Others

    def only(self, ids: Collection[str]) -> Context:
        """Return what is known of the jobs ``ids`` alone."""
        return replace(self, jobs=tuple(job for job in self.jobs if job.id in ids))

    def labelled(self, label: str) -> Context:
        """Return the same with the jobs' ``label``: what they become."""
        return replace(self, jobs=tuple(replace(job, label=label) for job in self.jobs))

    def without(self, ids: Collection[str]) -> Context:
        """Return what is known of all jobs but ``ids``."""
        return replace(self, jobs=tuple(job for job in self.jobs if job.id not in ids))


def plan_of(config: Config, release: Release, label: str) -> Publishing:
    """Return how a release is published. Raises UsageError for a build that is not in the file."""
    index = find(config, release.suite, release.build, label)
    if index is None:
        raise UsageError(
            f"{config.origin} has no build {release.suite} {release.build}: it does not say whom to share it with",
            todo="Add a [[builds]] table, or name another configuration with --config.",
        )
    return publishing(config, index)


def context(conn: sa.Connection, config: Config, release: Release, regions: Sequence[str] | None = None) -> Context:
    """Read what is to be known of a release; ``regions``: only there."""
    mine = [j for j in releases.jobs_of(conn, release.suite, release.build, release.serial) if j.status is Status.DONE]
    if regions is not None:
        mine = [job for job in mine if job.spec.region in regions]
    return Context(release, tuple(mine), _written(conn, mine), others(conn, config, release.id, regions or ()))


def others(conn: sa.Connection, config: Config, release_id: str, regions: Sequence[str] = ()) -> Others:
    """Read what is to be known of the builds beside one; ``regions``: only there."""
    usable = [each.job_id for each in releases.usable(conn) if each.release_id != release_id]
    found = jobs.find(conn, ids=usable, regions=regions) if usable else []
    index = {job.id: find(config, job.spec.suite, job.spec.build, job.label) for job in found}
    written = _written(conn, [job for job in found if index[job.id] is None])

    def held(job: Job) -> Collection[str]:
        mine = index[job.id]
        if mine is None:
            return written[job.id][0]
        return names(sharing(config, mine, job.spec.region), job.spec, job.label)

    return Others(tuple(found), held)


def public_as(conn: sa.Connection, release: Release, label: str) -> frozenset[str] | None:
    """Return the jobs of a release that is public as ``label`` that others may find.

    None where it is not: not public, or as something else still, which a promotion that was not ended leaves in part.
    """
    if release.state is not ReleaseState.PUBLISHED:
        return None
    listed = frozenset(each.job_id for each in releases.announced(conn) if each.release_id == release.id)
    labels = {job.label for job in jobs.find(conn, ids=sorted(listed))} if listed else set()
    return listed if labels <= {label} else None


def publish_all(
    config: Config, plan: Publishing, found: Context, label: str, gone: Collection[str] = ()
) -> dict[str, list[Wanted]]:
    """Return what is wanted of the jobs of a release that is public, by region.

    ``gone``: jobs whose AMIs do not exist: what is left of them is taken back.
    """

    def one(job: Job) -> Wanted:
        if job.id in gone:
            return wanted.withdraw(job, found.written[job.id], found.others)
        mine = sharing(config, plan.index, job.spec.region)
        return wanted.publish(job, mine, label, found.written[job.id], found.others)

    return _by_region(one(job) for job in found.jobs)


def warnings(config: Config, plan: Publishing, found: Context) -> list[str]:
    """Return what is probably not meant, a sentence each: AMIs that are to be found and that nobody may launch."""
    closed = [job for job in found.jobs if unshared(config, plan.index, job.spec.region)]
    if not closed:
        return []
    accounts = sorted({job.account for job in closed if job.account is not None})
    whose = f"account {', '.join(accounts)}" if accounts else "their own account"
    regions = sorted({job.spec.region for job in closed})
    where = "" if len(closed) == len(found.jobs) else f" in {', '.join(regions)}"
    lacking = "[publish] says none of public, accounts, organizations and organizational_units"
    meant = "write public = false there if that is meant"
    return [f"{found.release.id}: nobody but {whose} may launch its AMIs{where}: {lacking}; {meant}"]


def withdraw_all(found: Context) -> dict[str, list[Wanted]]:
    """Return what is wanted of the jobs of a release that is taken back, by region."""
    return _by_region(wanted.withdraw(job, found.written[job.id], found.others) for job in found.jobs)


def _by_region(found: Iterable[Wanted]) -> dict[str, list[Wanted]]:
    regions: dict[str, list[Wanted]] = {}
    for each in found:
        regions.setdefault(each.region, []).append(each)
    return regions


def _written(conn: sa.Connection, known: Sequence[Job]) -> dict[str, Written]:
    """Return the paths and tags that jobs were given and that were not taken away again, by every call on record.

    A call whose answer was lost may have been made: it counts as one that was.
    """
    images = {job.id: job.ami_id for job in known}
    found: dict[str, Written] = {job.id: (set(), set()) for job in known}
    for change in releases.changes_of(conn, images) if images else ():
        if change.status is EffectStatus.FAILED:
            continue
        paths, tags = found[change.job_id]
        if change.action == "PutParameter" and change.request["value"] == images[change.job_id]:
            paths.add(change.target)
        elif change.action in ("PutParameter", "DeleteParameter") and change.status is EffectStatus.DONE:
            paths.discard(change.target)
        elif change.action == "CreateTags":
            tags.update(change.request["tags"])
    return found
