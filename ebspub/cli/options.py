"""The options that several commands share, and what they give: the configuration, the store, the jobs asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ebspub.cli import complete, output
from ebspub.cli.command import start_logging

if TYPE_CHECKING:
    from ebspub.config import Config
    from ebspub.spec import JobSpec
    from ebspub.store import Store


def _verbose(value: bool) -> bool:
    # Given before or after the command's name, once is enough.
    if value:
        start_logging(verbose=True)
    return value


ConfigPath: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="Configuration file. Default: $EBSPUB_CONFIG, ./ebspub.toml, ~/.config/ebspub/ebspub.toml, "
        "/etc/ebspub/ebspub.toml.",
    ),
]
Verbose: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", callback=_verbose, is_eager=True, help="Log to stderr; show tracebacks of internal errors."
    ),
]
Suites: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--suite", metavar="SUITE", help="Only this suite (repeatable).", autocompletion=complete.suites),
]
Serials: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--serial", metavar="SERIAL", help="Publish this serial, whatever the file says (repeatable)."),
]
Arches: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--arch", metavar="ARCH", help="Only this arch (repeatable).", autocompletion=complete.arches),
]
Regions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="REGION", help="Only this region (repeatable).", autocompletion=complete.regions),
]
Builds: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--build", metavar="BUILD", help="Only this build name (repeatable).", autocompletion=complete.builds),
]
Labels: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="LABEL", help="Only this label (repeatable).", autocompletion=complete.labels),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]


@dataclass(frozen=True)
class Choice:
    """The jobs that a command line asks for; an empty list asks for all."""

    suites: Sequence[str] | None
    serials: Sequence[str] | None
    archs: Sequence[str] | None
    regions: Sequence[str] | None
    builds: Sequence[str] | None
    labels: Sequence[str] | None


def configuration(ctx: typer.Context, path: Path | None) -> Config:
    """Return the configuration named after the command, else before it, else found. Raises ConfigError, StoreError."""
    from ebspub.config import load

    config = load(path or ctx.obj)
    _require_place(config)
    return config


def _require_place(config: Config) -> None:
    """Raise StoreError where the system does not even say whether there is a state database, or its secret."""
    from ebspub.errors import StoreError
    from ebspub.store.database import sqlite_file

    for file in (sqlite_file(config.store_url()), config.state_folder() / "secret"):
        try:
            if file is not None:
                file.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a usable file name"
            raise StoreError(
                f"the state folder cannot be used: {reason}: {str(file)[:200]!r}",
                todo="Run it as the user whose folder it is, or name another folder in [store].",
            ) from error


@contextmanager
def existing_store(config: Config) -> Iterator[Store | None]:
    """Open the state database; None where there is none yet, and none is made. Raises StoreError."""
    from ebspub.store import Store

    store = Store.open_existing(config.store_url())
    try:
        yield store
    finally:
        if store is not None:
            store.close()


def require_store(config: Config, job_ids: Sequence[str]) -> None:
    """Raise UsageError where there is no database that could know ``job_ids``: none is made to find that out."""
    from ebspub.errors import UsageError

    with existing_store(config) as store:
        if store is None:
            where = config.store_url_redacted()
            raise UsageError(f"no such job: {', '.join(job_ids)}", todo=f"There is no state database at {where} yet.")


def chosen_specs(config: Config, choice: Choice) -> tuple[JobSpec, ...]:
    """Return the jobs of ``choice`` as configured, without a look at the network. Raises UsageError, ConfigError."""
    from ebspub.config import select

    return select(
        config,
        suites=choice.suites or (),
        serials=choice.serials or (),
        archs=choice.archs or (),
        regions=choice.regions or (),
        builds=choice.builds or (),
        labels=choice.labels or (),
    )


def proved_specs(specs: Sequence[JobSpec], store: Store | None) -> tuple[tuple[JobSpec, ...], bool]:
    """Return ``specs`` with the checksums of their sources, and whether all have one; the others are told and left out.

    Raises SourceError where nothing is left.
    """
    from ebspub.app.proof import proved
    from ebspub.source.fetch import fetch

    found, failures = proved(specs, store, fetch)
    if failures and not found:
        raise failures[0]
    for failure in failures:
        output.err(f"ebspub: {output.clean_lines(str(failure))}")
    return found, not failures
