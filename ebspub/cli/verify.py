"""`ebspub verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebspub.cli import complete, options, output

if TYPE_CHECKING:
    from ebspub.app.verify import Result
    from ebspub.store import Job


def verify(
    ctx: typer.Context,
    *,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="AMI|BUILD",
            help="Ids of AMIs or of registered jobs, or builds: suite-build-serial; suite-build: its newest serial.",
            autocompletion=complete.job_ids,
        ),
    ],
    instance_types: Annotated[
        list[str] | None,
        typer.Option(
            "--instance-type", metavar="TYPE", help="Boot on this type, not the configured ones (repeatable)."
        ),
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Boot only where the AMI has not passed a test boot before.")
    ] = False,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Boot registered AMIs in EC2 and see that they work.

    For each instance type: launch, wait until it is up (by SSH, or by what its console says), compare what it says it
    is with what was published, write a file, stop, start, see that the file is still there, terminate. The outcome is
    recorded with the job when it is known, and shown by `ebspub show`. Nothing is left; what an interrupted one left is
    removed by the next, by `ebspub resume`, and by `ebspub sweep`. Exits with 3 where an AMI fails: with --missing, a
    gate before publication that costs nothing where all have passed.

    Examples:
      ebspub verify lucid-server-20101020
      ebspub verify lucid-server --missing
      ebspub verify ami-0a1b2c3d4e5f60718 --instance-type t3.micro --instance-type m5.large
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        options.require_store(settings, targets)

        from ebspub.app import verify as app
        from ebspub.app.runtime import Stop, runtime

        stop = Stop()
        with runtime(settings, stop) as found:
            signals.arm(stop.request, lambda: f"interrupted; {app.LEFT}")
            tell = _quiet if as_json else _tell
            result = app.verify(found, targets, instance_types or [], tell, missing=missing)
    if as_json:
        told = {"errors": result.errors, "busy": result.busy, "skipped": result.skipped}
        output.out_json({"verified": result.outcomes, **told})
    else:
        for job_id in result.skipped:
            output.out(f"{job_id}: verified before")
    _sum_up(result, app.LEFT)
    raise typer.Exit(result.exit_code)


def _tell(job: Job, instance_type: str, told: Mapping[str, Any]) -> None:
    how = told["message"] or f"by {told['by']}, identity {told['identity']}, file {told['file']}"
    output.out(f"{job.id} {told['ami']} {instance_type}: {told['result']}: {output.clean(how)}")


def _quiet(job: Job, instance_type: str, told: Mapping[str, Any]) -> None:
    del job, instance_type, told


def _sum_up(result: Result, left: str) -> None:
    for job_id, message in result.errors.items():
        output.err(f"{job_id}: {output.clean_lines(message)}")
    for job_id in result.busy:
        output.err(f"{job_id}: another process boots it")
    if result.signal:
        output.err(f"interrupted; {left}")
