"""Tell others what happened: a build was published, a job failed, a run finished with failures.

Beside the work, in a thread of its own, one after the other. Nothing that goes wrong here changes what came of the
work: it is logged. What is told is a JSON document (the keys are a stable interface):

    {"event": "failed", "at": "2026-11-22T08:00:00Z", "jobs": [...]}
    {"event": "published", "at": ..., "release": {...}, "jobs": [...]}
    {"event": "finished", "at": ..., "command": "run", "exit_code": 3, "jobs": [...], "errors": [...]}

``jobs`` are as of `status --json`, ``release`` as of `show BUILD --json`. That a build is public is on record until it
is told (:mod:`ebspub.store.notices`): who could not be told, or was not because a process died, is told by the next one
within a day.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ebspub.app.notify import sinks
from ebspub.app.release import Released
from ebspub.app.report import job_document, release_document
from ebspub.clock import Clock, SystemClock, isoformat
from ebspub.config import Config
from ebspub.config.notify import NotifyTable, Occasion
from ebspub.errors import EbspubError, StoreError
from ebspub.states import Status
from ebspub.store import Job, Store, notices, releases
from ebspub.store.leases import this_process
from ebspub.store.notices import Notice
from ebspub.store.tables import ReleaseState

log = logging.getLogger(__name__)
#: Seconds after which nobody is told any more that a build is public.
_GIVE_UP = 86_400.0


class Notifier:
    """Tells what happened, as `[notify]` has it."""

    def __init__(self, table: NotifyTable, store: Store, clock: Clock | None = None) -> None:
        self._table, self._store, self._clock = table, store, clock or SystemClock()
        self._sinks = {
            "command": sinks.command if table.command else None,
            "webhook": sinks.webhook if table.webhook or table.webhook_env else None,
            "sns": sinks.sns if table.sns else None,
        }
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="notify")
        self._owner = this_process()

    def listen(self, job: Job, action: str) -> None:
        """Tell of a job that failed; what else happens to jobs is nobody's business."""
        if action == "failed" and job.status is Status.FAILED and self._tells("failed"):
            self._send("failed", {"jobs": [job_document(job, self._clock.now())]})

    def published(self) -> None:
        """Tell of every build that is public, or is so with more or as something else, and that was not told yet."""
        now, patience = self._clock.now(), self._table.timeout * len(self._sinks) + 60.0
        with self._store.write() as conn:
            found = notices.take(conn, self._owner, now, lambda count: now + patience * count)
        for notice in found:
            document = self._public(notice) if self._tells("published") else None
            if document is None:
                self._give_back(notice, notice.told, ended=True)
            else:
                self._pool.submit(self._notice, notice, self._whole("published", document))

    def finished(
        self, command: str, exit_code: int, jobs: Sequence[Job] | None, released: Sequence[Released] = ()
    ) -> None:
        """Tell of a command that finished with failures (exit code 3); of any other nothing.

        ``jobs``: those that it was about; None: those of ``released``.
        """
        if exit_code != EbspubError.exit_code or not self._tells("finished"):
            return
        if jobs is None:
            with self._store.read() as conn:
                known = [releases.get(conn, each.id) for each in released]
                jobs = [j for r in known if r for j in releases.jobs_of(conn, r.suite, r.build, r.serial)]
        now = self._clock.now()
        errors = [
            {"release": each.id, "region": region or None, "message": error.what, "todo": error.todo}
            for each in released
            for region, error in each.errors.items()
        ]
        told = {"command": command, "exit_code": exit_code, "errors": errors}
        self._send("finished", {**told, "jobs": [job_document(job, now) for job in jobs]})

    def close(self, *, wait: bool = True) -> None:
        """Wait until all is told; without ``wait`` what has not begun is given up."""
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    def _tells(self, occasion: Occasion) -> bool:
        return occasion in self._table.on and any(self._sinks.values())

    def _public(self, notice: Notice) -> dict[str, Any] | None:
        """Return what is to be told, as it is now; None where the build is not public any more."""
        with self._store.read() as conn:
            release = releases.get(conn, notice.release_id)
            if release is None or release.state is not ReleaseState.PUBLISHED:
                return None
            shown = {each.job_id for each in releases.announced(conn) if each.release_id == release.id}
            known = releases.jobs_of(conn, release.suite, release.build, release.serial)
        now = self._clock.now()
        jobs = [job_document(job, now) for job in known if job.id in shown]
        return {"release": release_document(release, known, shown), "jobs": jobs}

    def _whole(self, event: Occasion, document: Mapping[str, Any]) -> dict[str, Any]:
        return {"event": event, "at": isoformat(self._clock.now()), **document}

    def _send(self, event: Occasion, document: Mapping[str, Any]) -> None:
        whole = self._whole(event, document)
        for name, sink in self._sinks.items():
            if sink is not None:
                self._pool.submit(self._one, name, sink, whole)

    def _notice(self, notice: Notice, document: Mapping[str, Any]) -> None:
        """Tell those who do not know yet, and write down who does."""
        wanted = {name: sink for name, sink in self._sinks.items() if sink is not None}
        told = set(notice.told)
        for name, sink in wanted.items():
            if name not in told and self._one(name, sink, document):
                told.add(name)
        late = self._clock.now() > notice.at + _GIVE_UP
        try:
            self._give_back(notice, told, ended=late or wanted.keys() <= told)
        except StoreError as error:
            log.warning("notify: not on record that %s was told: %s", notice.release_id, error.what)

    def _give_back(self, notice: Notice, told: Collection[str], *, ended: bool) -> None:
        with self._store.write() as conn:
            ended_at = self._clock.now() if ended else None
            notices.give_back(conn, notice, self._owner, told, ended_at=ended_at)

    def _one(self, name: str, sink: sinks.Sink, document: Mapping[str, Any]) -> bool:
        """Tell one of them; return whether it took it."""
        try:
            sink(self._table, document)
        except EbspubError as error:
            log.warning("notify.%s: nobody was told of %r: %s", name, document["event"], error.what)
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on; its text may hold a secret
            log.warning("notify.%s: nobody was told of %r: %s", name, document["event"], type(error).__name__)
        else:
            return True
        return False


@contextmanager
def notifying(config: Config, store: Store) -> Iterator[Notifier]:
    """Hand out a notifier, and wait at the end until all is told; not where the block is left by an error."""
    notifier = Notifier(config.notify, store)
    done = False
    try:
        yield notifier
        done = True
    finally:
        notifier.close(wait=done)
