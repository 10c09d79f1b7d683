"""`ebspub localcloud`: an EC2 look-alike on this machine, to try the commands by hand."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ebspub.cli import output
from ebspub.cli.command import Command, Group
from ebspub.errors import UsageError

app = typer.Typer(
    name="localcloud",
    help="An EC2 look-alike on this machine, with real disks and SSH hosts, to try the commands by hand.\n\n"
    'Examples:\n  eval "$(ebspub localcloud start)"\n  ebspub localcloud stop',
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where the cloud keeps its disks and its state.")]
_DEFAULT = Path(".localcloud")


@app.command(cls=Command)
def start(folder: Folder = _DEFAULT) -> None:
    """Start the cloud, and print the variables that point AWS tools (this one too) at it.

    Examples:
      eval "$(ebspub localcloud start)"
    """
    try:
        from ebspub.localcloud import start as begin
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the embedded cloud needs the package {error.name}", todo="Install it: pip install 'ebspub[localcloud]'"
        ) from error
    cloud = begin(folder)
    for name, value in cloud.environment().items():
        output.out(f"export {name}={shlex.quote(value)}")
    output.err(f"ebspub: the cloud runs (process {cloud.pid}); builders: user {cloud.ssh_user}, port {cloud.ssh_port}")


@app.command(cls=Command)
def stop(folder: Folder = _DEFAULT) -> None:
    """Stop the cloud and remove everything in it.

    Examples:
      ebspub localcloud stop
    """
    from ebspub.localcloud import stop as end

    end(folder)


@app.command(cls=Command)
def status(folder: Folder = _DEFAULT) -> None:
    """Say whether the cloud runs, and what is in it.

    Examples:
      ebspub localcloud status
    """
    from ebspub.localcloud import find

    cloud = find(folder)
    if cloud is None:
        output.out(f"no cloud runs in {folder}")
        raise typer.Exit(3)
    inventory = cloud.inventory()
    output.out(f"{cloud.endpoint}  process {cloud.pid}")
    for kind in ("instances", "volumes", "snapshots", "images", "security_groups"):
        for item in getattr(inventory, kind):
            output.out(f"{item.region:<15} {item.id:<24} {item.state:<12} {item.name}")
