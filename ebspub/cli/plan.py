"""`ebspub plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ebspub.cli import options, output

if TYPE_CHECKING:
    from ebspub.app.plan import Planned


def plan(
    ctx: typer.Context,
    *,
    suite: options.Suites = None,
    serial: options.Serials = None,
    arch: options.Arches = None,
    region: options.Regions = None,
    build: options.Builds = None,
    label: options.Labels = None,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Show what `ebspub run` would do, and why.

    Looks only: nothing is touched, nothing is written. Actions: publish, resume, adopt (this very build is registered
    already), skip, busy (another process drives it), refuse (the AMI name belongs to another image), unknown (the
    region did not answer). Exits with 3 where a job is to be refused or is unknown.

    Examples:
      ebspub plan
      ebspub plan --suite lucid --serial 20101020 --json
    """
    settings = options.configuration(ctx, config)
    choice = options.Choice(suite, serial, arch, region, build, label)
    specs = options.chosen_specs(settings, choice)

    from ebspub.app.plan import Action
    from ebspub.app.plan import plan as look
    from ebspub.aws.clients import BotoClients
    from ebspub.clock import SystemClock

    with options.existing_store(settings) as store:
        specs, all_proved = options.proved_specs(specs, store)
        planned = look(specs, store, BotoClients(), SystemClock().now())
    if as_json:
        output.out_json({"jobs": [_document(each) for each in planned]})
    else:
        _print(planned)
    if not all_proved or any(each.action in (Action.REFUSE, Action.UNKNOWN) for each in planned):
        raise typer.Exit(3)


def _document(planned: Planned) -> dict[str, Any]:
    spec = planned.spec
    names = ("suite", "build", "label", "serial", "version", "arch", "region")
    return {
        "id": spec.job_id,
        **{name: getattr(spec, name) for name in names},
        "name": spec.registration.name,
        "source": {"url": spec.source.url, "sha256": spec.source.sha256},
        "action": planned.action.value,
        "reason": planned.reason,
    }


def _print(planned: list[Planned]) -> None:
    rows = [("JOB", "ACTION", "WHY")]
    rows += [(each.spec.job_id, each.action.value, output.clean(each.reason)) for each in planned]
    for line in output.columns(rows):
        output.out(line)
    actions = [each.action.value for each in planned]
    counts = ", ".join(f"{each} {actions.count(each)}" for each in dict.fromkeys(actions))
    output.out(f"{output.plural(len(planned), 'job')}: {counts}")
