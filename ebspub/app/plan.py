"""What `run` would do with each job of the configured builds, and why. Looks only; touches nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

from ebspub.app import accounts
from ebspub.aws import images, tags
from ebspub.aws.clients import Clients
from ebspub.aws.failures import AwsError, Cause
from ebspub.aws.images import Image
from ebspub.spec import JobSpec
from ebspub.states import Status
from ebspub.store import Job, Store, jobs, leases

#: What EC2 says to bad credentials, and to good ones in a region that is not enabled.
_REFUSED = frozenset({Cause.CREDENTIALS, Cause.OPT_IN})


class Action(StrEnum):
    """What `run` does with a job."""

    PUBLISH = "publish"  #: nothing of it is there yet
    RESUME = "resume"  #: go on after the last completed step
    ADOPT = "adopt"  #: this very build is registered already: record it
    SKIP = "skip"  #: registered, or cancelled by somebody
    BUSY = "busy"  #: another living process drives it
    REFUSE = "refuse"  #: its AMI name belongs to another image, or its method cannot publish what the artefact is
    UNKNOWN = "unknown"  #: the region did not answer


@dataclass(frozen=True, slots=True)
class Planned:
    """One job, what `run` would do with it, and why."""

    spec: JobSpec
    action: Action
    reason: str


def plan(
    specs: Sequence[JobSpec],
    store: Store | None,
    clients: Clients,
    now: float,
    unfit: Mapping[str, str] | None = None,
) -> list[Planned]:
    """Return what would be done with each job, in the order given; regions are asked side by side.

    ``unfit``: jobs that their method cannot publish, and why (:mod:`ebspub.app.fitness`). Raises ConfigError for
    credentials that no region accepts.
    """
    known: dict[str, Job] = {}
    if store is not None:
        with store.read() as conn:
            known = {job.id: job for job in jobs.find(conn, ids=[spec.job_id for spec in specs])}
    fresh = [spec for spec in specs if spec.job_id not in known]
    regions = sorted({spec.region for spec in fresh})
    with ThreadPoolExecutor(max_workers=16) as pool:
        looks = dict(zip(regions, pool.map(_looker(fresh, clients), regions), strict=True))
    if any(isinstance(look, AwsError) and look.cause in _REFUSED for look in looks.values()):
        accounts.usable(clients, regions)
    return [
        _of_job(known[spec.job_id], now)
        if spec.job_id in known
        else _of_new(spec, looks[spec.region], (unfit or {}).get(spec.job_id))
        for spec in specs
    ]


def _looker(specs: Sequence[JobSpec], clients: Clients) -> Callable[[str], list[Image] | AwsError]:
    def look(region: str) -> list[Image] | AwsError:
        try:
            ec2 = clients.region(region).reader
            names = [spec.registration.name for spec in specs if spec.region == region]
            return [image for chunk in tags.chunks(names) for image in images.named(ec2, chunk)]
        except AwsError as error:
            return error

    return look


def _of_job(job: Job, now: float) -> Planned:
    spec = job.spec
    if job.status is Status.DONE:
        return Planned(spec, Action.SKIP, f"registered as {job.ami_id}")
    if job.status is Status.CANCELLED:
        return Planned(spec, Action.SKIP, f"cancelled; `ebspub resume {job.id}` would start it again")
    if leases.driven(job, now):
        return Planned(spec, Action.BUSY, f"another process drives it ({job.state})")
    if job.status is Status.FAILED and job.error is not None:
        return Planned(spec, Action.RESUME, f"{job.state}; failed: {job.error.message}")
    return Planned(spec, Action.RESUME, f"{job.state}")


def _of_new(spec: JobSpec, found: list[Image] | AwsError, unfit: str | None = None) -> Planned:
    if unfit is not None:
        return Planned(spec, Action.REFUSE, unfit)
    if isinstance(found, AwsError):
        return Planned(spec, Action.UNKNOWN, found.what)
    for image in found:
        if image.name != spec.registration.name:
            continue
        ours = image.tags.get(tags.JOB) == spec.job_id
        if ours and tags.is_from(image.tags, spec.source):
            return Planned(spec, Action.ADOPT, f"registered as {image.id}, not yet in this database")
        return Planned(spec, Action.REFUSE, f"the name {image.name!r} is taken by {image.id}, which is another build")
    shared = "; by the builder that jobs of its region share" if spec.builder.shared else ""
    return Planned(spec, Action.PUBLISH, f"nothing of it is there yet{shared}")
