"""Jobs as tables for terminals, readable with 80 columns. Imports rich: only commands that draw may import this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ebspub.cli import describe
from ebspub.cli.output import clean, duration

Document = Mapping[str, Any]
_STYLES = {
    "failed": "bold red",
    "interrupted": "yellow",
    "cancelling": "yellow",
    "running": "cyan",
    "cancelled": "dim",
    "done": "green",
}


def overview(jobs: Sequence[Document]) -> RenderableType:
    """Return all jobs grouped by build, with their errors below."""
    parts: list[RenderableType] = []
    region = max((len(job["region"]) for job in jobs), default=0)
    for _, each in groupby(sorted(jobs, key=describe.group), key=describe.group):
        of_build = list(each)
        parts.append(Text(describe.heading(of_build), style="bold"))
        table = _columns(region)
        for job in of_build:
            table.add_row(*_cells(job))
        parts.append(table)
    return Group(*parts, *_errors(jobs))


def fitting(jobs: Sequence[Document], console: Console, height: int) -> RenderableType:
    """Return what fits into ``height`` lines: what needs a person or is under way goes first, the rest is counted."""
    kept = sorted(jobs, key=lambda job: describe.STATUSES.index(job["status"]))
    while True:
        chosen = {job["id"] for job in kept}
        shown = overview([job for job in jobs if job["id"] in chosen])
        more = [job for job in jobs if job["id"] not in chosen]
        if more:
            shown = Group(shown, Text(f"and {len(more)} more: {describe.counted(more)}", style="dim"))
        excess = len(console.render_lines(shown, pad=False)) - height
        if excess <= 0 or len(kept) <= 1:
            return shown
        # At least one line a job goes; where that was too little or too much to see at once, look again.
        kept = kept[: max(1, len(kept) - max(1, excess // 2))]


def _columns(region: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("region", min_width=region, no_wrap=True)
    for name, width in (("arch", 5), ("state", 11), ("status", 11), ("#", 1), ("elapsed", 7)):
        table.add_column(name, min_width=width, no_wrap=True, justify="right" if name == "elapsed" else "left")
    table.add_column("now")
    return table


def _cells(job: Document) -> list[Text]:
    status = Text(job["status"], style=_STYLES.get(job["status"], ""))
    start = [Text(job["region"]), Text(job["arch"]), Text(job["state"]), status, Text(str(job["attempt"]))]
    return [*start, Text(duration(job["elapsed"])), _now(job)]


def _now(job: Document) -> Text:
    """Return the last cell: the AMI, or what happens. An id is never cut; a sentence is, for the sake of the table."""
    if job["ami_id"]:
        return Text(job["ami_id"], no_wrap=False, overflow="fold")
    progress = job["progress"] or {}
    share = describe.percent(progress)
    if share:
        # With the share in front, what is cut off is the words.
        return _cut(f"{job['step']} {share} {clean(str(progress.get('phase') or ''))}")
    return _cut(describe.doing(job))


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _errors(jobs: Sequence[Document]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for job in jobs:
        error = describe.standing_error(job)
        if error:
            text = Text(f"{job['id']}: ", style=_STYLES.get(job["status"], ""))
            parts.append(text.append(describe.error_text(error), style="not bold default"))
            if error["todo"] and job["status"] == "failed":
                parts.append(Text(f"  {clean(error['todo'])}", style="dim"))
    return parts
