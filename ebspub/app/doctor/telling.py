"""Whether what is published can be told of: the folder of feeds, the key that signs them, who is notified."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ebspub.app.doctor.rows import Level, Row
from ebspub.app.release.feeds import Folder, configured
from ebspub.config import Config
from ebspub.feeds import signing


def feeds(config: Config) -> Iterator[Row]:
    """See that feeds can be written, signed and copied; buckets are not looked at. Nothing where none are wanted."""
    found = configured(config)
    if not isinstance(found, Folder):
        return
    yield _folder(found.folder)
    if found.key is not None:
        fault = signing.fault(found.key)
        if fault is None:
            yield Row("feeds", "key", Level.GREEN, f"GnuPG has the secret key {found.key.fingerprint}")
        else:
            yield Row("feeds", "key", Level.RED, fault, "Correct [feeds] sign, or import the key for this user.")
    if config.feeds.sync.rsync is not None and shutil.which("rsync") is None:
        yield Row("feeds", "rsync", Level.RED, "rsync is not installed", "Install it: apt-get install rsync.")


def _folder(folder: Path) -> Row:
    place = next(each for each in (folder, *folder.parents) if each.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        there = "" if place == folder else ": not there yet; the first `ebspub publish` makes it"
        return Row("feeds", "folder", Level.GREEN, f"{folder}{there}")
    todo = f"Make {folder} a folder that this user can write, or name another one in [feeds]."
    return Row("feeds", "folder", Level.RED, f"{place} cannot be written", todo)


def notifications(config: Config) -> Iterator[Row]:
    """See that there is what `[notify]` names on this machine. What is amiss there stops no publication."""
    table = config.notify
    if table.command is not None:
        program = shutil.which(table.command[0])
        if program is None:
            todo = "Correct [notify] command: an absolute path is best."
            yield Row("notifications", "command", Level.YELLOW, f"no program {table.command[0]}", todo)
        else:
            yield Row("notifications", "command", Level.GREEN, program)
    wanted = [*([table.webhook_env] if table.webhook_env else []), *table.headers.values()]
    missing = [name for name in dict.fromkeys(wanted) if not os.environ.get(name)]
    if missing:
        what = f"not set in the environment: {', '.join(missing)}"
        yield Row("notifications", "webhook", Level.YELLOW, what, "Set it where ebspub runs: cron, systemd.")
