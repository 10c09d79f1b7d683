"""The work in one region: look, make the calls that are missing, each recorded before and after it is made."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import sqlalchemy as sa

from ebspub.app.release.look import AbsentError, look
from ebspub.app.release.settings import Context, others
from ebspub.app.release.wanted import Change, Phase, Seen, Wanted, changes, decided
from ebspub.app.runtime import Runtime
from ebspub.aws import parameters, sharing
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import RETRYABLE, AwsError
from ebspub.errors import EbspubError, JobError, LeaseLostError, StoreError
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
    """What came of the work in one region. ``error``: why not all is done; ``gone``: jobs whose AMI does not exist.

    ``seen``: what there was of each job at the beginning; None where that is not known.
    """

    region: str
    made: list[Change] = field(default_factory=list)
    error: EbspubError | None = None
    gone: frozenset[str] = frozenset()
    seen: dict[str, Seen] | None = None


class RegionWork:
    """The work for one release in one region. ``fresh``: until when what was just registered may be hidden.

    It has two parts, so that nothing goes on to a build before all of it can be used: first what lets others use it,
    then the paths that go from build to build, and all that is taken back.
    """

    def __init__(
        self, runtime: Runtime, found: Context, lease: Lease, *, patience: float, fresh: float, tell: Tell
    ) -> None:
        self._runtime, self._release, self._lease, self._tell = runtime, found.release.id, lease, tell
        self._jobs = {job.id: job for job in found.jobs}
        self._clock, self._store = runtime.clock, runtime.store
        self._patience, self._fresh = patience, fresh
        self._rng = random.Random()  # noqa: S311 - jitter, no secret

    def begin(self, region: str, wanted: Sequence[Wanted]) -> Outcome:
        """Make the calls that are missing for the AMIs to be used. Raises LeaseLostError and StoreError only."""
        outcome = Outcome(region)
        with self._kept(outcome):
            clients = self._runtime.clients.region(region)
            outcome.seen, outcome.gone = self._look(clients, wanted)
            self._all(clients, wanted, outcome, lambda change: change.phase < Phase.MOVE_NAME)
        return outcome

    def finish(self, outcome: Outcome, wanted: Sequence[Wanted], *, moving: bool) -> Outcome:
        """Make all other calls; without ``moving`` none by which a path goes on to the build. Raises as `begin`."""
        if outcome.seen is None:
            return outcome
        # What was registered meanwhile was not looked at: the next `publish` adds it.
        wanted = [each for each in wanted if each.job_id in outcome.seen]
        with self._kept(outcome):
            clients = self._runtime.clients.region(outcome.region)
            self._look_again(clients, wanted, outcome)
            first = Phase.MOVE_NAME if moving else Phase.UNNAME
            self._all(clients, wanted, outcome, lambda change: change.phase >= first)
            if outcome.error is None:
                self._see_taken(clients, outcome)
            if outcome.gone:
                what = f"{outcome.region}: no AMI and snapshot of {', '.join(sorted(outcome.gone))}"
                raise AbsentError(what, outcome.gone)
        if outcome.error is None and moving:
            with self._store.write() as conn:
                releases.settle(conn, self._release, self._lease, outcome.region, self._clock.now())
        return outcome

    @contextmanager
    def _kept(self, outcome: Outcome) -> Iterator[None]:
        """Keep what stands in the way; the first error is what is told."""
        try:
            yield
        except (LeaseLostError, StoreError):
            raise
        except EbspubError as error:
            outcome.error = outcome.error or error
        if self._stopping:
            outcome.error = outcome.error or EbspubError(f"{outcome.region}: interrupted")

    def _all(
        self, clients: RegionClients, wanted: Sequence[Wanted], outcome: Outcome, meant: Callable[[Change], bool]
    ) -> None:
        assert outcome.seen is not None
        there = [each for each in wanted if each.withdrawn or each.job_id not in outcome.gone]
        for change in changes(there, outcome.seen):
            if meant(change):
                self._one(clients, change, outcome)

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

    def _look_again(self, clients: RegionClients, wanted: Sequence[Wanted], outcome: Outcome) -> None:
        """See what holds the paths that other builds may hold, too, once nobody changes them who did not know of us."""
        assert outcome.seen is not None
        paths = frozenset(path for each in wanted for path in each.shared)
        if not paths:
            return
        self._waiting(lambda: self._others_at(outcome.region, paths), outcome.region)
        held = self._patiently(lambda: parameters.read(clients.ssm, paths))
        for each in wanted:
            seen = outcome.seen[each.job_id]
            kept = {path: there for path, there in seen.parameters.items() if path not in paths}
            mine = {path: held[path] for path in each.shared if path in held}
            outcome.seen[each.job_id] = replace(seen, parameters={**kept, **mine})

    def _see_taken(self, clients: RegionClients, outcome: Outcome) -> None:
        """See that SSM holds what was put: the id of an `aws:ec2:image` is checked after the call has returned.

        A path that holds neither that nor what it held before was moved on by another build. Raises JobError.
        """
        assert outcome.seen is not None
        made = {change.target: change for change in outcome.made if change.phase in (Phase.NAME, Phase.MOVE_NAME)}
        put = {path: str(change.request["value"]) for path, change in made.items() if change.action == "PutParameter"}
        before = {path: each.value for seen in outcome.seen.values() for path, each in seen.parameters.items()}
        deadline = self._clock.now() + self._patience
        while put:
            held = self._patiently(lambda: parameters.read(clients.ssm, put))
            old = {path: value for path, value in before.items() if value != put.get(path)}
            lacking = sorted(path for path in put if path not in held or held[path].value == old.get(path))
            if not lacking:
                return
            if self._clock.now() > deadline or self._stopping:
                raise JobError(
                    f"{outcome.region}: Parameter Store has not taken {', '.join(lacking)}",
                    todo="It checks AMI ids after the call has returned: see that the AMI is there, publish again.",
                )
            self._hold()
            self._clock.wait(self._runtime.config.engine.poll_interval, self._runtime.stop.event)

    def _others_at(self, region: str, paths: Collection[str]) -> set[str]:
        with self._store.write() as conn:
            return releases.under_change(conn, self._release, region, paths, self._clock.now())

    def _waiting(self, others_at: Callable[[], set[str]], region: str) -> None:
        """Wait until other processes are through with what they are changing. Raises JobError."""
        deadline = self._clock.now() + self._patience
        while paths := others_at():
            if self._clock.now() > deadline or self._stopping:
                raise JobError(
                    f"{region}: another process is still changing {', '.join(sorted(paths))}",
                    todo="Publish again when it has ended.",
                )
            self._hold()
            self._clock.wait(self._runtime.config.engine.poll_interval, self._runtime.stop.event)

    def _one(self, clients: RegionClients, change: Change, outcome: Outcome) -> None:
        """Make one call; after one that failed only those that take something back."""
        if self._stopping or (outcome.error is not None and change.opens):
            return
        try:
            made = self._patiently(lambda: self._make(clients, change))
        except (LeaseLostError, StoreError):
            raise
        except EbspubError as error:
            log.info("%s: %s", self._release, error.what)
            outcome.error = outcome.error or error
        else:
            if made is not None:
                outcome.made.append(made)
                self._tell(made)

    def _make(self, clients: RegionClients, change: Change) -> Change | None:
        """Make one call; return it as it was made, None where it is not to be made any more."""
        opened: list[tuple[int, Change] | None] = []

        def others_at() -> set[str]:
            with self._store.write() as conn:
                paths = {change.target} if change.moves else set()
                now = self._clock.now()
                held = releases.under_change(conn, self._release, change.region, paths, now) if paths else set()
                if not held:
                    opened.append(self._open(conn, change))
            return held

        self._waiting(others_at, change.region)
        if opened[0] is None:
            return None
        row, meant = opened[0]
        try:
            CALLS[meant.action](clients, meant)
        except AwsError as error:
            if error.definite:
                told = Failure(error.what, code=error.code, request_id=error.request_id, todo=error.todo)
                self._close(row, told)
            # Else nobody knows whether it was made: the row stays open, and whoever looks next sees it.
            raise
        self._close(row, None)
        return meant

    def _open(self, conn: sa.Connection, change: Change) -> tuple[int, Change] | None:
        """Record a call that is about to be made: from here on nobody else begins to move its path."""
        meant: Change | None = change
        if change.moves:
            beside = others(conn, self._runtime.config, self._release, [change.region])
            meant = decided(change, self._jobs[change.job_id], beside)
        if meant is None:
            return None
        now = self._clock.now()
        row = {name: getattr(meant, name) for name in ("job_id", "region", "action", "target")}
        row["request"] = dict(meant.request)
        until = now + self._runtime.config.engine.lease
        return releases.open_change(conn, self._release, self._lease, row, now=now, until=until), meant

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
