"""Tell others what happened: a build was published, a job failed, a run finished with failures.

Beside the work, in a thread of its own, one after the other. Nothing that goes wrong here changes what came of the
work: it is logged. What is told is a JSON document (the keys are a stable interface):

    {"event": "failed", "at": "2026-11-22T08:00:00Z", "jobs": [...]}
    {"event": "published", "at": ..., "release": {...}, "jobs": [...]}
    {"event": "finished", "at": ..., "command": "run", "exit_code": 3, "jobs": [...], "errors": [...]}

``jobs`` are as of `status --json`, ``release`` as of `show BUILD --json`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ebspub.app.notify import sinks
from ebspub.app.release import Released
from ebspub.app.report import job_document, release_document
from ebspub.clock import Clock, SystemClock, isoformat
from ebspub.config import Config
from ebspub.config.notify import NotifyTable, Occasion
from ebspub.errors import EbspubError
from ebspub.states import Status
from ebspub.store import Job, Store, releases
from ebspub.store.tables import ReleaseState

log = logging.getLogger(__name__)
#: What is public: of each published release its label, when it was published, and the jobs that others may find.
Public = Mapping[str, tuple[str, float | None, frozenset[str]]]


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
        self._before = self._public() if self._tells("published") else {}

    def listen(self, job: Job, action: str) -> None:
        """Tell of a job that failed; what else happens to jobs is nobody's business."""
        if action == "failed" and job.status is Status.FAILED and self._tells("failed"):
            self._send("failed", {"jobs": [job_document(job, self._clock.now())]})

    def published(self) -> None:
        """Tell of every build that is public now, and was not when this notifier was made, or not as this."""
        if not self._tells("published"):
            return
        for name, there in self._public().items():
            before = self._before.get(name)
            if before is not None and before[:2] == there[:2] and there[2] <= before[2]:
                continue
            with self._store.read() as conn:
                release = releases.get(conn, name)
                if release is None:
                    continue
                known = releases.jobs_of(conn, release.suite, release.build, release.serial)
            now = self._clock.now()
            jobs = [job_document(job, now) for job in known if job.id in there[2]]
            self._send("published", {"release": release_document(release, known, there[2]), "jobs": jobs})

    def finished(self, command: str, exit_code: int, jobs: Sequence[Job], released: Sequence[Released] = ()) -> None:
        """Tell of a run that finished with failures (exit code 3); of any other nothing."""
        if exit_code != EbspubError.exit_code or not self._tells("finished"):
            return
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

    def _public(self) -> Public:
        with self._store.read() as conn:
            known = [each for each in releases.find(conn) if each.state is ReleaseState.PUBLISHED]
            shown: dict[str, set[str]] = {each.id: set() for each in known}
            for row in releases.announced(conn):
                shown.setdefault(row.release_id, set()).add(row.job_id)
        return {each.id: (each.label, each.published_at, frozenset(shown[each.id])) for each in known}

    def _send(self, event: Occasion, document: Mapping[str, Any]) -> None:
        whole = {"event": event, "at": isoformat(self._clock.now()), **document}
        for name, sink in self._sinks.items():
            if sink is not None:
                self._pool.submit(self._one, name, sink, whole)

    def _one(self, name: str, sink: sinks.Sink, document: Mapping[str, Any]) -> None:
        try:
            sink(self._table, document)
        except EbspubError as error:
            log.warning("notify.%s: nobody was told of %r: %s", name, document["event"], error.what)
        except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on; its text may hold a secret
            log.warning("notify.%s: nobody was told of %r: %s", name, document["event"], type(error).__name__)


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
