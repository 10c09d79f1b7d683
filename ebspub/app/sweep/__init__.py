"""Reconcile this database and the account, both ways.

Whatever carries this database's tag and is needed by no job is removed; whatever this database believes in and is not
there is marked. What carries another database's tag, or none, is never touched. The rules are in ``judge``, the calls
in ``remove``, the other way in ``gone``.

The account is listed before the database is read. Every thing's intent is committed before the call that makes it, so
that whatever a listing shows has its row by then: nothing that a driver makes meanwhile looks like nobody's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ebspub.app import accounts
from ebspub.app.sweep.gone import reconcile
from ebspub.app.sweep.judge import Fate, Verdict, judge_all
from ebspub.app.sweep.remove import Broom, Outcome, Patience
from ebspub.app.sweep.report import Action, Finding, Report
from ebspub.aws import account
from ebspub.aws.account import Owned
from ebspub.aws.clients import Clients
from ebspub.aws.costs import monthly
from ebspub.aws.failures import AwsError
from ebspub.clock import Clock
from ebspub.config import Config
from ebspub.config.regions import region_fault
from ebspub.errors import StoreError, UsageError
from ebspub.store import Job, Store, jobs, migrate
from ebspub.store.database import connect, sqlite_file, told

__all__ = ["GRACE", "Action", "Finding", "Patience", "Report", "open_store", "regions_of", "sweep"]

#: Seconds for which a thing that nobody needs is left alone.
GRACE = 3600.0
_WORKERS = 16
_ACTIONS = {Fate.REMOVE: Action.REMOVE, Fate.YOUNG: Action.YOUNG, Fate.REPORT: Action.REPORT}


def open_store(config: Config, *, dry_run: bool) -> Store | None:
    """Open the state database; None where there is none, and none is made.

    A dry run does not upgrade it either. Raises StoreError.
    """
    url = config.store_url()
    file = sqlite_file(url)
    if not dry_run or (file is not None and not file.exists()):
        return Store.open_existing(url)
    with told(url):
        engine = connect(url)
        try:
            revision = migrate.current(engine)
        finally:
            engine.dispose()
    if revision not in (None, migrate.HEAD):
        raise StoreError(
            f"the state database {config.store_url_redacted()} is of revision {revision}",
            todo="A dry run does not upgrade it: run `ebspub db upgrade` first.",
        )
    return Store.open_existing(url)


def regions_of(config: Config, store: Store, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the regions to sweep: ``wanted``, else all of the configuration and of the database, sorted.

    Raises UsageError for a name that is no region.
    """
    with store.read() as conn:
        known = {
            *config.regions,
            *(name for build in config.builds for name in build.regions or ()),
            *jobs.regions(conn),
        }
    for name in wanted:
        fault = region_fault(name, frozenset(known))
        if fault:
            raise UsageError(f"--region: found {name!r}, expected {fault}")
    return tuple(sorted(set(wanted) or known))


def sweep(
    store: Store,
    clients: Clients,
    regions: Sequence[str],
    *,
    clock: Clock,
    grace: float = GRACE,
    dry_run: bool = False,
    stop: threading.Event | None = None,
    patience: Patience | None = None,
) -> Report:
    """Sweep ``regions`` side by side; one region's failure is in the report and stops no other.

    ``grace`` in seconds. A dry run makes no call that changes anything and writes nothing. Raises StoreError,
    ConfigError (no credentials), UsageError (jobs of another account: with these credentials all of theirs would look
    lost).
    """
    report = Report(dry_run, tuple(regions))
    work = _Sweep(store, clients, clock, grace, dry_run, stop or threading.Event(), patience or Patience())
    work.check_accounts(regions, report)
    todo = [region for region in regions if region not in report.errors]
    if todo:
        with ThreadPoolExecutor(max_workers=min(_WORKERS, len(todo))) as pool:
            for found in pool.map(work.region, todo):
                report.findings += found.findings
                report.needed += found.needed
                report.errors |= found.errors
    return report


def _said(error: AwsError) -> str:
    return f"{error.what}; {error.todo}" if error.todo else error.what


@dataclass
class _Found:
    """One region's part of the report."""

    findings: list[Finding] = field(default_factory=list)
    needed: int = 0
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sweep:
    store: Store
    clients: Clients
    clock: Clock
    grace: float
    dry_run: bool
    stop: threading.Event
    patience: Patience

    def check_accounts(self, regions: Sequence[str], report: Report) -> None:
        """See that the credentials are for the account in which the regions' jobs were begun.

        Where that cannot be told, nothing is swept.
        """
        found = accounts.usable(self.clients, regions)
        with self.store.read() as conn:
            accounts.refuse_others(jobs.find(conn, regions=regions), found)
        for region in regions:
            answer = found[region]
            if isinstance(answer, AwsError):
                report.errors[region] = _said(answer)

    def region(self, region: str) -> _Found:
        """Look at one region, remove what nobody needs there, and mark what is gone."""
        found = _Found()
        try:
            self._region(region, found)
        except AwsError as error:
            found.errors[region] = _said(error)
        return found

    def _region(self, region: str, found: _Found) -> None:
        clients = self.clients.region(region)
        listed = account.owned(clients.reader, region, self.store.id)
        now = self.clock.now()
        verdicts, around = judge_all(listed, self._jobs(listed), now=now, grace=self.grace)
        found.needed = sum(1 for _, verdict in verdicts if verdict.fate in (Fate.KEEP, Fate.GOING))
        done: dict[str, Outcome] = {}
        try:
            if not self.dry_run:
                condemned = [(thing, verdict) for thing, verdict in verdicts if verdict.fate is Fate.REMOVE]
                going = [thing for thing, verdict in verdicts if verdict.fate is Fate.GOING]
                broom = Broom(self.store, self.clock, clients, around, self.patience, self.stop)
                broom.sweep(condemned, going, done)
        finally:
            found.findings += self._told(verdicts, done)
        if not self.stop.is_set():
            found.findings += reconcile(self.store, clients, listed, now=self.clock.now(), dry_run=self.dry_run)

    def _jobs(self, listed: Sequence[Owned]) -> dict[str, Job]:
        ids = sorted({thing.job for thing in listed})
        with self.store.read() as conn:
            return {
                job.id: job
                for start in range(0, len(ids), 500)
                for job in jobs.find(conn, ids=ids[start : start + 500])
            }

    def _told(self, verdicts: Sequence[tuple[Owned, Verdict]], done: dict[str, Outcome]) -> list[Finding]:
        findings = []
        for thing, verdict in verdicts:
            action, reason = _ACTIONS.get(verdict.fate), verdict.reason
            if action is None:
                continue
            if action is Action.REMOVE and not self.dry_run:
                outcome = done.get(thing.id, Outcome(Action.LATER, f"{verdict.reason}; the sweep did not get to it"))
                action, reason = outcome.action, outcome.reason
            cost = monthly(thing.kind, kind_of=thing.kind_of, size=thing.size)
            findings.append(Finding(thing.region, thing.kind, thing.id, thing.job, action, reason, cost))
        return findings
