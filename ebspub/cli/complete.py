"""Shell completion: names from the configuration, ids of jobs from the state database.

Whatever goes wrong here (no configuration, a wrong one, no database) means no suggestions and no message: a shell is
in the middle of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ebspub.config import Config

Source = Callable[[typer.Context], Iterable[str]]
Completer = Callable[[typer.Context, str], list[str]]


def _silent(source: Source) -> Completer:
    @wraps(source)
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [each for each in dict.fromkeys(source(ctx)) if each.startswith(incomplete)]
        except Exception:  # noqa: BLE001 - a shell is in the middle of a line: no suggestions, no message
            return []

    # The wrapper's own signature counts, not that of what it wraps.
    del complete.__wrapped__
    return complete


def _config(ctx: typer.Context) -> Config:
    from ebspub.config import load

    path = ctx.params.get("config") or ctx.find_root().params.get("config")
    return load(Path(path) if path else None)


@_silent
def suites(ctx: typer.Context) -> Iterable[str]:
    """Complete --suite."""
    return [build.suite for build in _config(ctx).builds]


@_silent
def builds(ctx: typer.Context) -> Iterable[str]:
    """Complete --build of the commands that plan."""
    return [build.build for build in _config(ctx).builds]


@_silent
def labels(ctx: typer.Context) -> Iterable[str]:
    """Complete --label."""
    return [build.label for build in _config(ctx).builds]


@_silent
def arches(ctx: typer.Context) -> Iterable[str]:
    """Complete --arch."""
    return [arch for build in _config(ctx).builds for arch in build.arches]


@_silent
def regions(ctx: typer.Context) -> Iterable[str]:
    """Complete --region."""
    config = _config(ctx)
    return [*config.regions, *(region for build in config.builds for region in build.regions or ())]


@_silent
def virtualizations(ctx: typer.Context) -> Iterable[str]:
    """Complete --virtualization."""
    del ctx
    return ("hvm", "paravirtual")


@_silent
def root_stores(ctx: typer.Context) -> Iterable[str]:
    """Complete --root-store."""
    del ctx
    return ("ebs-ssd", "ebs", "ebs-io1", "instance-store")


@_silent
def published_builds(ctx: typer.Context) -> Iterable[str]:
    """Complete --build of `status`: suites, and builds with their serials, of the jobs in the database."""
    rows = _rows(ctx, "suite", "build", "serial")
    return [name for suite, build, serial in rows for name in (suite, f"{suite}-{build}", f"{suite}-{build}-{serial}")]


@_silent
def registered_builds(ctx: typer.Context) -> Iterable[str]:
    """Complete BUILD of `publish`: builds with their serials, of the registered jobs in the database."""
    given = ctx.params.get("targets") or ()
    rows = _rows(ctx, "suite", "build", "serial", "state")
    names = [f"{suite}-{build}-{serial}" for suite, build, serial, state in rows if state == "registered"]
    return [name for name in names if name not in given]


@_silent
def job_ids(ctx: typer.Context) -> Iterable[str]:
    """Complete JOB; jobs that are on the line already are left out."""
    given = ctx.params.get("job_ids") or ()
    return [str(row[0]) for row in _rows(ctx, "id") if row[0] not in given]


def _rows(ctx: typer.Context, *names: str) -> list[tuple[str, ...]]:
    """Return columns of all jobs. The database is only read: not made, not upgraded."""
    import sqlalchemy as sa

    from ebspub.store import tables
    from ebspub.store.database import connect, sqlite_file

    url = _config(ctx).store_url()
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return []
    engine = connect(url)
    try:
        with engine.connect().execution_options(ebspub_writer=False) as conn:
            found = conn.execute(sa.select(*(tables.jobs.c[name] for name in names)).order_by(tables.jobs.c.id))
            return [tuple(map(str, row)) for row in found]
    finally:
        engine.dispose()
