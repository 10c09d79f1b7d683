"""`ebspub demo`: the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ebspub.cli import output
from ebspub.cli.options import Verbose
from ebspub.errors import UsageError


def demo(
    report: Annotated[Path, typer.Option("--report", metavar="FILE", help="Where the report is written.")] = Path(
        "ebspub-demo.txt"
    ),
    feeds: Annotated[
        Path, typer.Option("--feeds", metavar="FOLDER", help="Where the files about what was published are left.")
    ] = Path("ebspub-demo-feeds"),
    verbose: Verbose = False,
) -> None:
    """Publish a real image to an embedded cloud, be killed in the middle, and resume.

    Builds a small image, starts an EC2 look-alike with real SSH hosts and real disks on the loopback network, runs
    `ebspub run` for 4 regions x 2 arches, kills it by SIGKILL, resumes, and compares what was registered with its
    source; then makes it public and finds it. Takes about a minute; nothing is left but the report and the feeds.

    Examples:
      ebspub demo --report demo.txt
    """
    del verbose
    try:
        from ebspub.demo.story import demo as play
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the embedded cloud needs the package {error.name}", todo="Install it: pip install 'ebspub[localcloud]'"
        ) from error
    play(report, feeds, output.out)
