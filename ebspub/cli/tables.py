"""Jobs as tables for terminals, readable with 80 columns. Imports rich: only commands that draw may import this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
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


def overview(jobs: Sequence[Document], *, wide: bool = False, height: int | None = None) -> RenderableType:
    """Return jobs grouped by build, with the errors below; ``wide`` adds all ids.

    ``height`` is the number of lines there are: what needs a person or is under way then goes first, and what does
    not fit is counted.
    """
    if height is None:
        return Group(*_tables(jobs, wide=wide), *_errors(jobs))
    return _fitting(jobs, height, wide=wide)


def _fitting(jobs: Sequence[Document], height: int, *, wide: bool) -> RenderableType:
    first = sorted(jobs, key=lambda job: describe.STATUSES.index(job["status"]))
    errors = _errors(jobs)[: height // 3]
    room = max(1, height - len(errors) - 1)
    kept = list(first)
    while len(kept) > 1 and _lines(kept) > room:
        kept = kept[: len(kept) - max(1, _lines(kept) - room)]
    chosen = {job["id"] for job in kept}
    shown = [job for job in jobs if job["id"] in chosen]
    more = [job for job in jobs if job["id"] not in chosen]
    parts: list[RenderableType] = [*_tables(shown, wide=wide), *errors]
    if more:
        parts.append(Text(f"and {len(more)} more: {describe.counted(more)}", style="dim"))
    return Group(*parts)


def _lines(jobs: Sequence[Document]) -> int:
    """Return how many lines the tables of ``jobs`` take: a heading, the columns' names, the jobs."""
    return len(jobs) + 2 * len({describe.group(job) for job in jobs})


def _tables(jobs: Sequence[Document], *, wide: bool) -> list[RenderableType]:
    parts: list[RenderableType] = []
    region = max((len(job["region"]) for job in jobs), default=0)
    for _, each in groupby(sorted(jobs, key=describe.group), key=describe.group):
        of_build = list(each)
        parts.append(Text(describe.heading(of_build), style="bold"))
        table = _columns(region, wide=wide)
        for job in of_build:
            table.add_row(*_cells(job, wide=wide))
        parts.append(table)
    return parts


def _columns(region: int, *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("region", min_width=region, no_wrap=True)
    for name, width in (("arch", 5), ("state", 11), ("status", 11), ("#", 1), ("elapsed", 7)):
        table.add_column(name, min_width=width, no_wrap=True, justify="right" if name == "elapsed" else "left")
    for name in ("instance", "volume", "snapshot", "ami") if wide else ():
        table.add_column(name, no_wrap=True)
    table.add_column("now")
    return table


def _cells(job: Document, *, wide: bool) -> list[Text]:
    status = Text(job["status"], style=_STYLES.get(job["status"], ""))
    start = [Text(job["region"]), Text(job["arch"]), Text(job["state"]), status, Text(str(job["attempt"]))]
    ids = [Text(job[each] or "-") for each in describe.IDS] if wide else []
    return [*start, Text(duration(job["elapsed"])), *ids, _now(job, wide=wide)]


def _now(job: Document, *, wide: bool) -> Text:
    """Return the last cell: the AMI, or what happens. An id is never cut; a sentence is, for the sake of the table."""
    if job["ami_id"] and not wide:
        return Text(job["ami_id"], no_wrap=False, overflow="fold")
    progress = job["progress"] or {}
    share = describe.percent(progress)
    if share and not wide:
        # With the share in front, what is cut off is the words.
        return _cut(f"{job['step']} {share} {clean(str(progress.get('phase') or ''))}")
    return Text(describe.doing(job)) if wide else _cut(describe.doing(job))


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
