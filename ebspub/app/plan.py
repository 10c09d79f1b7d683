"""What `run` would do with each job of the configured builds, and why. Looks only; touches nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum

from ebspub.app import accounts
from ebspub.app.estimate import Estimate, Known, Sharing, estimate, sharing
from ebspub.aws import images, tags
from ebspub.aws.clients import Clients
from ebspub.aws.failures import AwsError, Cause
from ebspub.aws.images import Image
from ebspub.spec import JobSpec
from ebspub.states import State, Status
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
    #: Its AMI name belongs to another image, its method cannot publish what the artefact is, or what it is to copy was
    #: cancelled.
    REFUSE = "refuse"
    UNKNOWN = "unknown"  #: the region did not answer


@dataclass(frozen=True, slots=True)
class Planned:
    """One job, what `run` would do with it, and why."""

    spec: JobSpec
    action: Action
    reason: str
    #: The last completed step of a job that is planned already.
    state: State = State.PENDING
    #: Which way it goes, in words, and why that one; empty where `run` drives nothing.
    way: str = ""
    why: str = ""
    #: None where `run` drives nothing.
    estimate: Estimate | None = None


#: The ways in words; of a copy, its primary's region belongs in it.
_WORDS = {"filesystem": "filesystem on a builder", "disk": "disk on a builder", "direct": "direct: no builder"}
#: What `run` does that takes time and money.
_DRIVEN = frozenset({Action.PUBLISH, Action.RESUME})


def plan(
    specs: Sequence[JobSpec],
    store: Store | None,
    clients: Clients,
    now: float,
    unfit: Mapping[str, str] | None = None,
    learned: Known | None = None,
) -> list[Planned]:
    """Return what would be done with each job, in the order given; regions are asked side by side.

    ``unfit``: jobs that cannot be published so, and why (:mod:`ebspub.app.fitness`). ``learned``: what estimates are
    made from. Raises ConfigError for credentials that no region accepts.
    """
    known: dict[str, Job] = {}
    if store is not None:
        ids = {spec.job_id for spec in specs} | {spec.primary for spec in specs if spec.primary is not None}
        with store.read() as conn:
            known = {job.id: job for job in jobs.find(conn, ids=sorted(ids))}
    fresh = [spec for spec in specs if spec.job_id not in known]
    regions = sorted({spec.region for spec in fresh})
    with ThreadPoolExecutor(max_workers=16) as pool:
        looks = dict(zip(regions, pool.map(_looker(fresh, clients), regions), strict=True))
    if any(isinstance(look, AwsError) and look.cause in _REFUSED for look in looks.values()):
        accounts.usable(clients, regions)
    found = [
        _of_job(known[spec.job_id], now)
        if spec.job_id in known
        else _of_new(spec, looks[spec.region], (unfit or {}).get(spec.job_id))
        for spec in specs
    ]
    found = [_of_copy(each, known.get(each.spec.primary or "")) for each in found]
    copies = Counter(each.spec.primary for each in found if each.action in _DRIVEN)
    learned = learned or Known()
    parts = sharing([each.spec for each in found if _fills(each)], learned)
    return [_with_way(each, copies[each.spec.job_id], learned, parts.get(each.spec.job_id)) for each in found]


def _fills(planned: Planned) -> bool:
    """Whether a volume is still to be filled on a builder."""
    ahead = planned.state in (State.PENDING, State.LAUNCHED, State.ATTACHED)
    return planned.action in _DRIVEN and planned.spec.way != "copy" and ahead


def total(planned: Sequence[Planned]) -> Estimate:
    """Return what all takes: the jobs go side by side, a copy after its primary.

    Uploads share this host's line, so that those of the direct method take their time one after another.
    """
    own = {each.spec.job_id: each.estimate for each in planned if each.estimate is not None}
    ends = [0.0]
    for each in planned:
        if each.estimate is not None:
            origin = own.get(each.spec.primary or "")
            ends.append(each.estimate.seconds + (origin.before_register if origin is not None else 0.0))
    uploads = sum(own[e.spec.job_id].seconds for e in planned if e.estimate is not None and e.spec.way == "direct")
    copied = max((e.estimate.seconds for e in planned if e.estimate is not None and e.spec.way == "copy"), default=0.0)
    uploaded = uploads + (copied if uploads else 0.0)
    dollars, monthly = (sum(getattr(each, name) for each in own.values()) for name in ("dollars", "monthly"))
    return Estimate(max(*ends, uploaded), 0.0, dollars, monthly)


def _with_way(planned: Planned, copies: int, learned: Known, part: Sharing | None) -> Planned:
    if planned.action not in _DRIVEN:
        return planned
    spec, fan_out = planned.spec, planned.spec.fan_out
    way = _WORDS[spec.method] if part is None else f"{spec.method} on a builder of {part.jobs} jobs"
    if fan_out is not None and fan_out.copies:
        way, why = f"copy of {fan_out.region}'s snapshot", fan_out.why
    elif copies:
        why = f"its snapshot is copied to {copies} {'region' if copies == 1 else 'regions'}"
    else:
        why = fan_out.why if fan_out is not None else f'method = "{spec.method}"'
    return replace(planned, way=way, why=why, estimate=estimate(spec, learned, state=planned.state, part=part))


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
        return Planned(spec, Action.RESUME, f"{job.state}; failed: {job.error.message}", job.state)
    return Planned(spec, Action.RESUME, f"{job.state}", job.state)


def _of_copy(planned: Planned, primary: Job | None) -> Planned:
    """Refuse what would wait for a job that somebody cancelled."""
    waits = planned.action in _DRIVEN and planned.state is State.PENDING
    if primary is None or not waits or primary.status is not Status.CANCELLED:
        return planned
    reason = f"it copies the snapshot of {primary.id}, which was cancelled: `ebspub resume {primary.id}` first"
    return replace(planned, action=Action.REFUSE, reason=reason)


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
