"""`ebspub doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from ebspub.cli import options, output

if TYPE_CHECKING:
    from ebspub.app.doctor import Row

_STYLES = {"green": "green", "yellow": "yellow", "red": "bold red"}


def doctor(
    ctx: typer.Context,
    *,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """See whether everything is there that publishing needs.

    Configuration, key material, database, credentials, clock, and in every region: opt-in, builder images, instance
    types, network, AMI names, permissions (by DryRun), quotas. Changes nothing, neither here nor in the account.
    green: well; yellow: works, or cannot be told; red: publishing fails until it is mended, and the row says how.

    Exit codes: 0 nothing is red, 2 usage or configuration, 3 something is red.

    Examples:
      ebspub doctor
      ebspub doctor --json | jq -r '.rows[] | select(.level == "red") | .todo'
    """
    settings = options.configuration(ctx, config)

    from ebspub.app.doctor import doctor as examine
    from ebspub.app.doctor import exit_code
    from ebspub.aws.clients import BotoClients
    from ebspub.clock import SystemClock

    rows = examine(settings, BotoClients(workers=settings.engine.workers), SystemClock())
    if as_json:
        output.out_json({"rows": [row.document() for row in rows]})
    elif output.on_terminal():
        _draw(rows)
    else:
        _print(rows)
    raise typer.Exit(exit_code(rows))


def _print(rows: Sequence[Row]) -> None:
    cells: list[tuple[str, ...]] = [("LEVEL", "SUBJECT", "CHECK", "WHAT")]
    for row in rows:
        cells.append((row.level.value, row.subject, row.check, output.clean(row.what)))
        if row.todo:
            cells.append(("", "", "", f"  {output.clean(row.todo)}"))
    for line in output.columns([tuple(cell or " " for cell in each) for each in cells]):
        output.out(line)
    output.out(_summary(rows))


def _draw(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for name in ("", "subject", "check"):
        table.add_column(name, no_wrap=True)
    table.add_column("what")
    for row in rows:
        style = _STYLES[row.level.value]
        what = Text(output.clean(row.what))
        if row.todo:
            what.append(f"\n{output.clean(row.todo)}", style="dim" if row.level.value != "red" else "bold")
        table.add_row(Text(row.level.value, style=style), Text(row.subject), Text(row.check), what)
    Console().print(table)
    output.out(_summary(rows))


def _summary(rows: Sequence[Row]) -> str:
    levels = [row.level.value for row in rows]
    return ", ".join(f"{levels.count(each)} {each}" for each in _STYLES)
