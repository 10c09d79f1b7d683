"""What a run tells while it works: lines where nobody watches, a live table on a terminal.

:meth:`Lines.listen` and :meth:`Live.listen` are called from worker threads, after each commit of a job.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from ebspub.cli import describe, output
from ebspub.clock import isoformat
from ebspub.errors import StoreError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ebspub.store import Job, Store

#: Seconds between two frames of the live table.
FRAME = 0.5


class Reporter(Protocol):
    """Told of each change of a job."""

    def listen(self, job: Job, action: str) -> None:
        """Take note of ``job``, to which ``action`` has just happened. Any thread."""

    def resumable(self) -> int:
        """Return how many jobs have not ended, as far as is known. Any thread; takes no lock."""


class _Count:
    """Which of the jobs that were asked for have not ended."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self._open = dict.fromkeys(job_ids)

    def note(self, job: Job) -> None:
        if job.ended:
            self._open.pop(job.id, None)

    def __len__(self) -> int:
        return len(self._open)


class Lines:
    """One line on stdout for each completed step; what went wrong goes to stderr, with AWS's request id."""

    def __init__(self, job_ids: Sequence[str]) -> None:
        self._count = _Count(job_ids)

    def listen(self, job: Job, action: str) -> None:
        """Write a line, unless the job only waits or tries a call again."""
        self._count.note(job)
        if action in ("waiting", "retry"):
            return
        told = completed_line(job)
        if action == "failed" or action.startswith("lose_"):
            output.err(f"{told}{_reason(job)}")
            return
        output.out(told)

    def resumable(self) -> int:
        """Return how many jobs have not ended."""
        return len(self._count)


def completed_line(job: Job) -> str:
    """Return `2026-11-22T08:00:00Z lucid-server-20101020-amd64-us-east-1 snapshotted snap-0ab...`."""
    word = job.status.value if job.status.value in ("failed", "cancelled") else job.state.value
    found = None if word == "failed" else getattr(job, describe.ID_OF_STATE.get(word, ""), None)
    return " ".join(filter(None, (isoformat(job.updated_at), job.id, word, found)))


def _reason(job: Job) -> str:
    if job.error is None:
        return ""
    text = f": {describe.error_text(job.error.as_json())}"
    return f"{text}\n  {output.clean(job.error.todo)}" if job.error.todo else text


class Live:
    """A table of all jobs that redraws itself; errors are printed above it."""

    def __init__(self, store: Store, job_ids: Sequence[str]) -> None:
        self._store = store
        self._job_ids = tuple(job_ids)
        self._count = _Count(job_ids)
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}

    def listen(self, job: Job, action: str) -> None:
        """Remember the job for the next frame; say at once why it failed."""
        self._count.note(job)
        with self._lock:
            self._jobs[job.id] = job
        if action == "failed" or action.startswith("lose_"):
            output.err(f"{completed_line(job)}{_reason(job)}")

    def resumable(self) -> int:
        """Return how many jobs have not ended."""
        return len(self._count)

    def frame(self, console: Console) -> RenderableType:
        """Return what the terminal shows now; it fits."""
        from ebspub.app.report import job_document
        from ebspub.cli.tables import fitting

        self._fetch_missing()
        with self._lock:
            jobs = [self._jobs[each] for each in self._job_ids if each in self._jobs]
        return fitting([job_document(job, time.time()) for job in jobs], console, console.size.height - 1)

    def _fetch_missing(self) -> None:
        """Read the jobs that nothing was heard of yet; those of other processes are heard of this way only."""
        from ebspub.store import jobs

        with self._lock:
            missing = [each for each in self._job_ids if each not in self._jobs]
        if missing:
            with self._store.read() as conn:
                found = jobs.find(conn, ids=missing)
            with self._lock:
                for job in found:
                    self._jobs.setdefault(job.id, job)


@contextmanager
def reporting(store: Store, job_ids: Sequence[str]) -> Iterator[Reporter]:
    """Tell of the jobs ``job_ids`` in the way that suits stdout."""
    if not output.on_terminal():
        yield Lines(job_ids)
        return
    live = Live(store, job_ids)
    with drawing(live):
        yield live


@contextmanager
def drawing(live: Live) -> Iterator[None]:
    """Redraw ``live`` on the terminal until the end of the block; the table is then taken away."""
    from rich.console import Console
    from rich.live import Live as Screen

    console = Console()
    end = threading.Event()

    def redraw() -> None:
        # Not at once: a run that finds nothing to do draws nothing.
        if end.wait(FRAME):
            return
        # stderr only where it is the same terminal: what goes to a file must not come out on the screen.
        with Screen(console=console, auto_refresh=False, transient=True, redirect_stderr=sys.stderr.isatty()) as screen:
            while True:
                # A database that cannot be read is the work's to tell; the table waits for better times.
                with suppress(StoreError):
                    screen.update(live.frame(console), refresh=True)
                if end.wait(FRAME):
                    return

    thread = threading.Thread(target=redraw, name="ebspub-table", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
