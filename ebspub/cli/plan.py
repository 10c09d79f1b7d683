"""`ebspub plan`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import typer

from ebspub.cli import describe, options, output, released

if TYPE_CHECKING:
    from ebspub.app.estimate import Estimate, Known
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
    """Show what `ebspub run` would do, how, and why.

    Tells which way each job goes (a builder, blocks, a copy), and about how long it takes and what it costs.

    Looks only: nothing is touched, nothing is written. Actions: publish, resume, adopt (this very build is registered
    already), skip, busy (another process drives it), refuse (the AMI name belongs to another image, the method cannot
    publish what the artefact is, or what is to be copied was cancelled), unknown (the region did not answer). Exits
    with 3 where a job is to be refused or is unknown.

    Of builds that are public it shows what differs from the configuration: what `ebspub publish` would change; of those
    that were taken back what is open again: what `ebspub unpublish` would take back.

    Estimates: list prices of us-east-1 and rules of thumb; times are this database's own, once it has finished jobs of
    the same way.

    Examples:
      ebspub plan
      ebspub plan --suite lucid --serial 20101020 --json
    """
    settings = options.configuration(ctx, config)
    choice = options.Choice(suite, serial, arch, region, build, label)
    from ebspub.app.plan import Action, total
    from ebspub.app.plan import plan as look
    from ebspub.app.release.drift import drift, stale
    from ebspub.aws.clients import BotoClients
    from ebspub.clock import SystemClock

    found = options.found_specs(settings, choice)
    with options.existing_store(settings) as store:
        clients = BotoClients()
        planned = look(found.specs, store, clients, SystemClock().now(), found.unfit, found.known)
        drifts = drift(settings, store, clients, found.specs) if store is not None else []
        files = stale(settings, store) if store is not None else []
    if as_json:
        jobs = [_document(each) for each in planned]
        told = {"current": found.current, "jobs": jobs, "total": _estimate(total(planned))}
        output.out_json({**told, "releases": [released.drift_document(each) for each in drifts], "files": files})
    else:
        _print(planned)
        _print_ways(planned, total(planned), _learned(planned, found.known))
        _print_sources(planned, found.current)
        released.print_drift(drifts, files)
    unknown = any(each.action in (Action.REFUSE, Action.UNKNOWN) for each in planned)
    if unknown or not found.complete or any(each.errors for each in drifts):
        raise typer.Exit(3)


def _document(planned: Planned) -> dict[str, Any]:
    from ebspub.app.report import source_document

    spec = planned.spec
    names = ("suite", "build", "label", "serial", "version", "arch", "region")
    return {
        "id": spec.job_id,
        **{name: getattr(spec, name) for name in names},
        "name": spec.registration.name,
        "source": source_document(spec.source),
        "action": planned.action.value,
        "reason": planned.reason,
        "way": planned.way or None,
        "why": planned.why or None,
        "estimate": None if planned.estimate is None else _estimate(planned.estimate),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON: seconds of work, dollars once, dollars a month for the snapshots."""
    return {
        "seconds": round(estimate.seconds),
        "dollars": round(estimate.dollars, 4),
        "monthly_dollars": round(estimate.monthly, 4),
    }


def _print(planned: list[Planned]) -> None:
    rows = [("JOB", "ACTION", "WHY")]
    rows += [(each.spec.job_id, each.action.value, output.clean(each.reason)) for each in planned]
    for line in output.columns(rows):
        output.out(line)
    actions = [each.action.value for each in planned]
    counts = ", ".join(f"{each} {actions.count(each)}" for each in dict.fromkeys(actions))
    output.out(f"{output.plural(len(planned), 'job')}: {counts}")


def _learned(planned: list[Planned], known: Known | None) -> str:
    """Say what the times are made from: this database's own jobs, as far as there are any of the ways that are gone."""
    ways = {each.spec.way for each in planned if each.estimate is not None}
    own = {way for way, _ in known.steps} if known is not None else set()
    if known is None or not ways & own:
        return "times by rule of thumb"
    return f"times of {output.plural(known.jobs, 'finished job')}{'' if ways <= own else ', else by rule of thumb'}"


def _print_ways(planned: list[Planned], total: Estimate, learned: str) -> None:
    """Say which way each job goes that would be driven, about how long and for how much, and why; in 80 columns."""
    from ebspub.app.fanout import dollars

    driven = [each for each in planned if each.estimate is not None]
    reasons: dict[str, list[str]] = {}
    for group, of_build in groupby(driven, key=lambda each: (each.spec.suite, each.spec.build, each.spec.serial)):
        rows = [("REGION", "ARCH", "TIME", "COST", "WAY")]
        for each in of_build:
            spec, estimate = each.spec, each.estimate
            assert estimate is not None
            time = output.duration(estimate.seconds)
            rows.append((spec.region, spec.arch, time, dollars(estimate.dollars), each.way))
            reasons.setdefault(each.why, []).append(spec.region)
        output.out("")
        output.out("-".join(group))
        for line in output.columns(rows):
            output.out(line)
    if not driven:
        return
    output.out("")
    for why, regions in reasons.items():
        for line in textwrap.wrap(
            f"{', '.join(dict.fromkeys(regions))}: {output.clean(why)}", 79, subsequent_indent="  "
        ):
            output.out(line)
    output.out(
        f"about {output.duration(total.seconds)} and {dollars(total.dollars)} in all, then {dollars(total.monthly)} a "
        "month for the snapshots"
    )
    output.out(f"(estimates: list prices of us-east-1 in 2025; {learned})")


def _print_sources(planned: list[Planned], current: Mapping[str, str]) -> None:
    """Say which serials were found to be current, and what proves the artefact of each build and arch."""
    from ebspub.app.report import source_document

    for name, serial in current.items():
        output.out(f"{name}: current is {serial}")
    proofs: dict[str, str] = {}
    for each in planned:
        spec = each.spec
        proof = describe.proof(source_document(spec.source))
        proofs.setdefault(f"{spec.suite} {spec.build} {spec.serial} {spec.arch}", f"{spec.source.url}: {proof}")
    for name, proof in proofs.items():
        output.out(f"{name}: {output.clean(proof)}")
