"""May this build be published? What must be there first, and what the account must allow; nothing is changed here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from ebspub.app.release.look import look
from ebspub.app.release.wanted import Wanted
from ebspub.app.verify import verified
from ebspub.aws import account, sharing
from ebspub.aws.clients import Clients, RegionClients
from ebspub.aws.failures import AwsError, Cause
from ebspub.config import Config
from ebspub.config.publishing import EVERYBODY, Publishing
from ebspub.errors import EbspubError, JobError
from ebspub.states import Status
from ebspub.store import Job

T = TypeVar("T")
log = logging.getLogger(__name__)


class UnverifiedError(JobError):
    """AMIs that are to pass a test boot before they are published have not."""


def missing(plan: Publishing, suite: str, build: str, serial: str, jobs: Sequence[Job]) -> dict[str, list[str]]:
    """Return for each region of the build that is not complete the ids of the jobs that are not registered."""
    done = {job.id for job in jobs if job.status is Status.DONE}
    expected = {
        region: [f"{suite}-{build}-{serial}-{arch}-{region}" for arch in plan.arches] for region in plan.regions
    }
    absent = {region: [job for job in found if job not in done] for region, found in expected.items()}
    return {region: found for region, found in absent.items() if found}


def enough(plan: Publishing, incomplete: Iterable[str]) -> bool:
    """Whether a build may be public though some regions of it are not."""
    lacking = set(incomplete)
    if plan.required is not None:
        return not lacking & set(plan.required)
    if plan.quorum is not None:
        return len(set(plan.regions) - lacking) >= plan.quorum
    return not lacking & set(plan.regions)


def require_complete(plan: Publishing, release: str, absent: Mapping[str, Sequence[str]]) -> None:
    """Raise JobError, naming the jobs, where not all is registered that must be."""
    if enough(plan, absent):
        return
    meant = {region: found for region, found in absent.items() if plan.required is None or region in plan.required}
    jobs = [job for found in meant.values() for job in found]
    if plan.quorum is not None:
        rule = f"{plan.quorum} of its regions must be complete ([publish] quorum)"
    elif plan.required is not None:
        rule = "these regions must be complete ([publish] required)"
    else:
        rule = "all its regions must be complete, unless [publish] says quorum or required"
    raise JobError(
        f"{release}: not registered yet: {', '.join(jobs)}",
        todo=f"`ebspub run` goes on with them, `ebspub status --build {release}` shows why; {rule}.",
    )


def unverified(config: Config, plan: Publishing, jobs: Iterable[Job], public: Collection[str]) -> dict[str, list[Job]]:
    """Return by region the registered jobs whose AMIs wait for a test boot; none where the plan asks for no such.

    ``public``: ids of jobs that others may find already: these are not taken back, so they wait for nothing.
    """
    table, found = config.verify.instance_types, dict[str, list[Job]]()
    for job in jobs if plan.verify else ():
        types = (table.of(job.spec.arch) if table else None) or ()
        if job.status is Status.DONE and job.id not in public and not verified(job, types):
            found.setdefault(job.spec.region, []).append(job)
    return found


def held(waiting: Mapping[str, object], jobs: Iterable[Job], public: Collection[str]) -> frozenset[str]:
    """Return the ids of the ``jobs`` that are left alone until their regions do not wait for test boots any more.

    A region's AMIs are added together; those that are ``public`` (see :func:`unverified`) are repaired all the same.
    """
    return frozenset(job.id for job in jobs if job.spec.region in waiting and job.id not in public)


def untested(release: str, region: str, jobs: Iterable[Job]) -> UnverifiedError:
    """Return why a region is left out."""
    return UnverifiedError(
        f"{region}: not verified: {_amis(jobs)}",
        todo=f"`ebspub verify {release} --missing` boots them, then publish again.",
    )


def require_verified(
    plan: Publishing, release: str, absent: Iterable[str], waiting: Mapping[str, Sequence[Job]]
) -> None:
    """Raise UnverifiedError, naming the AMIs, where too many regions are ``absent`` or ``waiting`` for a test boot."""
    if waiting and not enough(plan, {*absent, *waiting}):
        raise UnverifiedError(
            f"{release}: not verified: {_amis(job for jobs in waiting.values() for job in jobs)}",
            todo=f"`ebspub verify {release} --missing` boots them; nothing was published.",
        )


def _amis(jobs: Iterable[Job]) -> str:
    return ", ".join(f"{job.ami_id} ({job.id})" for job in jobs)


def refusal(
    clients: Clients,
    region: str,
    wanted: Sequence[Wanted],
    encrypted: frozenset[str],
    hidden: frozenset[str] = frozenset(),
) -> EbspubError | None:
    """Return what the account does not allow in a region; None for nothing, or where that cannot be known.

    ``encrypted``: jobs whose snapshots are; ``hidden``: jobs whose AMIs and snapshots EC2 may not show yet: what is
    absent of them is there, and nobody's. A region that does not answer is no refusal: its own work tells that.
    """
    public = [each for each in wanted if EVERYBODY in each.launch]
    if not public:
        return None
    try:
        here = clients.region(region)
        seen, absent = look(here, public)
    except AwsError as error:
        log.info("%s: not looked at before: %s", region, error.what)
        return None
    there = [each for each in public if each.job_id not in absent - hidden]
    fresh = [each for each in there if EVERYBODY not in seen[each.job_id].launch]
    unseen = [each for each in there if EVERYBODY not in seen[each.job_id].volume]
    secret = sorted(each.image for each in public if each.job_id in encrypted)
    if secret:
        return JobError(
            f"{region}: {', '.join(secret)}: the snapshot is encrypted, and nothing encrypted can be public",
            todo="Set public = false, or publish the build unencrypted under another serial.",
        )
    return _blocked(here, bool(fresh), bool(unseen)) or (_over_quota(here, len(fresh)) if fresh else None)


def _blocked(here: RegionClients, images: bool, snapshots: bool) -> EbspubError | None:
    todo = (
        "Somebody decided so for the whole account. `aws ec2 {} --region {}` would allow it again; or set public = "
        "false."
    )
    state = _told(lambda: sharing.images_blocked(here.reader))
    if images and state == "block-new-sharing":
        return JobError(
            f"{here.region}: block public access for AMIs is on ({state}): no AMI can be made public",
            todo=todo.format("disable-image-block-public-access", here.region),
        )
    state = _told(lambda: sharing.snapshots_blocked(here.reader))
    if state == "block-all-sharing" or (snapshots and state == "block-new-sharing"):
        return JobError(
            f"{here.region}: block public access for snapshots is on ({state}): no snapshot can be public",
            todo=todo.format("disable-snapshot-block-public-access", here.region),
        )
    return None


def _over_quota(here: RegionClients, more: int) -> EbspubError | None:
    limit = _told(lambda: account.public_quota(here.region))
    there = _told(lambda: account.public_images(here.reader))
    if limit is None or there is None or there + more <= limit:
        return None
    return JobError(
        f"{here.region}: {there} AMIs are public and {more} would be: the quota is {limit:.0f}",
        todo=f"Raise the quota {account.PUBLIC_AMIS} in Service Quotas, or `ebspub unpublish` an older build.",
    )


def _told(ask: Callable[[], T]) -> T | None:
    """Return an answer; None where there is none: the call that is then refused tells why."""
    try:
        return ask()
    except AwsError as error:
        if error.cause is Cause.CREDENTIALS:
            raise
        log.info("not looked at before: %s", error.what)
        return None
