"""Many jobs side by side: one poller per region, a thread pool for what takes time, leases kept alive.

:meth:`Scheduler.tick` never blocks and never sleeps, so that a simulated clock can drive it; :meth:`Scheduler.run` is
the loop around it. A region that does not answer keeps only its own jobs waiting.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from ebspub.aws import view as views
from ebspub.aws.clients import Clients, RegionClients
from ebspub.aws.failures import AwsError
from ebspub.aws.view import RegionView
from ebspub.engine import retry
from ebspub.engine.driver import Driver, Tools, Verdict
from ebspub.errors import EbspubError, LeaseLostError, StoreError
from ebspub.states import Kind, Status
from ebspub.store import Job, Lease, jobs, leases

log = logging.getLogger(__name__)


class Executor(Protocol):
    """Runs work beside the loop; a simulation runs it at once."""

    def submit(self, work: Callable[[], object], /) -> Future[object]:
        """Run ``work``; its result or exception ends up in the future."""


#: How long (seconds) an interrupted process waits for calls under way; it must be gone within 5.
GRACE = 3.0


@dataclass
class _Ticket:
    """A job that this process drives."""

    job_id: str
    region: str
    name: str
    lease: Lease
    kinds: frozenset[Kind]
    #: Jobs whose things it must see besides its own.
    hosts: frozenset[str] = frozenset()
    due: float = 0.0
    work: Future[object] | None = None


@dataclass
class _Region:
    """A region's poller."""

    name: str
    view: RegionView | None = None
    poll: Future[object] | None = None
    next_poll: float = 0.0
    failures: int = 0
    error: str = ""


@dataclass(frozen=True)
class Pace:
    """Seconds: between two looks at a region, between two renewals of the leases (a third of their time)."""

    poll_interval: float = 5.0
    renew_interval: float = 20.0


class Scheduler:
    """Drives jobs that this process has leased until each has ended, failed, or been taken over."""

    def __init__(self, tools: Tools, clients: Clients, executor: Executor, *, owner: str, pace: Pace) -> None:
        self._tools = tools
        self._clients = clients
        self._executor = executor
        self._owner = owner
        self._pace = pace
        self._driver = Driver(tools)
        self._tickets: dict[str, _Ticket] = {}
        self._regions: dict[str, _Region] = {}
        self._renew_at = 0.0
        self._fatal: BaseException | None = None
        self.wake = threading.Event()

    def claim(self, candidates: Iterable[Job], *, dead: leases.Dead = leases.is_dead) -> list[str]:
        """Take the lease of each job that nobody drives; return the ids of those taken."""
        taken = []
        for job in candidates:
            now = self._tools.clock.now()
            status = Status.CANCELLING if job.cancel_requested else Status.RUNNING
            with self._tools.store.write() as conn:
                lease = leases.claim(
                    conn,
                    job.id,
                    owner=self._owner,
                    now=now,
                    until=now + self._tools.lease_time,
                    status=status,
                    dead=dead,
                )
            if lease is not None:
                region = job.spec.region
                kinds = self._driver.kinds(job)
                name = job.spec.registration.name
                self._tickets[job.id] = _Ticket(job.id, region, name, lease, kinds, job.hosts, due=job.not_before)
                self._regions.setdefault(region, _Region(region))
                taken.append(job.id)
        return taken

    @property
    def idle(self) -> bool:
        """Whether there is nothing left to drive."""
        return not self._tickets

    def run(self, stop: threading.Event) -> None:
        """Drive until all jobs are through or ``stop`` is set; then give back the leases of jobs not under way."""
        try:
            while not self.idle and not stop.is_set():
                due = self.tick()
                self.wake.clear()
                if self._ready() or stop.is_set():
                    continue
                self._tools.clock.wait(max(0.01, due - self._tools.clock.now()), self.wake)
        finally:
            self._tools.uploads.close()
            # After a StoreError the leases cannot be given back either, and trying takes as long again: the next
            # process finds them by the death of this one.
            if not isinstance(sys.exception(), StoreError):
                self._settle(stop)
                self.release()

    def _settle(self, stop: threading.Event) -> None:
        """Give work under way a moment to commit what it is doing before the process ends."""
        patience = GRACE if stop.is_set() else 0.0
        until = self._tools.clock.now() + patience
        while self.under_way and self._tools.clock.now() < until:
            self._tools.clock.wait(0.05)

    def tick(self) -> float:
        """Do what is due without waiting; return when there will be something to do again (seconds, epoch)."""
        now = self._tools.clock.now()
        self._collect()
        if self._fatal is not None:
            raise self._fatal
        self._renew(now)
        for region in self._regions.values():
            self._tend(region, now)
        if self._ready():
            return now
        quiet = [r for r in self._regions.values() if r.poll is None]
        return min([self._renew_at, *(max(region.next_poll, self._earliest(region)) for region in quiet)])

    def release(self) -> None:
        """Give up the jobs that are not under way; those under way are found by the death of this process."""
        self._collect()
        for ticket in list(self._tickets.values()):
            if ticket.work is not None:
                continue
            del self._tickets[ticket.job_id]
            now = self._tools.clock.now()
            try:
                with self._tools.store.write() as conn:
                    values = {"status": Status.WAITING.value, "lease_owner": None, "lease_until": None}
                    jobs.change(conn, ticket.job_id, ticket.lease, now, **values)
            except LeaseLostError:
                continue

    @property
    def under_way(self) -> int:
        """How many jobs are being worked on, and regions being looked at, at this moment."""
        work = [t.work for t in self._tickets.values()] + [r.poll for r in self._regions.values()]
        return sum(1 for future in work if future is not None and not future.done())

    def _ready(self) -> bool:
        """Whether there is something to do at once: results to collect, or nothing left to drive."""
        futures = [t.work for t in self._tickets.values()] + [r.poll for r in self._regions.values()]
        return not self._tickets or any(future is not None and future.done() for future in futures)

    def _earliest(self, region: _Region) -> float:
        waiting = [t.due for t in self._tickets.values() if t.region == region.name and t.work is None]
        return min(waiting, default=float("inf"))

    def _collect(self) -> None:
        for ticket in list(self._tickets.values()):
            if ticket.work is not None and ticket.work.done():
                self._finish(ticket, ticket.work)
        for region in self._regions.values():
            if region.poll is not None and region.poll.done():
                self._looked(region, region.poll)

    def _finish(self, ticket: _Ticket, work: Future[object]) -> None:
        ticket.work = None
        error = work.exception()
        if isinstance(error, LeaseLostError):
            log.warning("%s", error)
            del self._tickets[ticket.job_id]
            return
        if error is not None:
            self._fatal = error
            return
        verdict = work.result()
        assert isinstance(verdict, Verdict)
        ticket.due = verdict.due
        ticket.kinds = verdict.kinds
        ticket.hosts = verdict.hosts
        if verdict.ended:
            del self._tickets[ticket.job_id]

    def _looked(self, region: _Region, poll: Future[object]) -> None:
        region.poll = None
        now = self._tools.clock.now()
        error = poll.exception()
        if error is None:
            found = poll.result()
            assert isinstance(found, RegionView)
            region.view = found
            region.failures = 0
            region.next_poll = found.at + self._pace.poll_interval
            self._start(region, found)
        elif isinstance(error, EbspubError):
            region.failures += 1
            region.error = error.what
            region.next_poll = now + max(self._pace.poll_interval, retry.delay(region.failures, self._tools.rng))
            log.info("%s does not answer: %s", region.name, error.what)
            self._blame(region, error)
        else:
            self._fatal = error

    def _start(self, region: _Region, view: RegionView) -> None:
        """Hand the jobs that were due when the region was looked at to the pool."""
        clients = self._clients.region(region.name)
        for ticket in self._tickets.values():
            if ticket.region == region.name and ticket.work is None and ticket.due <= view.at:
                ticket.work = self._submit(self._drive(ticket, view, clients))

    def _drive(self, ticket: _Ticket, view: RegionView, clients: RegionClients) -> Callable[[], object]:
        def work() -> Verdict:
            return self._driver.drive(ticket.job_id, ticket.lease, view, clients)

        return work

    def _tend(self, region: _Region, now: float) -> None:
        """Look at the region if somebody waits for it and it is time."""
        waiting = [t for t in self._tickets.values() if t.region == region.name and t.work is None and t.due <= now]
        if region.poll is not None or not waiting or now < region.next_poll:
            return
        mine = [t for t in self._tickets.values() if t.region == region.name]
        kinds = frozenset().union(*(t.kinds for t in mine))
        ids = frozenset(t.job_id for t in mine).union(*(t.hosts for t in mine))
        names = [t.name for t in mine]
        store = self._tools.store.id

        def poll() -> RegionView:
            reader = self._clients.region(region.name).reader
            return views.look(reader, store=store, jobs=ids, names=names, kinds=kinds, at=now)

        region.poll = self._submit(poll)

    def _submit(self, work: Callable[[], object]) -> Future[object]:
        future = self._executor.submit(work)
        future.add_done_callback(lambda _: self.wake.set())
        return future

    def _renew(self, now: float) -> None:
        if now < self._renew_at:
            return
        self._renew_at = now + self._pace.renew_interval
        held = {(t.job_id, t.lease.epoch) for t in self._tickets.values()}
        with self._tools.store.write() as conn:
            ours = leases.renew(conn, self._owner, held, now + self._tools.lease_time)
        for ticket in list(self._tickets.values()):
            if ticket.work is None and ticket.job_id not in ours:
                log.warning("%s: another process took this job over", ticket.job_id)
                del self._tickets[ticket.job_id]
            elif ours.get(ticket.job_id) and ticket.kinds != self._tools.cleanup.kinds:
                ticket.kinds, ticket.due = self._tools.cleanup.kinds, now

    def _blame(self, region: _Region, error: EbspubError) -> None:
        """Tell the waiting jobs of a silent region why they wait; fail those whose step is overdue."""
        for ticket in self._tickets.values():
            if ticket.region == region.name and ticket.work is None:
                fatal = isinstance(error, AwsError) and error.todo != ""
                ticket.work = self._submit(self._report(ticket, error, fatal=fatal))

    def _report(self, ticket: _Ticket, error: EbspubError, *, fatal: bool) -> Callable[[], object]:
        def work() -> Verdict:
            return self._driver.unseen(ticket.job_id, ticket.lease, error, fatal=fatal)

        return work


__all__: Sequence[str] = ("Executor", "Pace", "Scheduler")
