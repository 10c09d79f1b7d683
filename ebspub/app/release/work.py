"""The work in one region: look, make the calls that are missing, each recorded before and after it is made."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ebspub.app.release.look import AbsentError, look
from ebspub.app.release.wanted import Change, Seen, Wanted, changes
from ebspub.app.runtime import Runtime
from ebspub.aws import parameters, sharing
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import RETRYABLE, AwsError
from ebspub.errors import EbspubError, LeaseLostError, StoreError
from ebspub.store import Failure, Lease, releases

T = TypeVar("T")
log = logging.getLogger(__name__)
#: Told of each call that was made.
Tell = Callable[[Change], None]
#: Seconds between two tries, at most.
_CAP = 30.0


def _image(clients: RegionClients, change: Change) -> None:
    told = change.request
    sharing.change_launch(clients.writer, change.target, add=told.get("add", ()), remove=told.get("remove", ()))


def _snapshot(clients: RegionClients, change: Change) -> None:
    told = change.request
    sharing.change_volumes(clients.writer, change.target, add=told.get("add", ()), remove=told.get("remove", ()))


#: How each call is made. All of them may be made twice.
CALLS: Mapping[str, Callable[[RegionClients, Change], None]] = {
    "ModifyImageAttribute": _image,
    "ModifySnapshotAttribute": _snapshot,
    "CreateTags": lambda clients, change: sharing.tag(clients.writer, change.target, change.request["tags"]),
    "DeleteTags": lambda clients, change: sharing.untag(clients.writer, change.target, change.request["keys"]),
    "PutParameter": lambda clients, change: parameters.put(clients.ssm, change.target, change.request["value"]),
    "DeleteParameter": lambda clients, change: parameters.delete(clients.ssm, change.target),
}


@dataclass
class Outcome:
    """What came of the work in one region. ``error``: why not all is done; ``gone``: jobs whose AMI does not exist."""

    region: str
    made: list[Change] = field(default_factory=list)
    error: EbspubError | None = None
    gone: frozenset[str] = frozenset()


class RegionWork:
    """The work for one release in one region. ``fresh``: until when what was just registered may be hidden."""

    def __init__(
        self, runtime: Runtime, release: str, lease: Lease, *, patience: float, fresh: float, tell: Tell
    ) -> None:
        self._runtime, self._release, self._lease, self._tell = runtime, release, lease, tell
        self._clock, self._store = runtime.clock, runtime.store
        self._patience, self._fresh = patience, fresh
        self._rng = random.Random()  # noqa: S311 - jitter, no secret

    def run(self, region: str, wanted: Sequence[Wanted]) -> Outcome:
        """Make what is missing. Raises LeaseLostError and StoreError only."""
        outcome = Outcome(region)
        try:
            clients = self._runtime.clients.region(region)
            seen, outcome.gone = self._look(clients, wanted)
            there = [each for each in wanted if each.job_id not in outcome.gone]
            for change in changes(there, seen):
                self._one(clients, change, outcome)
            if outcome.gone:
                raise AbsentError(f"{region}: no AMI and snapshot of {', '.join(sorted(outcome.gone))}", outcome.gone)
        except (LeaseLostError, StoreError):
            raise
        except EbspubError as error:
            outcome.error = outcome.error or error
        if self._stopping:
            outcome.error = outcome.error or EbspubError(f"{region}: interrupted")
        elif outcome.error is None:
            with self._store.write() as conn:
                releases.settle(conn, self._release, self._lease, region, self._clock.now())
        return outcome

    @property
    def _stopping(self) -> bool:
        return self._runtime.stop.event.is_set()

    def _look(self, clients: RegionClients, wanted: Sequence[Wanted]) -> tuple[dict[str, Seen], frozenset[str]]:
        while True:
            seen, unseen = self._patiently(lambda: look(clients, wanted))
            # Of what is taken back, it is as good if nothing is there.
            absent = unseen - {each.job_id for each in wanted if each.withdrawn}
            if not absent or self._clock.now() > self._fresh or self._stopping:
                return seen, absent
            self._hold()
            self._clock.wait(self._runtime.config.engine.poll_interval, self._runtime.stop.event)

    def _one(self, clients: RegionClients, change: Change, outcome: Outcome) -> None:
        """Make one call; after one that failed only those that take something back."""
        if self._stopping or (outcome.error is not None and change.opens):
            return
        try:
            self._patiently(lambda: self._make(clients, change))
        except (LeaseLostError, StoreError):
            raise
        except EbspubError as error:
            log.info("%s: %s", self._release, error.what)
            outcome.error = outcome.error or error
        else:
            outcome.made.append(change)
            self._tell(change)

    def _make(self, clients: RegionClients, change: Change) -> None:
        now = self._clock.now()
        row = {name: getattr(change, name) for name in ("job_id", "region", "action", "target")}
        row["request"] = dict(change.request)
        with self._store.write() as conn:
            opened = releases.open_change(
                conn, self._release, self._lease, row, now=now, until=now + self._runtime.config.engine.lease
            )
        try:
            CALLS[change.action](clients, change)
        except AwsError as error:
            if error.definite:
                told = Failure(error.what, code=error.code, request_id=error.request_id, todo=error.todo)
                self._close(opened, told)
            # Else nobody knows whether it was made: the row stays open, and whoever looks next sees it.
            raise
        self._close(opened, None)

    def _close(self, row: int, failure: Failure | None) -> None:
        with self._store.write() as conn:
            releases.close_change(conn, row, self._clock.now(), failure)

    def _hold(self) -> None:
        """Keep the lease while nothing is made. Raises LeaseLostError."""
        now = self._clock.now()
        with self._store.write() as conn:
            releases.change(conn, self._release, self._lease, now, lease_until=now + self._runtime.config.engine.lease)

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do ``work`` again while what it is refused for may mend itself. Raises AwsError."""
        deadline, tries = self._clock.now() + self._patience, 0
        while True:
            try:
                return work()
            except AwsError as error:
                pause = min(_CAP, self._runtime.config.engine.poll_interval * 2.0 ** min(tries, 8))
                pause *= self._rng.uniform(0.5, 1.0)
                late = self._clock.now() + pause > deadline
                if error.cause not in RETRYABLE or late or self._stopping:
                    raise
                log.info("%s: again in %.1f s: %s", self._release, pause, error.what)
            tries += 1
            self._hold()
            self._clock.wait(pause, self._runtime.stop.event)
