"""`fan_out`: which jobs of a build may copy the snapshot of its primary region, told by the file alone.

What a copy costs compared with a builder is not known here: :mod:`ebspub.app.fanout` decides when jobs are planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ebspub.config.cell import Cell
from ebspub.config.problems import quoted
from ebspub.config.regions import nearest, same_cloud
from ebspub.spec import FanOut, JobSpec

Expand = Callable[[Cell], JobSpec | None]


def surely_copies(cell: Cell) -> bool:
    """Whether the cell's job copies whatever that costs, and so needs no builder."""
    wish = cell.build.fan_out
    return (
        wish is not None
        and wish.when == "always"
        and cell.region != wish.primary
        and same_cloud(cell.region, wish.primary)
    )


def primary(cell: Cell) -> Cell | None:
    """Return the cell of the primary region; None where the build has no fan-out, or ``cell`` is its primary."""
    wish = cell.build.fan_out
    if wish is None or wish.primary == cell.region:
        return None
    return replace(cell, region=wish.primary, problems=[])


def fault(cell: Cell, regions: Iterable[str]) -> str | None:
    """Return the problem of a primary region that the build is not published in; None where there is none."""
    wish, listed = cell.build.fan_out, list(regions)
    if wish is None or wish.primary in listed:
        return None
    near = nearest(wish.primary, listed)
    hint = f"; did you mean {quoted(near)}?" if near else f" ({', '.join(listed)})"
    found = quoted(wish.primary)
    return f"{cell.here}.fan_out.primary: found {found}, expected one of the build's regions{hint}"


def applied(cell: Cell, spec: JobSpec, origin: JobSpec) -> JobSpec:
    """Return ``spec`` with what the file says of copying it from ``origin``, the primary region's job.

    ``cell.problems`` says so where the file asks for a copy of what cannot be the same.
    """
    wish = cell.build.fan_out
    assert wish is not None
    if not same_cloud(spec.region, origin.region):
        why = f"snapshots of {origin.region} cannot be copied to {spec.region}, which is of another partition"
        return _with(spec, FanOut(region=origin.region, when=wish.when, copies=False, why=why))
    differs = _difference(spec, origin)
    if differs is None:
        why = "fan_out.when is always" if wish.when == "always" else ""
        return _with(spec, FanOut(region=origin.region, when=wish.when, copies=True, why=why))
    if wish.when == "always":
        cell.fault(f"{cell.here}.fan_out", f'{differs}; expected what a copy can be, or when = "cheaper"')
    return _with(spec, FanOut(region=origin.region, when=wish.when, copies=False, why=differs))


def _difference(spec: JobSpec, origin: JobSpec) -> str | None:
    """Return what keeps the snapshot of ``origin`` from being that of ``spec``; None where nothing does."""
    mine, theirs = spec.volume, origin.volume
    if mine.size != theirs.size:
        return f"the volume has {mine.size} GiB in {spec.region} and {theirs.size} GiB in {origin.region}"
    if theirs.encrypted and not mine.encrypted:
        # "Copies of encrypted snapshots are encrypted, even if you omit this parameter" (CopySnapshot).
        return f"{origin.region}'s snapshot is encrypted, and so would be its copy; in {spec.region} it is not to be"
    if spec.source != origin.source:
        return f"the source in {spec.region} is not that of {origin.region}"
    return None


def _with(spec: JobSpec, fan_out: FanOut) -> JobSpec:
    return spec.model_copy(update={"fan_out": fan_out})
