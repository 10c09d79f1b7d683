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

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Resource:
        """Return it from the columns of its row, and ``unsettled_since``, which counts while it is but intended."""
        presence = Presence(row["presence"])
        unsettled = row["unsettled_since"] if presence is Presence.INTENDED else None
        return cls(**{**row, "kind": Kind(row["kind"]), "presence": presence, "unsettled_since": unsettled})


@dataclass(frozen=True, slots=True)
class Seat:
    """A job's place at a builder that several share. ``rows``: what there is, or may be, of that builder.

    ``crowd`` and ``active`` count who ever had a place there, and who has one; ``quiet_at`` is when the last one left.
    ``hosted``: its host has a place; ``host_until`` is when the host's lease ends, if it has one.
    """

    id: int
    job_id: str
    builder: int
    host_job: str
    host_attempt: int
    attempt: int
    slot: int
    sealed_at: float | None
    left_at: float | None
    crowd: int
    active: int
    quiet_at: float | None
    hosted: bool
    host_until: float | None
    rows: tuple[Resource, ...] = ()

    @property
    def instance(self) -> Resource | None:
        """Return the newest live row of the builder itself."""
        return next((row for row in reversed(self.rows) if row.kind is Kind.INSTANCE), None)

    def hosted_by(self, job_id: str, attempt: int) -> bool:
        """Whether it is this attempt of this job that launches the builder."""
        return (self.host_job, self.host_attempt) == (job_id, attempt)


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
    #: Its places at shared builders that still matter to it: the present one, and of builders that nobody needs any
    #: more, or that its own rows are of.
    seats: tuple[Seat, ...] = field(default=())

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

    @property
    def seat(self) -> Seat | None:
        """Return its place at a shared builder that it has not left, if it has one."""
        return next((seat for seat in self.seats if seat.left_at is None), None)

    @property
    def builder(self) -> Resource | None:
        """Return the live row of the builder of the present attempt, its own or a shared one."""
        seat = self.seat
        return seat.instance if seat is not None and seat.attempt == self.attempt else self.current(Kind.INSTANCE)

    @property
    def keys(self) -> tuple[str, int]:
        """Return whose keys open its builder: job and attempt."""
        seat = self.seat
        return (self.id, self.attempt) if seat is None else (seat.host_job, seat.host_attempt)

    @property
    def lent(self) -> frozenset[int]:
        """Return the row ids of shared builders at which somebody has a place: not to be removed."""
        return frozenset(row.id for seat in self.seats if seat.active for row in seat.rows)

    @property
    def left_behind(self) -> tuple[Resource, ...]:
        """Return the live rows of shared builders that everybody has left: whoever was there may remove them."""
        return tuple(row for seat in self.seats if not seat.active for row in seat.rows)

    @property
    def hosts(self) -> frozenset[str]:
        """Return the other jobs whose things it must see: those of its builders carry their tags."""
        return frozenset(s.host_job for s in self.seats if s.left_at is None or not s.active) - {self.id}

    def own(self, *kinds: Kind) -> tuple[Resource, ...]:
        """Return what of :meth:`live` is its own to remove: all but a builder that others share."""
        lent = self.lent
        return tuple(row for row in self.live(*kinds) if row.id not in lent)

    def step_limit(self, step: str) -> float:
        """Return the seconds that ``step`` may take: on a shared builder volumes are filled one after another."""
        seat = self.seat
        return self.spec.step_limit(step) * (seat.crowd if step == "populate" and seat is not None else 1)
