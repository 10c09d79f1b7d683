"""`ebspub resume`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ebspub.cli import complete, options, output

if TYPE_CHECKING:
    from ebspub.config import Config


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
    beginning. With a job that waits for the snapshot of another one (fan_out), that one is driven, too.

    Examples:
      ebspub resume
      ebspub resume lucid-server-20101020-amd64-us-east-1
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        wanted = _open_jobs(settings, job_ids or [])
        if not wanted:
            if output.on_terminal():
                output.out("nothing to resume")
            return

        from ebspub.app import publish
        from ebspub.cli.conduct import conduct

        with options.existing_store(settings) as store:
            also = [job.id for job in publish.followed(store, wanted)] if store is not None and job_ids else []
        options.tell_also(also)
        wanted = [*also, *wanted]
        conduct(settings, wanted, signals, lambda runtime, listen: publish.resume(runtime, job_ids or [], listen))


def _open_jobs(config: Config, job_ids: list[str]) -> list[str]:
    """Return the ids of the jobs that will be resumed; where some are named, `resume` itself checks that they exist."""
    from ebspub.store import jobs

    if job_ids:
        options.require_store(config, job_ids)
        return job_ids
    with options.existing_store(config) as store:
        if store is None:
            return []
        with store.read() as conn:
            return [job.id for job in jobs.find(conn) if not job.ended]
