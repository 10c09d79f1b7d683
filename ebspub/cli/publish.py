"""`ebspub publish`."""

from __future__ import annotations

from typing import Annotated

import typer

from ebspub.cli import complete, options, released


def publish(
    ctx: typer.Context,
    *,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="BUILD",
            help="Builds: suite-build-serial, or suite-build for its newest.",
            autocompletion=complete.registered_builds,
        ),
    ],
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="LABEL",
            help="Publish under this label: a daily build becomes a release. Nothing is registered again.",
            autocompletion=complete.labels,
        ),
    ] = None,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Make registered builds public, or see that they are.

    Once all jobs of a build are registered (or what [publish] requires of them): the permissions of the snapshots,
    those of the AMIs, the SSM parameters, the feeds, in this order. Makes only the calls that are missing, so that
    publishing again goes on after an interruption, brings back what somebody changed, takes back what is not configured
    any more, adds regions that came late, and does nothing where nothing is amiss. `ebspub plan` shows what is.

    Exit codes: 0 published, 2 usage or configuration, 3 something stands in the way (the message says what, and in
    which region; the others are published), 4 state database, 75 another process is at it, 130 and 143 interrupted.

    Examples:
      ebspub publish lucid-server-20101020
      ebspub publish lucid-server --label release
      ebspub publish lucid-server noble-server --json
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        options.require_store(settings, targets)

        from ebspub.app import release as app
        from ebspub.app.notify import notifying
        from ebspub.app.runtime import Stop, runtime
        from ebspub.config.values import require_label

        if label is not None:
            require_label(label)
        stop = Stop()
        with runtime(settings, stop) as found, notifying(settings, found.store) as notifier:
            signals.arm(stop.request, lambda: released.INTERRUPTED)
            result = app.publish(found, targets, released.teller(as_json), label=label)
            notifier.published()
            notifier.finished("publish", result.exit_code, None, result.releases)
    released.sum_up(result, as_json=as_json, verb="publish")
    raise typer.Exit(result.exit_code)
