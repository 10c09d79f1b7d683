"""`ebspub unpublish`."""

from __future__ import annotations

from typing import Annotated

import typer

from ebspub.cli import complete, options, released


def unpublish(
    ctx: typer.Context,
    *,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="BUILD",
            help="Builds that were published: suite-build-serial, or suite-build for the newest.",
            autocompletion=complete.registered_builds,
        ),
    ],
    anyway: Annotated[
        bool,
        typer.Option(
            "--revoke-anyway",
            help="Revoke also where a copy of the feeds (bucket, rsync) cannot be brought up to date: it then goes on "
            "naming AMIs that nobody may launch. The folder itself must have been written.",
        ),
    ] = False,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Take builds back from the public.

    Nobody finds them any more, then nobody may launch them: out of the feeds first, then out of the SSM parameters (one
    that goes from build to build holds the newest published build before it again, or is deleted), then the permissions
    of the AMIs are revoked, then those of the snapshots. AMIs and snapshots stay, and so do instances that run.
    `ebspub publish` makes the build public again; `ebspub run` does not. As long as the feeds cannot be written nothing
    is revoked: what others find must stay usable. --revoke-anyway is for a bad build and a bucket or host that is dead:
    the build is taken back all the same, the exit code is 3, and `ebspub unpublish` again ends it when they are back.

    Exit codes: as of `ebspub publish`.

    Examples:
      ebspub unpublish lucid-server-20101020
      ebspub unpublish lucid-server --json
      ebspub unpublish --revoke-anyway lucid-server-20101020
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        options.require_store(settings, targets)

        from ebspub.app import release as app
        from ebspub.app.notify import notifying
        from ebspub.app.runtime import Stop, runtime

        stop = Stop()
        with runtime(settings, stop) as found, notifying(settings, found.store) as notifier:
            signals.arm(stop.request, lambda: released.INTERRUPTED)
            result = app.unpublish(found, targets, released.teller(as_json), anyway=anyway)
            notifier.finished("unpublish", result.exit_code, None, result.releases)
    released.sum_up(result, as_json=as_json, verb="unpublish")
    raise typer.Exit(result.exit_code)
