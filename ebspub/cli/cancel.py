"""`ebspub cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from ebspub.cli import complete, options


def cancel(
    ctx: typer.Context,
    *,
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB", help="Ids of jobs.", autocompletion=complete.job_ids)],
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Stop jobs and remove what they made.

    Builder, volume, snapshot, security group: nothing of them is left. A job that another process drives is cleaned
    up by that process; this command then says so and exits with 75. A registered job cannot be cancelled. `ebspub
    run` leaves cancelled jobs alone; `ebspub resume JOB` starts one again.

    Examples:
      ebspub cancel lucid-server-20101020-amd64-us-east-1
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        options.require_store(settings, job_ids)

        from ebspub.app import publish
        from ebspub.cli.conduct import conduct

        conduct(
            settings,
            job_ids,
            signals,
            lambda runtime, listen: publish.cancel(runtime, job_ids, listen),
            busy="the process that drives it has been told to clean up",
        )
