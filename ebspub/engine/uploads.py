"""Work that a step starts and that goes on in this process while the step only looks: the uploads of the direct method.

Like the detached work on a builder it is started, looked at and taken the result of; unlike it, it dies with the
process. What it has done is on record (:mod:`ebspub.engine.ledger`), so that the next process goes on with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ebspub.aws.clients import RegionClients
from ebspub.engine.ledger import Ledger
from ebspub.errors import EbspubError
from ebspub.store import Job, Resource


@dataclass(frozen=True)
class Order:
    """An upload that is wanted: which job's source, to which snapshot, under whose lease.

    ``parent``: the row of the snapshot that this one is a change of, None for none.
    """

    job: Job
    snapshot: Resource
    parent: int | None
    ledger: Ledger
    clients: RegionClients

    @property
    def key(self) -> str:
        """What tells this upload from one to another snapshot, and from one under an earlier lease."""
        return f"{self.snapshot.id}/{self.ledger.epoch}"


@dataclass(frozen=True)
class Running:
    """It goes on: ``done`` of ``total`` bytes of the source (0: not known) were read."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class Ended:
    """Every block is put and on record, and the source is proved."""

    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """It ended with an error."""

    error: EbspubError


class Uploads(Protocol):
    """The uploads of this process. Safe to call from any thread."""

    def look(self, order: Order) -> Running | Ended | Failed | None:
        """Return how far an upload is; None where there is none."""

    def start(self, order: Order) -> bool:
        """Start an upload; False where as many run as may at a time."""

    def drop(self, job_id: str) -> None:
        """Stop the uploads of a job and forget them. Does not wait."""

    def close(self) -> None:
        """Stop all; wait a moment for what was put to get on record."""


class NoUploads:
    """The uploads of a process that has none: for tools that drive no job of the direct method."""

    def look(self, order: Order) -> Running | Ended | Failed | None:
        del order
        return None

    def start(self, order: Order) -> bool:
        raise NotImplementedError(f"{order.job.id}: this process uploads nothing")

    def drop(self, job_id: str) -> None:
        del job_id

    def close(self) -> None:
        """There is nothing to stop."""
