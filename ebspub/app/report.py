"""Jobs as documents: what `status --json`, `show --json` and notifications say. The keys are a stable interface."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ebspub.clock import isoformat
from ebspub.spec import Source
from ebspub.states import STEP_AFTER, State, Status
from ebspub.store import Effect, Event, Job, Resource, leases
from ebspub.store.releases import Release, ReleaseChange


def effective_status(job: Job, now: float) -> str:
    """Return the job's status as a person sees it: `interrupted` where the process that drove it is gone."""
    if job.cancel_requested and not job.ended:
        return Status.CANCELLING.value
    if job.status is Status.RUNNING and not leases.driven(job, now):
        return "interrupted"
    return job.status.value


def step_under_way(job: Job) -> str | None:
    """Return the step that leads out of the job's state; None when it has ended."""
    if job.ended:
        return None
    return "cancel" if job.cancel_requested else STEP_AFTER[State(job.state)]


def job_document(job: Job, now: float) -> dict[str, Any]:
    """Return a job as JSON. Times are RFC 3339 (UTC), ``elapsed`` is in seconds since the job was planned."""
    spec = job.spec
    end = job.ended_at if job.ended_at is not None else now
    return {
        "id": job.id,
        "suite": spec.suite,
        "build": spec.build,
        "label": job.label,
        "serial": spec.serial,
        "version": spec.version,
        "arch": spec.arch,
        "region": spec.region,
        "account": job.account,
        "name": spec.registration.name,
        "source": source_document(spec.source),
        "way": spec.way,
        "copy_of": spec.primary,
        "state": job.state.value,
        "status": effective_status(job, now),
        "step": step_under_way(job),
        "progress": dict(job.progress) if job.progress else None,
        "elapsed": round(max(0.0, end - job.created_at), 1),
        "attempt": job.attempt,
        "instance_id": job.instance_id,
        "volume_id": job.volume_id,
        "snapshot_id": job.snapshot_id,
        "ami_id": job.ami_id,
        "facts": {key: value for key, value in job.facts.items() if key != "gave_up"},
        "error": _error(job),
        "created_at": isoformat(job.created_at),
        "updated_at": isoformat(job.updated_at),
        "ended_at": None if job.ended_at is None else isoformat(job.ended_at),
    }


def source_document(source: Source) -> dict[str, Any]:
    """Return a source as JSON. ``verify``: what proved it (signature, sha256, none); ``signer``: by which key."""
    return {name: getattr(source, name) for name in ("url", "sha256", "verify", "signer", "sums_url", "index")}


def _error(job: Job) -> dict[str, Any] | None:
    if job.error is None:
        return None
    return {**job.error.as_json(), "at": isoformat(job.error.at)}


def event_document(event: Event) -> dict[str, Any]:
    """Return one event of a job's history as JSON."""
    return {
        "at": isoformat(event.at),
        "attempt": event.attempt,
        "epoch": event.epoch,
        "action": event.action,
        "from": event.from_state.value if event.from_state else None,
        "to": event.to_state.value if event.to_state else None,
        "message": event.message,
        "facts": dict(event.facts),
    }


def effect_document(effect: Effect, resources: dict[int, Resource]) -> dict[str, Any]:
    """Return one call as JSON. ``seconds`` is how long it took; null while its outcome is unknown."""
    row = resources.get(effect.resource) if effect.resource is not None else None
    taken = None if effect.closed_at is None else round(effect.closed_at - effect.opened_at, 3)
    return {
        "at": isoformat(effect.opened_at),
        "attempt": effect.attempt,
        "epoch": effect.epoch,
        "action": effect.action,
        "target": effect.target or (row.resource_id if row else None),
        "status": effect.status.value,
        "seconds": taken,
        "error": effect.error.as_json() if effect.error else None,
    }


def change_document(change: ReleaseChange) -> dict[str, Any]:
    """Return one call of `publish` or `unpublish` as JSON, with the keys of :func:`effect_document`."""
    taken = None if change.closed_at is None else round(change.closed_at - change.opened_at, 3)
    return {
        "at": isoformat(change.opened_at),
        "attempt": None,
        "epoch": change.epoch,
        "action": change.action,
        "target": change.target,
        "status": change.status.value,
        "seconds": taken,
        "error": change.error.as_json() if change.error else None,
        "request": dict(change.request),
    }


def release_document(release: Release, known: Sequence[Job], public: Collection[str]) -> dict[str, Any]:
    """Return a release as JSON; ``public``: ids of those of its jobs that others may find."""
    times = {name: getattr(release, name) for name in ("created_at", "published_at", "unpublished_at")}
    return {
        "id": release.id,
        **{name: getattr(release, name) for name in ("suite", "build", "serial", "label")},
        "state": release.state.value,
        "error": dict(release.error) if release.error else None,
        **{name: None if at is None else isoformat(at) for name, at in times.items()},
        "jobs": [
            {
                "id": job.id,
                "region": job.spec.region,
                "arch": job.spec.arch,
                "status": job.status.value,
                "ami_id": job.ami_id,
                "snapshot_id": job.snapshot_id,
                "public": job.id in public,
            }
            for job in known
        ],
    }
