"""`ebspub find`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ebspub.cli import complete, options, output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebspub.app.search import Image, Wanted
    from ebspub.config import Config

#: Exit code where nothing is found.
NOTHING = 3

Suite: TypeAlias = Annotated[
    str,
    typer.Option(
        "--suite", metavar="SUITE", help="Of this suite, or version: lucid, 10.04.", autocompletion=complete.suites
    ),
]
Arch: TypeAlias = Annotated[
    str, typer.Option("--arch", metavar="ARCH", help="For this arch.", autocompletion=complete.arches)
]
Region: TypeAlias = Annotated[
    str, typer.Option("--region", metavar="REGION", help="In this region.", autocompletion=complete.regions)
]
Build: TypeAlias = Annotated[
    str,
    typer.Option("--build", metavar="BUILD", help='Of this build; "" for any.', autocompletion=complete.builds),
]
Label: TypeAlias = Annotated[
    str,
    typer.Option(
        "--label",
        metavar="LABEL",
        help='Under this label: "daily", "beta2". Default: everything but dailies.',
        autocompletion=complete.labels,
    ),
]
Serial: TypeAlias = Annotated[
    str, typer.Option("--serial", metavar="SERIAL", help="Of this serial. Default: the newest.")
]
Virtualization: TypeAlias = Annotated[
    str,
    typer.Option(
        "--virtualization",
        metavar="VIRT",
        help="hvm or paravirtual. Default: hvm before paravirtual.",
        autocompletion=complete.virtualizations,
    ),
]
RootStore: TypeAlias = Annotated[
    str,
    typer.Option(
        "--root-store",
        metavar="STORE",
        help="ebs-ssd, ebs, ebs-io1 or instance-store. Default: in this order.",
        autocompletion=complete.root_stores,
    ),
]
Feed: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--feed",
        metavar="URL",
        help="Look into this feed instead: a folder of feeds, simplestreams, query data, or images.json; "
        "http(s) or an absolute path.",
    ),
]
Keyring: TypeAlias = Annotated[
    Path | None, typer.Option("--keyring", metavar="FILE", help="The feed must be signed by a key of this file.")
]
Fingerprint: TypeAlias = Annotated[
    str | None, typer.Option("--fingerprint", metavar="KEY", help="Only by this key of the keyring.")
]
IdsOnly: TypeAlias = Annotated[bool, typer.Option("--ids", help="Print ids only, one a line.")]


def find(
    ctx: typer.Context,
    *,
    suite: Suite = "",
    arch: Arch = "",
    region: Region = "",
    build: Build = "server",
    label: Label = "",
    serial: Serial = "",
    virtualization: Virtualization = "",
    root_store: RootStore = "",
    feed: Feed = None,
    keyring: Keyring = None,
    fingerprint: Fingerprint = None,
    ids: IdsOnly = False,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Say which AMI to launch.

    Of each suite, arch and region that is asked for, the newest that is published: by the state database, or by what
    a feed says, which needs no configuration. The newest suite comes first. Looks only.

    Exit codes: 0 found, 2 usage, configuration, or a feed that cannot be read or is not proved, 3 nothing found, 4
    state database.

    Examples:
      ebspub find --suite lucid --arch amd64 --region us-east-1
      ebspub find --suite lucid --arch i386 --region eu-west-1 --ids
      ebspub find --suite noble --label daily --json
      ebspub find --suite 24.04 --region us-east-1 --feed https://cloud-images.ubuntu.com/releases
    """
    from ebspub.app import search
    from ebspub.errors import UsageError

    stream = search.stream_of(label)
    wanted = search.Wanted(suite, arch, region, build, stream, label, serial, virtualization, root_store)
    if feed is None and (keyring or fingerprint):
        raise UsageError("--keyring and --fingerprint prove a feed, and none is named", todo="Name it with --feed.")
    if fingerprint and not keyring:
        raise UsageError("--fingerprint is of a key in a keyring, and none is named", todo="Name it with --keyring.")
    if feed is not None:
        ring = str(keyring.absolute()) if keyring else None
        found = search.there(feed, wanted, keyring=ring, fingerprint=fingerprint)
        nothing = "nothing in the feed matches"
    else:
        found, nothing = _here(options.configuration(ctx, config), wanted)
    if as_json:
        output.out_json({"images": [search.row(image) for image in found]})
    elif ids:
        for image in found:
            output.out(image.ami)
    elif found:
        _print(found)
    if not found:
        output.err(nothing)
        raise typer.Exit(NOTHING)


def _here(settings: Config, wanted: Wanted) -> tuple[tuple[Image, ...], str]:
    """Return what is found in the state database, and what is to be said where nothing is."""
    from ebspub.app import search

    with options.existing_store(settings) as store:
        if store is None:
            return (), f"nothing is published yet: there is no state database at {settings.store_url_redacted()}"
        found = search.here(store, wanted)
        hidden = search.unpublished(store, wanted) if not found else []
    nothing = "nothing that is published matches"
    if hidden:
        nothing += f"; registered, but not public: {', '.join(hidden)} (`ebspub publish`)"
    return found, nothing


def _print(found: Sequence[Image]) -> None:
    rows = [("AMI", "REGION", "ARCH", "SUITE", "BUILD", "LABEL", "SERIAL", "ROOT", "VIRT")]
    rows += [
        (each.ami, each.region, each.arch, each.suite, each.build, each.label, each.serial, each.root_store,
         each.virtualization)
        for each in found
    ]  # fmt: skip
    for line in output.columns(rows):
        output.out(line)
