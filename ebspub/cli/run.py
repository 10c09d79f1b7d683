"""`ebspub run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ebspub.cli import options

if TYPE_CHECKING:
    from ebspub.app.runtime import Runtime
    from ebspub.engine.driver import Listener


def run(
    ctx: typer.Context,
    *,
    suite: options.Suites = None,
    serial: options.Serials = None,
    arch: options.Arches = None,
    region: options.Regions = None,
    build: options.Builds = None,
    label: options.Labels = None,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Publish what is not registered yet.

    Every configured build is published in every region for every arch. What is registered is skipped, what was
    interrupted or failed goes on at its last completed step. With a region that copies the snapshot of another one
    (fan_out), that one is published, too, if it is not yet. Made for cron: prints nothing and exits with 0 when
    there is nothing to do, and exits with 75 when another run is at work. Builds with publish = "auto" are made public
    at the end (see `ebspub publish`), once they are complete.

    Exit codes: 0 all registered, 2 usage or configuration, 3 some jobs failed, 4 state database, 75 another process
    is at the work, 130 and 143 interrupted (resumable).

    Examples:
      ebspub run
      ebspub run --suite lucid --serial 20101020 --arch amd64 --arch i386
      ebspub run --region us-east-1 --config /etc/ebspub/ebspub.toml
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)
        choice = options.Choice(suite, serial, arch, region, build, label)
        found = options.found_specs(settings, choice)

        from ebspub.app import publish
        from ebspub.app.release.auto import publish_complete
        from ebspub.cli.conduct import conduct

        specs = options.fit(found)
        with options.existing_store(settings) as store:
            first = store is None
        if first:
            publish.require_credentials(settings, specs)

        options.tell_also(found.also)
        job_ids = [spec.job_id for spec in specs]
        worst = 0 if found.complete and not found.unfit else 3

        def work(runtime: Runtime, listen: Listener) -> publish.Result:
            return publish_complete(runtime, specs, publish.run(runtime, specs, listen))

        conduct(settings, job_ids, signals, work, worst=worst, told_as="run")
