"""Fan-out: which jobs copy the snapshot of their build's primary region, and what they need of it.

Decided when a job is planned and kept in its document. A decision to copy stays for as long as the configuration asks
for the same, whatever the estimates say later: only what was to be made in the region itself may still turn to a copy,
and that only while nothing of the job is in EC2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ebspub.app.estimate import GIB, MIB, Known, Sharing, content, estimate, sharing
from ebspub.spec import FanOut, JobSpec
from ebspub.states import State, Status
from ebspub.store import Job, Store, jobs, leases

#: How a reason begins that is one of money.
_BY_COST = "copying "


def decide(specs: Sequence[JobSpec], store: Store | None, known: Known) -> tuple[JobSpec, ...]:
    """Return ``specs`` with each choice between a copy and an own snapshot made, and why."""
    ids = [spec.job_id for spec in specs if spec.fan_out is not None]
    planned: dict[str, Job] = {}
    if store is not None and ids:
        with store.read() as conn:
            planned = {job.id: job for job in jobs.find(conn, ids=ids)}
    # What a builder costs here if all that may be made here are: who shares it shares its price.
    parts = sharing([spec for spec in specs if not _only_copies(spec)], known)
    return tuple(_decided(spec, planned.get(spec.job_id), known, parts.get(spec.job_id)) for spec in specs)


def _only_copies(spec: JobSpec) -> bool:
    return spec.fan_out is not None and spec.fan_out.copies and bool(spec.fan_out.why)


def _decided(spec: JobSpec, job: Job | None, known: Known, part: Sharing | None) -> JobSpec:
    wish = spec.fan_out
    if wish is None or wish.why:
        return spec
    before = job.spec.fan_out if job is not None else None
    found = _cheaper(spec, wish, known, part)
    # The figures change from day to day. A copy stays one; so does what still costs less to make here.
    if before is not None and (before.region, before.when) == (wish.region, wish.when):
        stands = before.copies or (not found.copies and before.why.startswith(_BY_COST))
        found = before if stands else found
    return spec.model_copy(update={"fan_out": found})


def _cheaper(spec: JobSpec, wish: FanOut, known: Known, part: Sharing | None) -> FanOut:
    copy = estimate(spec, known, copies=True).dollars
    own = estimate(spec, known, copies=False, part=part).dollars
    what = "putting its blocks here" if spec.method == "direct" else "a builder here"
    if part is not None:
        what = f"its share of a builder here that {part.jobs} jobs use"
    held = content(spec, known)
    size = f"{held / GIB:.1f} GiB" if held >= 0.05 * GIB else f"{held / MIB:.0f} MiB"
    why = f"{_BY_COST}{size} from {wish.region} costs about {dollars(copy)}, {what} {dollars(own)}"
    return wish.model_copy(update={"copies": copy < own, "why": why})


def dollars(amount: float) -> str:
    """Return an amount as it is told: `$1.04`, `$0.042`, and `$0.001` for whatever is less but not nothing."""
    return f"${amount:.2f}" if amount >= 0.0995 or amount == 0 else f"${max(amount, 0.001):.3f}"


def followed(conn: sa.Connection, wanted: Iterable[Job], now: float) -> list[Job]:
    """Return the jobs that must be driven, too, because jobs in ``wanted``, which will be, wait for their snapshots.

    Not those that another process drives, and not those that were cancelled: their copies say so.
    """
    listed = list(wanted)
    names = {job.spec.primary for job in listed if _waits(job)} - {job.id for job in listed}
    found = jobs.find(conn, ids=sorted(name for name in names if name is not None)) if names else []
    return [job for job in found if not job.ended and not _has_snapshot(job) and not leases.driven(job, now)]


def needed(specs: Sequence[JobSpec], store: Store | None) -> set[str]:
    """Return the ids of the primaries that copies among ``specs`` may still wait for, as far as ``store`` knows."""
    names = {spec.primary for spec in specs} - {None}
    if store is None or not names:
        return {name for name in names if name is not None}
    with store.read() as conn:
        known = {job.id: job for job in jobs.find(conn, ids=[spec.job_id for spec in specs])}
        origins = {job.id: job for job in jobs.find(conn, ids=sorted(name for name in names if name is not None))}
    wanted = set()
    for spec in specs:
        job, name = known.get(spec.job_id), spec.primary
        if name is None or (job is not None and (job.ended or not _waits(job))):
            continue
        origin = origins.get(name)
        if origin is None or not (origin.ended or _has_snapshot(origin)):
            wanted.add(name)
    return wanted


def _waits(job: Job) -> bool:
    """Whether a job that is driven waits for its primary; one that was cancelled begins again."""
    if job.status is Status.CANCELLED:
        return job.spec.primary is not None
    return job.spec.primary is not None and not job.cancel_requested and job.state is State.PENDING


def _has_snapshot(job: Job) -> bool:
    return job.state in (State.SNAPSHOTTED, State.REGISTERED) and not job.cancel_requested
