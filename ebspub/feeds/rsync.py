"""Bring the folder of feeds to another machine by rsync, and say what is stale there.

What is named goes before what names it, and is removed after it: one call of rsync for each rank of
:mod:`ebspub.feeds.files`. A file is compared by its content and replaced as a whole. The folder remembers what was
brought where (a file for each destination), for only that is ever removed there; it is not read there, where a key or
a server may allow writing only. Folders that are left empty stay.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Collection, Iterable
from itertools import groupby
from pathlib import Path

from ebspub.feeds import files
from ebspub.feeds.files import Written, in_order, rank
from ebspub.feeds.sync import SyncError

#: Not the folder's own, nor what somebody is writing there at this moment.
_HIDDEN = ("--exclude=.ebspub-*", "--exclude=.*.ebspub-new")
_SAME = ("--checksum", "--perms", "--omit-dir-times")
#: Files take their places at the end, one right after the other: a document and its signature differ for a moment only.
_TIMELY = ("--times", "--delay-updates")
_EVERYTHING = ("--recursive", "--delete-after", *_HIDDEN)
#: Seconds that a copy may take, and a look at what is there.
_SECONDS, _LOOK = 3600.0, 120.0
#: What was done to a file, or would be: eleven letters of rsync's, a space, the path.
_ITEM = re.compile(r"(?:[<>ch.]f.{9}|(?P<gone>\*deleting  )) (?P<path>.*[^/])")


def copy(
    folder: Path, paths: Collection[str], destination: str, *, delete: bool = False, source: Path | None = None
) -> Written:
    """Bring the files ``paths`` of ``folder`` to ``destination``, as rsync takes it: ``HOST:/path/``.

    ``source``: where they are read, such as :func:`files.still` of the folder; without it the folder itself.

    What was brought there before and is not among ``paths`` is removed. ``delete``: whatever else is there is, too,
    last, for it is a copy of the folder and nothing else. To be called by one at a time (:func:`files.copying`).
    Raises :class:`SyncError`.
    """
    before = files.copied(folder, destination)
    if not before.issuperset(paths):
        files.remember(folder, destination, before.union(paths))
    done = _bring(source or folder, paths, destination) + _take(before - set(paths), destination)
    if delete:
        done += _rsync([*_SAME, *_TIMELY, *_EVERYTHING], source or folder, destination)
    if before != set(paths):
        files.remember(folder, destination, paths)
    removed = [path for path, gone in done if gone]
    return Written(tuple(path for path, gone in done if not gone), tuple(removed), 0)


def stale(folder: Path, paths: Collection[str], destination: str, *, delete: bool = False) -> list[str]:
    """Return the paths below ``destination`` that :func:`copy` would bring or remove; nothing is written there.

    A file is stale where its content or its mode is another one. Raises :class:`SyncError`.
    """
    look = ["--dry-run"]
    # Where nothing was ever written there is no folder to compare.
    found = _listed(folder, [*_SAME, *look], paths, destination) if paths else []
    found += _take(files.copied(folder, destination) - set(paths), destination, *look)
    if delete and folder.is_dir():
        found += _rsync([*_SAME, *_EVERYTHING, *look], folder, destination)
    return sorted({path for path, _ in found})


def below(destination: str, path: str) -> str:
    """Return how ``path`` below ``destination`` is called."""
    return f"{destination}{'' if destination.endswith(('/', ':')) else '/'}{path}"


Item = tuple[str, bool]


def _bring(folder: Path, paths: Iterable[str], destination: str) -> list[Item]:
    done = []
    for _, some in groupby(in_order(paths), key=rank):
        done += _listed(folder, [*_SAME, *_TIMELY], some, destination)
    return done


def _take(paths: Iterable[str], destination: str, *options: str) -> list[Item]:
    """Remove ``paths`` at ``destination``, or look whether they are there, without a look at anything else."""
    done: list[Item] = []
    for _, some in groupby(reversed(in_order(paths)), key=rank):
        gone = list(some)
        with tempfile.TemporaryDirectory(prefix="ebspub-rsync-") as name:
            # What is missing where its folder is there is deleted: of what is in a missing folder rsync does not ask.
            for path in gone:
                (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
            done += _listed(Path(name), ["--delete-missing-args", "--existing", *options], gone, destination)
    return done


def _listed(folder: Path, options: list[str], paths: Iterable[str], destination: str) -> list[Item]:
    return _rsync([*options, "--from0", "--files-from=-"], folder, destination, "\0".join(paths))


def _rsync(options: list[str], folder: Path, destination: str, names: str = "") -> list[Item]:
    """Run rsync; return what it did, or would do, to files: their paths, and whether they go."""
    limit = _LOOK if "--dry-run" in options else _SECONDS
    # With a slash: without one a single file would be called as the folder is to be.
    command = ["rsync", *options, "--out-format=%i %n", "--", f"{folder}/", below(destination, "")]
    try:
        done = subprocess.run(command, input=os.fsencode(names), capture_output=True, check=False, timeout=limit)
    except FileNotFoundError as error:
        raise SyncError("rsync is not installed", todo="Install it: apt-get install rsync.") from error
    except subprocess.TimeoutExpired as error:
        raise SyncError(f"{destination}: rsync did not end within {limit:g} s", todo="Try again.") from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip()[:500]
        raise SyncError(
            f"{destination}: rsync ended with exit status {done.returncode}: {said}",
            todo="Try again: what is there is whole, and no index names what is missing.",
        )
    lines = done.stdout.decode("utf-8", "replace").split("\n")
    return [(found["path"], bool(found["gone"])) for line in lines if (found := _ITEM.fullmatch(line))]
