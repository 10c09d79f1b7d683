"""Carry out run, resume and cancel: tell what happens, mind the signals, sum up, exit with the documented code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

from ebspub.cli import describe, output, released
from ebspub.cli.reporter import reporting
from ebspub.cli.signals import Watch

if TYPE_CHECKING:
    from ebspub.app.publish import Result
    from ebspub.app.runtime import Runtime
    from ebspub.config import Config
    from ebspub.engine.driver import Listener
    from ebspub.store import Job

Work = Callable[["Runtime", "Listener"], "Result"]


def conduct(
    config: Config,
    job_ids: Sequence[str],
    watch: Watch,
    work: Work,
    *,
    busy: str = "another process is at work on it",
    worst: int = 0,
    told_as: str = "",
) -> None:
    """Do ``work`` on the jobs ``job_ids`` and tell how it went; ``busy`` is said of jobs that another process drives.

    ``worst`` is the exit code where all went well with them; ``told_as`` the command's name, for those who are told of
    its failures.

    Raises typer.Exit with the exit code, and EbspubError.
    """
    from ebspub.app.notify import notifying
    from ebspub.app.runtime import Stop, runtime

    stop = Stop()
    with runtime(config, stop) as found, notifying(config, found.store) as notifier:
        with reporting(found.store, job_ids) as reporter:

            def listen(job: Job, action: str) -> None:
                reporter.listen(job, action)
                notifier.listen(job, action)

            watch.arm(stop.request, lambda: _interrupted(reporter.resumable()))
            result = work(found, listen)
        if told_as and not result.signal:
            notifier.published()
            notifier.finished(told_as, result.exit_code or worst, result.jobs, result.released)
        if result.signal:
            notifier.close(wait=False)
        _sum_up(result, busy)
    if result.cut_short:
        # A thread is still in a call that may take minutes; the interpreter would wait for it.
        _leave(result.exit_code)
    raise typer.Exit(result.exit_code or worst)


def _interrupted(count: int) -> str:
    return f"interrupted; {output.plural(count, 'job')} resumable: run `ebspub resume`"


def _sum_up(result: Result, busy: str) -> None:
    """Print nothing where nothing was done and nothing is amiss: the usual case of a run from cron."""
    from ebspub.app.report import job_document
    from ebspub.clock import SystemClock

    now = SystemClock().now()
    jobs = [job_document(job, now) for job in result.jobs]
    if result.driven and jobs:
        if output.on_terminal():
            _show(jobs)
        output.out(f"{output.plural(len(jobs), 'job')}: {describe.counted(jobs)}")
    released.tell(result.released)
    if result.busy:
        output.err(f"{_some([job.id for job in result.busy])}: {busy}")
    if result.signal:
        output.err(_interrupted(sum(1 for job in result.jobs if not job.ended)))


def _some(job_ids: Sequence[str]) -> str:
    more = f" and {len(job_ids) - 3} more" if len(job_ids) > 3 else ""
    return ", ".join(job_ids[:3]) + more


def _show(jobs: Sequence[describe.Document]) -> None:
    from rich.console import Console

    from ebspub.cli.tables import overview

    Console().print(overview(jobs))


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
