"""Remove what nobody needs, in the order that EC2 asks for, beside drivers that may be at work.

For a job that this database knows, the intent is committed before the call, in a transaction that judges the thing
again from the job as it stands and sees that nobody drives it. The outcome follows after the call; where the answer
is lost, the effect stays open, and the next sweep settles it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from ebspub.app.sweep.judge import ORDER, Around, Fate, Verdict, judge, row_of
from ebspub.app.sweep.report import Action
from ebspub.aws import account, groups, images, instances, snapshots, volumes
from ebspub.aws.account import Owned
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import AwsError, Cause
from ebspub.clock import Clock
from ebspub.states import Kind
from ebspub.store import Failure, Job, Presence, Store, events, jobs
from ebspub.store import effects as records

#: How what nobody needs is removed, by kind.
CALLS: dict[Kind, tuple[str, Callable[[RegionClients, str], None]]] = {
    Kind.INSTANCE: ("TerminateInstances", lambda clients, name: instances.terminate(clients.writer, name)),
    Kind.VOLUME: ("DeleteVolume", lambda clients, name: volumes.delete(clients.writer, name)),
    Kind.GROUP: ("DeleteSecurityGroup", lambda clients, name: groups.delete(clients.writer, name)),
    Kind.IMAGE: ("DeregisterImage", lambda clients, name: images.deregister(clients.writer, name)),
    Kind.SNAPSHOT: ("DeleteSnapshot", lambda clients, name: snapshots.delete(clients.writer, name)),
}
#: Causes that waiting may mend within a sweep.
_SOON = frozenset({Cause.NOT_YET, Cause.THROTTLED})
#: A process that was stopped for so long (seconds) between its intent and its call makes no call.
_STALE = 20.0


@dataclass(frozen=True)
class Patience:
    """Seconds: until builders have terminated, until EC2 lets something go, between two looks at first and at most."""

    builders: float = 300.0
    thing: float = 60.0
    first: float = 1.0
    most: float = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a thing that was to be removed."""

    action: Action
    reason: str


@dataclass(frozen=True)
class Broom:
    """What removes things in one region."""

    store: Store
    clock: Clock
    clients: RegionClients
    around: Around
    patience: Patience
    stop: threading.Event

    def sweep(
        self, condemned: Sequence[tuple[Owned, Verdict]], going: Sequence[Owned], done: dict[str, Outcome]
    ) -> None:
        """Remove all of ``condemned`` and put the outcomes into ``done``, by id.

        ``going`` are builders on their way out. Raises AwsError where the region can no longer be looked at; ``done``
        then holds what was done until then.
        """
        for kind in ORDER:
            chosen = [(thing, verdict) for thing, verdict in condemned if thing.kind is kind]
            if kind is Kind.VOLUME:
                chosen = self._free(chosen, done)
            for thing, verdict in chosen:
                done[thing.id] = self._remove(thing, verdict)
            if kind is Kind.INSTANCE:
                self._see_out(chosen, going, done, waited_for=any(t.kind is not kind for t, _ in condemned))

    def _remove(self, thing: Owned, verdict: Verdict) -> Outcome:
        """Remove one thing, with as much patience as there is."""
        deadline = self.clock.now() + self.patience.thing
        pause = self.patience.first
        while True:
            if self.stop.is_set():
                return Outcome(Action.LATER, f"{verdict.reason}; interrupted")
            try:
                return self._try(thing, verdict)
            except AwsError as error:
                if error.cause not in _SOON:
                    return Outcome(Action.FAILED, "; ".join(filter(None, (verdict.reason, error.what, error.todo))))
                if self.clock.now() + pause > deadline:
                    return Outcome(Action.LATER, f"{verdict.reason}; {error.code}: {error.message}")
            self.clock.wait(pause, self.stop)
            pause = min(self.patience.most, 2 * pause)

    def _try(self, thing: Owned, verdict: Verdict) -> Outcome:
        """Make the call, with its intent before it and its outcome after it. Raises AwsError."""
        effect, changed = self._intend(thing)
        if changed is not None:
            return changed
        begun = self.clock.now()
        action, call = CALLS[thing.kind]
        try:
            call(self.clients, thing.id)
        except AwsError as error:
            if not error.missing:
                self._refused(effect, error)
                raise
        if effect is not None:
            self._removed(thing, verdict, effect, action, begun)
        return Outcome(Action.REMOVED, verdict.reason)

    def _intend(self, thing: Owned) -> tuple[int | None, Outcome | None]:
        """Judge the thing again and record that it is about to be removed: the effect, or why it is not removed."""
        now = self.clock.now()
        action, _ = CALLS[thing.kind]
        with self.store.write() as conn:
            job = jobs.get(conn, thing.job)
            verdict = judge(thing, job, replace(self.around, now=now))
            if verdict.fate is not Fate.REMOVE:
                return None, Outcome(Action.LATER, f"since a moment ago: {verdict.reason}")
            if job is None:
                return None, None
            if not jobs.hold(conn, job):
                return None, Outcome(Action.LATER, "its job is driven since a moment ago")
            row = row_of(thing, job)
            if row is not None and row.presence is Presence.INTENDED:
                records.made(conn, row.id, thing.id, now)
                records.settle(conn, row.id, now)
            effect = records.open_effect(
                conn,
                job,
                epoch=job.epoch,
                action=action,
                resource=row.id if row else None,
                target=thing.id,
                now=now,
            )
        if self.clock.now() > now + _STALE:
            late = Failure("not called: this process was stopped in between", code="stopped", at=self.clock.now())
            with self.store.write() as conn:
                records.close_effect(conn, effect, self.clock.now(), failure=late)
            return None, Outcome(Action.LATER, "this process was stopped for too long")
        return effect, None

    def _refused(self, effect: int | None, error: AwsError) -> None:
        if effect is None or not error.definite:
            return
        now = self.clock.now()
        failure = Failure(error.message, code=error.code, request_id=error.request_id, at=now)
        with self.store.write() as conn:
            records.close_effect(conn, effect, now, failure=failure)

    def _removed(self, thing: Owned, verdict: Verdict, effect: int, action: str, begun: float) -> None:
        now = self.clock.now()
        with self.store.write() as conn:
            job = jobs.get(conn, thing.job)
            assert job is not None
            records.close_effect(conn, effect, now)
            records.settle_acts(conn, job.id, action, thing.id, now)
            row = row_of(thing, job)
            if row is not None and thing.kind is Kind.INSTANCE:
                records.mark(conn, row.id, leaving_at=begun)
            elif row is not None:
                records.gone(conn, row.id, now)
            self._tell(conn, job, f"removed {thing.kind} {thing.id}: {verdict.reason}")

    def _see_out(
        self,
        chosen: Sequence[tuple[Owned, Verdict]],
        going: Sequence[Owned],
        done: dict[str, Outcome],
        *,
        waited_for: bool,
    ) -> None:
        """Wait until builders have terminated, if anything waits for it; mark the rows of those that have."""
        removed = [thing for thing, _ in chosen if done[thing.id].action is Action.REMOVED]
        awaited = {thing.id for thing in (*removed, *(going if waited_for else ()))}
        deadline = self.clock.now() + self.patience.builders
        pause = self.patience.first
        while awaited:
            awaited -= account.look_up(self.clients.reader, self.clients.region, Kind.INSTANCE, awaited).gone
            if not awaited or self.stop.is_set() or self.clock.now() + pause > deadline:
                break
            self.clock.wait(pause, self.stop)
            pause = min(self.patience.most, 2 * pause)
        for thing in (each for each in removed if each.id not in awaited):
            self._mark_gone(thing)

    def _free(self, chosen: Sequence[tuple[Owned, Verdict]], done: dict[str, Outcome]) -> list[tuple[Owned, Verdict]]:
        """Return the volumes that can be deleted now: some went with their builder, some are still attached."""
        attached = [(thing, verdict) for thing, verdict in chosen if thing.uses]
        free = [(thing, verdict) for thing, verdict in chosen if not thing.uses]
        if not attached:
            return free
        ids = [thing.id for thing, _ in attached]
        now = account.look_up(self.clients.reader, self.clients.region, Kind.VOLUME, ids)
        for thing, verdict in attached:
            seen = now.there.get(thing.id)
            if thing.id in now.gone:
                self._mark_gone(thing)
                done[thing.id] = Outcome(Action.REMOVED, f"{verdict.reason}; went with builder {thing.uses[0]}")
            elif seen is None:
                done[thing.id] = Outcome(Action.LATER, f"{verdict.reason}; EC2 does not say whether it is there")
            elif seen.uses:
                done[thing.id] = Outcome(Action.LATER, f"{verdict.reason}; still attached to {seen.uses[0]}")
            else:
                free.append((seen, verdict))
        return free

    def _mark_gone(self, thing: Owned) -> None:
        """Mark the row of a thing that is seen to be gone."""
        with self.store.write() as conn:
            job = jobs.get(conn, thing.job)
            row = row_of(thing, job) if job is not None else None
            if row is not None and row.resource_id == thing.id:
                records.gone(conn, row.id, self.clock.now())

    def _tell(self, conn: sa.Connection, job: Job, message: str) -> None:
        events.add(
            conn,
            job.id,
            self.clock.now(),
            attempt=job.attempt,
            epoch=job.epoch,
            action="swept",
            message=message,
        )
