"""`ebspub resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ebspub.cli import complete, options, output

if TYPE_CHECKING:
    from ebspub.app.runtime import Runtime
    from ebspub.config import Config
    from ebspub.engine.driver import Listener


def resume(
    ctx: typer.Context,
    *,
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB", help="Ids of jobs; default: all that have not ended.", autocompletion=complete.job_ids
        ),
    ] = None,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Go on with interrupted and failed jobs.

    Each goes on at its last completed step. Nothing is planned anew. A cancelled job that is named starts from the
    beginning. With a job that waits for the snapshot of another one (fan_out), that one is driven, too. Where no job is
    named, what interrupted test boots (`ebspub verify`) left is removed first.

    Examples:
      ebspub resume
      ebspub resume lucid-server-20101020-amd64-us-east-1
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        wanted, boots = _open_jobs(settings, job_ids or [])
        if not (wanted or boots):
            if output.on_terminal():
                output.out("nothing to resume")
            return

        from ebspub.app import publish
        from ebspub.cli.conduct import conduct

        def work(found: Runtime, listen: Listener) -> publish.Result:
            if boots:
                _clean_up(found)
            return publish.resume(found, job_ids or [], listen)

        with options.existing_store(settings) as store:
            also = [job.id for job in publish.followed(store, wanted)] if store is not None and job_ids else []
        options.tell_also(also)
        wanted = [*also, *wanted]
        conduct(settings, wanted, signals, work, told_as="resume")


def _open_jobs(config: Config, job_ids: list[str]) -> tuple[list[str], bool]:
    """Return the ids of the jobs that will be resumed, and whether interrupted test boots have left something.

    Where some are named, `resume` itself checks that they exist.
    """
    from ebspub.clock import SystemClock
    from ebspub.store import jobs, verifications

    if job_ids:
        options.require_store(config, job_ids)
        return job_ids, False
    with options.existing_store(config) as store:
        if store is None:
            return [], False
        with store.read() as conn:
            known = jobs.find(conn)
    wanted = [job.id for job in known if not job.ended]
    return wanted, bool(verifications.left_over(known, SystemClock().now()))


def _clean_up(found: Runtime) -> None:
    """Remove what test boots left; what cannot be removed keeps no job waiting."""
    from ebspub.app import verify

    result = verify.clean_up(found)
    for job_id in result.outcomes:
        if not (result.signal or job_id in result.errors):
            output.out(f"{job_id}: what an interrupted test boot left is removed")
    for job_id, message in result.errors.items():
        output.err(f"{job_id}: {output.clean_lines(message)}")
