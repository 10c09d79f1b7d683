"""`ebspub sweep`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ebspub.cli import options, output

if TYPE_CHECKING:
    from ebspub.app.sweep import Finding, Report
    from ebspub.config import Config


def _number(value: float) -> float:
    # No age is less than nan: all would be removed, however young. Not every typer refuses it by `min`.
    if math.isnan(value):
        raise typer.BadParameter("nan is no number of seconds.")
    return value


Grace: TypeAlias = Annotated[
    float,
    typer.Option("--grace", metavar="SECONDS", min=0, callback=_number, help="Leave what is younger than this alone."),
]


def sweep(
    ctx: typer.Context,
    *,
    region: options.Regions = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; change nothing.")] = False,
    grace: Grace = 3600.0,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Find and remove what no job needs any more.

    Everything in the account that carries this state database's tag, and that no job needs, is removed; what the
    database believes in and is gone is marked. What carries another tag, or none, is never touched. Without --region:
    all regions of the configuration and of the database. Costs are list prices of us-east-1, for orientation. Made
    for cron: prints nothing when there is nothing to do.

    Exit codes: 0 all is well, 2 usage or configuration, 3 a region or a removal failed, 4 state database.

    Examples:
      ebspub sweep --dry-run
      ebspub sweep --region us-east-1 --grace 0
      ebspub sweep --json | jq '.monthly_saved'
    """
    from ebspub.cli.signals import watch

    with watch() as signals:
        settings = options.configuration(ctx, config)

        from ebspub.app.runtime import Stop
        from ebspub.app.sweep import open_store, regions_of
        from ebspub.app.sweep import sweep as clean
        from ebspub.aws.clients import BotoClients
        from ebspub.clock import SystemClock

        store = open_store(settings, dry_run=dry_run)
        if store is None:
            _nothing_known(settings, as_json=as_json, dry_run=dry_run)
            return
        stop = Stop()
        with store:
            regions = regions_of(settings, store, region or ())
            signals.arm(stop.request, lambda: "interrupted; the next `ebspub sweep` goes on")
            report = clean(
                store,
                BotoClients(workers=settings.engine.workers),
                regions,
                clock=SystemClock(),
                grace=grace,
                dry_run=dry_run,
                stop=stop.event,
            )
    _tell(report, as_json=as_json)
    if stop.signal:
        output.err("interrupted; the next `ebspub sweep` goes on")
        raise typer.Exit(128 + stop.signal)
    raise typer.Exit(report.exit_code)


def _nothing_known(settings: Config, *, as_json: bool, dry_run: bool) -> None:
    from ebspub.app.sweep import Report

    if as_json:
        output.out_json(Report(dry_run).document())
    else:
        where = settings.store_url_redacted()
        output.err(f"there is no state database at {where}, so nothing in the account is known to be ours")


def _tell(report: Report, *, as_json: bool) -> None:
    from ebspub.app.sweep import Action

    if as_json:
        output.out_json(report.document())
    elif report.findings:
        _print(report)
    elif output.on_terminal() and not report.errors:
        output.out(f"nothing to remove in {output.plural(len(report.regions), 'region')}")
    for finding in report.of(Action.LOST):
        output.err(
            f"ebspub: LOST: {finding.kind} {finding.id} in {finding.region}, job {finding.job}: {finding.reason}"
        )
    for region, error in report.errors.items():
        output.err(f"ebspub: {region}: {output.clean(error)}")


def _print(report: Report) -> None:
    rows: list[tuple[str, ...]] = [("REGION", "KIND", "ID", "ACTION", "A MONTH", "JOB", "WHY")]
    rows += [_row(finding) for finding in report.findings]
    for line in output.columns(rows):
        output.out(line)
    actions = [finding.action.value for finding in report.findings]
    counts = ", ".join(f"{actions.count(each)} {each}" for each in dict.fromkeys(actions))
    saved = f"; about ${report.saved:.2f} a month {'to save' if report.dry_run else 'saved'}" if report.saved else ""
    output.out(f"{output.plural(len(report.findings), 'thing')}: {counts}{saved}")


def _row(finding: Finding) -> tuple[str, ...]:
    cost = "?" if finding.monthly is None else f"${finding.monthly:.2f}"
    place = (finding.region, finding.kind.value, finding.id, finding.action.value)
    return (*place, cost, output.clean(finding.job), output.clean(finding.reason))
