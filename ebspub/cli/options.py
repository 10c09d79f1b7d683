"""The options that several commands share, and what they give: the configuration, the store, the jobs asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from ebspub.cli import complete, output
from ebspub.cli.command import start_logging

if TYPE_CHECKING:
    from ebspub.app.estimate import Known
    from ebspub.config import Config
    from ebspub.source import Look
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


@dataclass(frozen=True)
class Found:
    """The jobs asked for, and ``also`` those whose snapshots they are to copy (ids: of them they are among ``specs``).

    ``complete``: nothing was left out; ``current``: serials that were looked for, by build; ``unfit``: ids of those of
    ``specs`` that cannot be published (:mod:`ebspub.app.fitness`), and why.
    """

    specs: tuple[JobSpec, ...]
    complete: bool
    current: Mapping[str, str]
    unfit: Mapping[str, str] = field(default_factory=dict)
    also: tuple[str, ...] = ()
    #: What estimates are made from.
    known: Known | None = None


def found_specs(config: Config, choice: Choice) -> Found:
    """Return the jobs of ``choice``, what proves them known; what cannot be found or proved is told and left out.

    With them come the jobs whose snapshots they copy, where these are not there yet. Looks at the places of publication
    only, and for jobs that have ended only for what is current. Raises UsageError, ConfigError, StoreError, and
    SourceError where nothing is left.
    """
    from ebspub.app import current, experience, fanout
    from ebspub.app.fitness import refusals
    from ebspub.config import primaries, searching
    from ebspub.source import Look
    from ebspub.source.head import Heads

    look = Look()
    asked = {"suites": choice.suites or (), "builds": choice.builds or (), "labels": choice.labels or ()}
    wanted = () if choice.serials else searching(config, **asked)
    serials, failures = current.serials(config, wanted, look)
    if failures and len(failures) == len(wanted) and not _others(config, choice):
        raise failures[0]
    for failure in failures:
        output.err(f"ebspub: {output.clean_lines(str(failure))}")
    specs = chosen_specs(config, choice, serials)
    with existing_store(config) as store:
        older = current.unfinished(config, serials, store)
        specs = (*specs, *(spec for spec in older if _meant(spec, choice)))
        asked_for = {spec.job_id for spec in specs}
        maybe = fanout.needed(specs, store) - asked_for
        specs = (*primaries(config, [spec for spec in specs if spec.primary in maybe]), *specs)
        specs, all_proved = proved_specs(specs, store, look)
        heads = Heads()
        unfit = refusals(specs, store, heads)
        known = experience.known(specs, store, heads.sizes())
        specs = fanout.decide(specs, store, known)
        kept = asked_for | fanout.needed([spec for spec in specs if spec.job_id in asked_for], store)
        specs = tuple(spec for spec in specs if spec.job_id in kept)
        unfit = {job_id: why for job_id, why in unfit.items() if job_id in kept}
    named = {f"{config.builds[i].suite} {config.builds[i].build}": serial for i, serial in serials.items()}
    also = tuple(spec.job_id for spec in specs if spec.job_id not in asked_for)
    return Found(specs, all_proved and not failures, named, unfit, also, known)


def tell_also(job_ids: Sequence[str]) -> None:
    """Say which jobs are driven that nobody asked for."""
    for job_id in job_ids:
        output.err(f"ebspub: also {job_id}: its snapshot is to be copied")


def fit(found: Found) -> tuple[JobSpec, ...]:
    """Return the jobs that their methods can publish; the others are told. Raises ConfigError where none is left."""
    from ebspub.errors import ConfigError

    wanted = tuple(spec for spec in found.specs if spec.job_id not in found.unfit)
    reasons: dict[str, list[str]] = {}
    for job_id, why in found.unfit.items():
        reasons.setdefault(why, []).append(job_id)
    lines = [f"{', '.join(job_ids)}: {why}" for why, job_ids in reasons.items()]
    if found.unfit and not wanted:
        what = "what is configured cannot be published"
        raise ConfigError(what, problems=lines, todo="Change the source, the method or volume.size.")
    for line in lines:
        output.err(f"ebspub: refused: {output.clean_lines(line)}")
    return wanted


def _meant(spec: JobSpec, choice: Choice) -> bool:
    return (not choice.archs or spec.arch in choice.archs) and (not choice.regions or spec.region in choice.regions)


def _others(config: Config, choice: Choice) -> bool:
    """Return whether there are builds of ``choice`` whose serial is in the file."""
    return any(
        build.fixed_serial
        and (not choice.suites or build.suite in choice.suites)
        and (not choice.builds or build.build in choice.builds)
        and (not choice.labels or build.label in choice.labels)
        for build in config.builds
    )


def chosen_specs(config: Config, choice: Choice, current: Mapping[int, str] | None = None) -> tuple[JobSpec, ...]:
    """Return the jobs of ``choice`` as configured, without a look at the network. Raises UsageError, ConfigError."""
    from ebspub.config import select

    return select(
        config,
        current,
        suites=choice.suites or (),
        serials=choice.serials or (),
        archs=choice.archs or (),
        regions=choice.regions or (),
        builds=choice.builds or (),
        labels=choice.labels or (),
    )


def proved_specs(specs: Sequence[JobSpec], store: Store | None, look: Look) -> tuple[tuple[JobSpec, ...], bool]:
    """Return ``specs`` with what proves their sources, and whether all are proved; the others are told and left out.

    Raises SourceError where nothing is left.
    """
    from ebspub.app.proof import proved

    found, failures = proved(specs, store, look)
    if failures and not found:
        raise failures[0]
    for failure in failures:
        output.err(f"ebspub: {output.clean_lines(str(failure))}")
    return found, not failures
