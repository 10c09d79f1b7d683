"""The program `ebspub`: its commands, and the options that come before them."""

from __future__ import annotations

from typing import Annotated

import typer

import ebspub
from ebspub.cli import db, localcloud, options
from ebspub.cli.cancel import cancel
from ebspub.cli.command import Command, Group, start_logging
from ebspub.cli.demo import demo
from ebspub.cli.doctor import doctor
from ebspub.cli.find import find
from ebspub.cli.plan import plan
from ebspub.cli.publish import publish
from ebspub.cli.resume import resume
from ebspub.cli.run import run
from ebspub.cli.show import show
from ebspub.cli.status import status
from ebspub.cli.sweep import sweep
from ebspub.cli.unpublish import unpublish
from ebspub.cli.verify import verify

# Plain help: rich would fold the examples, and is slow to load.
app = typer.Typer(name="ebspub", cls=Group, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
for _command in (
    run,
    resume,
    status,
    show,
    plan,
    cancel,
    verify,
    publish,
    unpublish,
    find,
    sweep,
    doctor,
    demo,
):  # a new command is one name here
    app.command(cls=Command)(_command)
app.add_typer(db.app)
app.add_typer(localcloud.app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"ebspub {ebspub.__version__}")
        raise typer.Exit


@app.callback()
def before(
    ctx: typer.Context,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,
    version: Annotated[  # noqa: ARG001 - its callback has done the work
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Publish Linux images as EBS-root AMIs, in every region, exactly once.

    Every region and arch of a build is a job: pending, launched, attached, populated, snapshotted, registered. The
    program may die at any moment; `ebspub run` and `ebspub resume` go on after the last completed step.

    Exit codes: 0 all done, 1 internal error, 2 usage or configuration (nothing was touched), 3 some jobs failed, 4 the
    state database cannot be used, 75 another process is at the work, 130 and 143 interrupted (resumable).

    Examples:
      ebspub plan --suite lucid
      ebspub run --suite lucid --serial 20101020
      ebspub status --watch
    """
    ctx.obj = config
    start_logging(verbose=verbose)


def main() -> None:
    """Run the program."""
    app(prog_name="ebspub")
