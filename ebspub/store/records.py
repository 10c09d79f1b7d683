"""Rows as frozen values: what steps and commands read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ebspub.spec import JobSpec
from ebspub.states import Kind, State, Status
from ebspub.store.tables import EffectStatus, Presence


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to drive a job: who holds it, until when, and the number that fences an earlier holder."""

    owner: str
    until: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job stopped or waits: what `status` shows."""

    message: str
    code: str = ""
    request_id: str = ""
    todo: str = ""
    step: str = ""
    at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> Failure | None:
        return None if document is None else cls(**{k: v for k, v in document.items() if k in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that we made in EC2, or were about to make."""

    id: int
    job_id: str
    attempt: int
    kind: Kind
    purpose: str
    token: str
    region: str
    resource_id: str | None
    presence: Presence
    request: Mapping[str, Any]
    intended_at: float
    made_at: float | None
    leaving_at: float | None
    gone_at: float | None
    #: When the call that may have made it was sent with its answer never recorded; None when the outcome is known.
    unsettled_since: float | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One call that made, changed or removed something."""

    id: int
    job_id: str
    attempt: int
    epoch: int
    action: str
    resource: int | None
    target: str | None
    status: EffectStatus
    error: Failure | None
    opened_at: float
    closed_at: float | None


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a job."""

    id: int
    job_id: str
    at: float
    attempt: int
    epoch: int
    action: str
    from_state: State | None
    to_state: State | None
    message: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """One build in one region for one arch."""

    id: str
    spec: JobSpec
    label: str
    account: str | None
    state: State
    status: Status
    attempt: int
    attempt_base: int
    instance_id: str | None
    volume_id: str | None
    snapshot_id: str | None
    ami_id: str | None
    facts: Mapping[str, Any]
    step_started_at: float | None
    progress: Mapping[str, Any] | None
    retries: int
    not_before: float
    error: Failure | None
    cancel_requested: bool
    lease: Lease | None
    epoch: int
    created_at: float
    updated_at: float
    ended_at: float | None
    resources: tuple[Resource, ...] = field(default=())
    #: Who boots its AMI at present (:mod:`ebspub.store.verifications`), and how many did.
    verification: Lease | None = None
    verify_epoch: int = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in (Status.DONE, Status.CANCELLED)

    def live(self, *kinds: Kind) -> tuple[Resource, ...]:
        """Return the resources that exist or may exist, oldest first; of ``kinds`` if any are given."""
        return tuple(r for r in self.resources if r.presence is not Presence.GONE and (not kinds or r.kind in kinds))

    def spent(self, kind: Kind) -> int:
        """Return how many resources of ``kind`` of the present attempt are gone."""
        return sum(1 for r in self.resources if r.kind is kind and r.attempt == self.attempt and r.gone_at)

    def current(self, kind: Kind) -> Resource | None:
        """Return the newest live resource of ``kind`` of the present attempt."""
        found = [r for r in self.live(kind) if r.attempt == self.attempt]
        return found[-1] if found else None
