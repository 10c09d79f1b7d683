"""`ebspub db`: the state database and its revision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ebspub.cli import options, output
from ebspub.cli.command import Command, Group

if TYPE_CHECKING:
    from ebspub.config import Config

app = typer.Typer(
    name="db",
    help="Look after the state database.\n\nExamples:\n  ebspub db current\n  ebspub db upgrade",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(cls=Command)
def upgrade(
    ctx: typer.Context,
    *,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Upgrade the state database, or make it.

    Brings it to the revision of this version. Every command that needs it does so by itself; this is for doing it at
    a time of one's choice. A SQLite file is copied first (NAME.REVISION.bak). A database of a newer version is
    refused with exit code 4.

    Examples:
      ebspub db upgrade
      ebspub db upgrade --config /etc/ebspub/ebspub.toml
    """
    from ebspub.store import Store, migrate

    settings = options.configuration(ctx, config)
    before = _revision(settings)
    Store.open(settings.store_url()).close()
    after = migrate.HEAD
    output.out(f"{before or 'none'} -> {after}" if before != after else f"{after} already")


@app.command(cls=Command)
def current(
    ctx: typer.Context,
    *,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Show the state database's revision.

    And the one that this version writes. Changes nothing.

    Examples:
      ebspub db current
    """
    from ebspub.store import migrate

    settings = options.configuration(ctx, config)
    found = _revision(settings) or "none"
    output.out(f"{found} at {settings.store_url_redacted()} (this version writes {migrate.HEAD})")


def _revision(config: Config) -> str | None:
    """Return the database's revision; None where there is no database or no table in it."""
    from ebspub.store import migrate
    from ebspub.store.database import connect, sqlite_file, told

    url = config.store_url()
    file = sqlite_file(url)
    if file is not None and not file.exists():
        return None
    with told(url):
        engine = connect(url)
        try:
            return migrate.current(engine)
        finally:
            engine.dispose()
