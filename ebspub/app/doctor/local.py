"""What is on this machine: the configuration, the key material, the state database. Looks only; makes no file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import make_url

from ebspub.app.doctor import telling
from ebspub.app.doctor.rows import Level, Row
from ebspub.config import Config, beside, open_builds
from ebspub.errors import ConfigError, EbspubError
from ebspub.remote.keys import Keyring
from ebspub.source.signature import INSTALL, check_keyring
from ebspub.store import migrate, tables
from ebspub.store.database import sqlite_file

#: Free space (bytes) below which the state folder is told to be nearly full.
_ROOM = 200 << 20
#: Seconds until a database server must have answered.
_PATIENCE = 10


@dataclass(frozen=True)
class Peek:
    """What a state database says of itself. ``fault``: why it cannot be read; ``revision``: None without tables."""

    exists: bool
    revision: str | None = None
    store_id: str = ""
    fault: str = ""


def peek(config: Config) -> Peek:
    """Look into the state database without making, upgrading or changing anything."""
    url = config.store_url()
    file = sqlite_file(url)
    try:
        if file is None:
            engine = sa.create_engine(url, connect_args={"connect_timeout": _PATIENCE})
        elif not file.exists():
            return Peek(exists=False)
        else:
            engine = _read_only(file)
        try:
            revision = migrate.current(engine)
            return Peek(True, revision, _store_id(engine) if revision else "")
        finally:
            engine.dispose()
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        return Peek(exists=True, fault=str(getattr(error, "orig", None) or error).strip() or type(error).__name__)


def _read_only(file: Path) -> sa.Engine:
    # Without a log beside it nobody has it open, and all is in the file itself: as immutable, no log is made for us.
    mode = "mode=ro" if file.with_name(f"{file.name}-wal").exists() else "immutable=1"
    place = f"file:{quote(str(file))}?{mode}"
    return sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(place, uri=True, timeout=5.0), poolclass=sa.pool.NullPool
    )


def _store_id(engine: sa.Engine) -> str:
    with engine.connect() as conn:
        found = conn.execute(sa.select(tables.meta.c.value).where(tables.meta.c.key == "store_id")).scalar()
    return found or ""


def configuration(config: Config, _found: Peek) -> Iterator[Row]:
    """Say what the file describes; that it is right is known, or it would not have been read."""
    what = f"{config.origin}: {len(config.builds)} builds, {len(config.regions)} regions"
    waiting = open_builds(config)
    if not config.builds:
        yield Row("configuration", "file", Level.YELLOW, f"{what}: nothing to publish", "Add a [[builds]] table.")
    elif waiting:
        yield Row("configuration", "file", Level.GREEN, f"{what}; {', '.join(waiting)} wait for --serial")
    else:
        yield Row("configuration", "file", Level.GREEN, what)
    yield from _password(config)


def _password(config: Config) -> Iterator[Row]:
    """Tell of a password that everybody on this machine can read."""
    file, url = Path(config.origin), make_url(config.store_url())
    holds = url.password is not None or any("pass" in name.lower() for name in url.query)
    if holds and file.is_file() and file.stat().st_mode & 0o004:
        what = f"{file} holds the password of the state database and is open to everybody"
        todo = f"chmod 0600 {file}, or keep the password elsewhere (PostgreSQL: ~/.pgpass)."
        yield Row("configuration", "mode", Level.YELLOW, what, todo)


def secret(config: Config, _found: Peek) -> Iterator[Row]:
    """See that the key material is ours alone, or that it can be made."""
    folder = config.state_folder()
    file = folder / "secret"
    try:
        if file.exists() or file.is_symlink():
            Keyring.open(file)  # only reads: it is there
            yield Row("state folder", "secret", Level.GREEN, f"{file}: readable by its owner only")
        else:
            yield _makeable(folder, "secret", file)
    except (ConfigError, PermissionError) as error:
        todo = getattr(error, "todo", "") or f"Make {folder} readable for the user who runs ebspub."
        yield Row("state folder", "secret", Level.RED, getattr(error, "what", "") or str(error), todo)
    else:
        yield from _room(folder)


def _room(folder: Path) -> Iterator[Row]:
    place = _nearest(folder)
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        todo = "Free disk space: a full disk stops every job (none is lost)."
        yield Row("state folder", "space", Level.YELLOW, f"{free >> 20} MiB free in {place}", todo)


def database(config: Config, found: Peek) -> Iterator[Row]:
    """See that the state database can be used, and of which revision it is."""
    where = config.store_url_redacted()
    file = sqlite_file(config.store_url())
    if not found.exists and file is not None:
        yield _makeable(file.parent, "file", file)
        return
    if found.fault:
        todo = "Mend what the database says, or name another one in [store] url."
        if "psycopg" in found.fault:
            todo = "Install the driver: pip install 'ebspub[postgresql]'."
        yield Row("database", "revision", Level.RED, f"{where} cannot be read: {found.fault}", todo)
        return
    yield _revision(where, found.revision)
    if file is not None:
        yield from _modes(file)


def _revision(where: str, revision: str | None) -> Row:
    head = migrate.HEAD
    if revision == head:
        return Row("database", "revision", Level.GREEN, f"{where}: revision {head}")
    if revision is None:
        return Row("database", "revision", Level.YELLOW, f"{where} has no tables", "The first `ebspub run` makes them.")
    try:
        known = ScriptDirectory(str(migrate.script_folder())).get_revision(revision) is not None
    except CommandError:
        known = False
    if known:
        todo = "`ebspub db upgrade`, or whatever command comes next, upgrades it; a SQLite file is copied before."
        return Row("database", "revision", Level.YELLOW, f"{where}: revision {revision}, to become {head}", todo)
    todo = "Use the version of ebspub that wrote it, or a later one."
    return Row("database", "revision", Level.RED, f"{where}: revision {revision} of a newer version", todo)


def _modes(file: Path) -> Iterator[Row]:
    open_to = file.stat().st_mode & 0o077
    if open_to:
        what = f"{file} is open to other users (mode {file.stat().st_mode & 0o777:04o})"
        yield Row("database", "mode", Level.YELLOW, what, f"chmod 0600 {file}, or leave it to the next command.")
    if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        todo = f"Run ebspub as the owner of {file}, or give it to this user (its folder, too)."
        yield Row("database", "mode", Level.RED, f"{file} or its folder cannot be written", todo)


def _nearest(folder: Path) -> Path:
    """Return ``folder`` or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _makeable(folder: Path, check: str, file: Path) -> Row:
    subject = "state folder" if check == "secret" else "database"
    place = _nearest(folder)
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Row(subject, check, Level.GREEN, f"{file}: not there yet; the first `ebspub run` makes it")
    todo = f"Make {folder} a folder that this user can write, or name another one in [store]."
    return Row(subject, check, Level.RED, f"{file} cannot be made: {place} cannot be written", todo)


def proof(config: Config, _found: Peek) -> Iterator[Row]:
    """See that every keyring can be read and that signatures can be checked; name what is published without proof."""
    sources = [
        (f"builds[{index}].source", table)
        for index, build in enumerate(config.builds)
        for table in (build.source, *(getattr(build.source, arch) for arch in build.arches))
        if table is not None
    ]
    files = dict.fromkeys(beside(config, table.keyring) for _, table in sources if table.keyring is not None)
    if files and shutil.which("gpgv") is None:
        yield Row("sources", "gpgv", Level.RED, "gpgv is not installed: no signature can be checked", INSTALL)
    for file in files:
        fault = check_keyring(file)
        if fault:
            todo = "Put the public keys there, as `gpg --export` writes them, or correct the path."
            yield Row("sources", "keyring", Level.RED, fault, todo)
        else:
            yield Row("sources", "keyring", Level.GREEN, file)
    bare = dict.fromkeys(path for path, table in sources if table.verify == "none")
    if bare:
        what = f'{", ".join(bare)}: verify = "none", nothing proves what is published'
        yield Row("sources", "proof", Level.YELLOW, what, "Give it a keyring or a sha256 where that can be had.")


#: Every check of this machine, in the order of the table.
CHECKS: Mapping[str, Callable[[Config, Peek], Iterator[Row]]] = {
    "configuration": configuration,
    "state folder": secret,
    "database": database,
    "sources": proof,
    "feeds": lambda config, _found: telling.feeds(config),
    "notifications": lambda config, _found: telling.notifications(config),
}


def check(config: Config, found: Peek) -> list[Row]:
    """Return the rows of all checks of this machine."""
    rows: list[Row] = []
    for subject, look in CHECKS.items():
        try:
            rows += look(config, found)
        except (EbspubError, OSError) as error:
            rows.append(Row(subject, "look", Level.RED, str(error), "Mend what the message names."))
    return rows
