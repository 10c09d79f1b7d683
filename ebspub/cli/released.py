"""What publish and unpublish print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ebspub.cli import output

if TYPE_CHECKING:
    from ebspub.app.release import Change, Released, Result
    from ebspub.app.release.drift import Drift

INTERRUPTED = "interrupted; the same command goes on where it was"


def teller(quiet: bool) -> Callable[[Change], None]:
    """Return what is told of each call that was made: a line, or nothing."""

    def tell(change: Change) -> None:
        if not quiet:
            output.out(line(change))

    return tell


def line(change: Change) -> str:
    """Return one call as a line."""
    return output.clean(f"{change.job_id}: {change.action} {change.target}: {change.what}")


def change_document(change: Change) -> dict[str, Any]:
    """Return one call as JSON."""
    names = ("job_id", "region", "action", "target", "request", "what")
    return {name.removesuffix("_id"): getattr(change, name) for name in names}


def sum_up(result: Result, *, as_json: bool, verb: str) -> None:
    """Say what came of each build: to stdout what was done, to stderr what stands in the way."""
    if as_json:
        output.out_json({"releases": [_document(each) for each in result.releases]})
    tell(result.releases, quiet=as_json, verb=verb)
    if result.signal:
        output.err(INTERRUPTED)


def tell(found: Sequence[Released], *, quiet: bool = False, verb: str = "publish") -> None:
    """Say what came of builds; ``quiet``: only what stands in the way."""
    for each in found:
        if not (quiet or each.busy):
            output.out(_summary(each))
        _complain(each, verb)


def _summary(released: Released) -> str:
    calls = output.plural(len(released.made), "call") if released.made else "nothing to change"
    files = f", {output.plural(len(released.files), 'file')} written" if released.files else ""
    return f"{released.id}: {released.state} as {released.label}: {calls}{files}"


def _complain(released: Released, verb: str) -> None:
    for warning in released.warnings:
        output.err(f"warning: {output.clean(warning)}")
    for error in released.errors.values():
        output.err(f"ebspub: {output.clean_lines(str(error))}")
    if released.missing:
        output.err(f"{released.id}: not registered yet: {', '.join(released.missing)}; {verb} again when they are")
    if released.busy:
        output.err(f"{released.id}: another process is at it")


def _document(released: Released) -> dict[str, Any]:
    return {
        "release": released.id,
        "label": released.label,
        "state": released.state,
        "busy": released.busy,
        "changes": [change_document(each) for each in released.made],
        "files": list(released.files),
        "missing": list(released.missing),
        "warnings": list(released.warnings),
        "errors": [
            {"region": region or None, "message": error.what, "todo": error.todo}
            for region, error in released.errors.items()
        ],
    }


def drift_document(drift: Drift) -> dict[str, Any]:
    """Return what is amiss with a published build as JSON."""
    return {
        "release": drift.id,
        "label": drift.label,
        "state": drift.state or None,
        "changes": [change_document(each) for each in drift.changes],
        "missing": list(drift.missing),
        "unannounced": list(drift.unannounced),
        "warnings": list(drift.warnings),
        "errors": [{"region": region or None, "message": what} for region, what in drift.errors.items()],
    }


def print_drift(drifts: Sequence[Drift], files: Sequence[str]) -> None:
    """Say what `ebspub publish`, or `unpublish`, would change; nothing where nothing is amiss."""
    for drift in drifts:
        for warning in drift.warnings:
            output.err(f"warning: {output.clean(warning)}")
        if not drift.amiss:
            continue
        state = f"{drift.state} as {drift.label}" if drift.state else "not published yet"
        again = "unpublish" if drift.state in ("unpublishing", "unpublished") else "publish"
        output.out("")
        output.out(
            f"{drift.id}: {state}; `ebspub {again} {drift.id}` makes {output.plural(len(drift.changes), 'call')}"
        )
        for change in drift.changes:
            output.out(f"  {line(change)}")
        for what in drift.errors.values():
            output.out(f"  {output.clean(what)}")
        if drift.unannounced:
            output.out(f"  not to be found yet: {', '.join(drift.unannounced)}")
        if drift.missing:
            output.out(f"  not registered yet: {', '.join(drift.missing)}")
    for file in files:
        output.out(f"feeds: {output.clean(file)}")
