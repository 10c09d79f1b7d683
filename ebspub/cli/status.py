"""`ebspub status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebspub.cli import complete, describe, options, output

if TYPE_CHECKING:
    from ebspub.config import Config

#: Seconds between two looks of --watch.
INTERVAL = 2.0


def status(
    ctx: typer.Context,
    *,
    build: Annotated[
        list[str] | None,
        typer.Option(
            "--build",
            metavar="BUILD",
            help="Only this suite, serial, suite-build or suite-build-serial (repeatable).",
            autocompletion=complete.published_builds,
        ),
    ] = None,
    region: options.Regions = None,
    as_json: options.AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 seconds until Ctrl-C.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="One line a job with all its ids, as in a pipe.")] = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Show every job and how far it got.

    With what happens to it now, and its last error with AWS's request id. Works while another process publishes, and
    changes nothing. The table fits a terminal of 80 columns; in a pipe, every job is one line with all its ids.
    --json prints {"jobs": [...]}; with --watch one such document a line.

    Examples:
      ebspub status
      ebspub status --build lucid --region us-east-1 --watch
      ebspub status --json | jq -r '.jobs[] | select(.status == "failed") | .id'
    """
    settings = options.configuration(ctx, config)
    look = _Look(settings, build or (), region or ())
    if watch:
        _watch(look, as_json=as_json, wide=wide)
        return
    jobs = look.jobs()
    if as_json:
        output.out_json({"jobs": jobs or []})
    elif not jobs:
        output.out(look.nothing(jobs))
    elif output.on_terminal() and not wide:
        from rich.console import Console

        from ebspub.cli.tables import overview

        Console().print(overview(jobs))
    else:
        _print_lines(jobs)


class _Look:
    """A look at the jobs that were asked for."""

    def __init__(self, config: Config, builds: Sequence[str], regions: Sequence[str]) -> None:
        self._config = config
        self._builds = builds
        self._regions = regions

    def jobs(self) -> list[dict[str, Any]] | None:
        """Return the jobs as documents; None where there is no state database."""
        from ebspub.app.report import job_document
        from ebspub.clock import SystemClock
        from ebspub.store import jobs

        now = SystemClock().now()
        with options.existing_store(self._config) as store:
            if store is None:
                return None
            with store.read() as conn:
                found = jobs.find(conn, builds=self._builds, regions=self._regions)
        return [job_document(job, now) for job in found]

    def nothing(self, jobs: Sequence[object] | None) -> str:
        """Return what to say where there is no job."""
        if jobs is None:
            where = self._config.store_url_redacted()
            return f"no jobs yet: there is no state database at {where}; `ebspub run` makes it"
        return "no jobs match" if self._builds or self._regions else "no jobs yet: `ebspub run` plans them"


def _print_lines(jobs: Sequence[dict[str, Any]]) -> None:
    for line in describe.lines(jobs):
        output.out(line)


def _watch(look: _Look, *, as_json: bool, wide: bool) -> None:
    """Look again and again; Ctrl-C is the way to end it, not an interruption."""
    from ebspub.clock import SystemClock

    try:
        if output.on_terminal() and not (as_json or wide):
            _watch_terminal(look)
        while not output.unread():
            jobs = look.jobs()
            if as_json:
                output.out_json({"jobs": jobs or []}, compact=True)
            elif not jobs:
                output.out(look.nothing(jobs))
            else:
                _print_lines(jobs)
            SystemClock().wait(INTERVAL)
    except KeyboardInterrupt:
        return


def _watch_terminal(look: _Look) -> None:
    """Redraw the table on the terminal until Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from ebspub.cli.tables import fitting
    from ebspub.clock import SystemClock

    console = Console()
    with Live(console=console, auto_refresh=False) as screen:
        while True:
            jobs = look.jobs()
            height = console.size.height - 1
            shown = fitting(jobs, console, height) if jobs else Text(look.nothing(jobs))
            screen.update(shown, refresh=True)
            SystemClock().wait(INTERVAL)
