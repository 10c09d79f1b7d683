"""Write a rendering into a folder that others read at the same time, or have served by a web server.

Every file is replaced by a rename, so that a reader has the old one or the new one, never half. What others are named
by comes last: a file is there before the index that names it, and goes after the index that named it. A detached
signature (``X.gpg``) takes its place right after ``X``, and both are written out beforehand, so that they differ for a
moment only. A file that is as it should be is not touched. A process that dies in between leaves a folder that readers
can use, and the next one ends its work. Two at once wait for one another.

``.ebspub-files`` in the folder lists what was written there, for only that is ever removed; ``.ebspub-copied-...`` what
was copied from it to one place, for the same reason.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

from ebspub.errors import EbspubError

LIST = ".ebspub-files"
_LOCK = ".ebspub-lock"
_COPYING = ".ebspub-copying"
_COPIED = ".ebspub-copied-"
_STILL = ".ebspub-still"
_TEMPORARY = ".ebspub-new"
_MODE, _FOLDER_MODE, _LOCK_MODE = 0o644, 0o755, 0o600
#: Seconds that another process is waited for: longer than a copy may take; between two looks.
WAIT, _LOOK = 4000.0, 0.05
#: What names others, in the order in which it is written, after everything else: files of products name nothing but
#: AMIs; indexes name files; of query data it is the list of the newest serials that readers begin with.
_INDEXES = (
    re.compile(r"(.*/)?[^/]+\.current\.txt"),
    re.compile(r"(.*/)?[^/]+\.latest\.txt"),
    re.compile(r"(.*/)?index\.(json|sjson)(\.gpg)?"),
    re.compile(r"(.*/)?index\.html"),
)


class FilesError(EbspubError):
    """The folder of feeds cannot be written or read."""


@dataclass(frozen=True, slots=True)
class Written:
    """What :func:`write` did: paths below the folder, in the order in which it did it."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0


def rank(path: str) -> int:
    """Return when a file is written: 0 first; the higher, the more it leads to the others."""
    return next((place for place, pattern in enumerate(_INDEXES, start=1) if pattern.fullmatch(path)), 0)


def in_order(paths: Iterable[str]) -> list[str]:
    """Return the order in which files are written; they are removed in the reverse one."""
    # A detached signature right after what it signs: what must fit together differs for the shortest time.
    return sorted(paths, key=lambda path: (rank(path), path.removesuffix(".gpg"), path))


def listing(paths: Iterable[str]) -> bytes:
    """Return the file that lists what was written."""
    return json.dumps(sorted(paths), indent=0).encode() + b"\n"


def listed(content: bytes) -> set[str]:
    """Return what a list names; a damaged one nothing, so that too much stays and not too little."""
    try:
        found = json.loads(content)
    except ValueError:
        return set()
    return {path for path in found if isinstance(path, str) and _below(path)} if isinstance(found, list) else set()


def write(
    rendering: Mapping[str, bytes], folder: Path, *, reach: Callable[[str], None] = lambda _point: None
) -> Written:
    """Make ``folder`` hold ``rendering``, by path; return what was done.

    What an earlier rendering wrote and this one has not is removed, other files stay. ``reach`` is called with the
    name of every point that is reached, for tests. Raises :class:`FilesError`.
    """
    return update(folder, lambda _path: False, lambda _files: rendering, reach=reach)


def update(
    folder: Path,
    wanted: Callable[[str], bool],
    render: Callable[[dict[str, bytes]], Mapping[str, bytes]],
    *,
    reach: Callable[[str], None] = lambda _point: None,
) -> Written:
    """Make ``folder`` hold what ``render`` makes of the files there that ``wanted`` takes; return what was done.

    Nobody else writes between the reading and the writing, so that of two publishers at once none takes back what the
    other did, if ``render`` asks for the catalogue itself. Raises :class:`FilesError`, and what ``render`` raises.
    """
    try:
        _make(folder)
        with _alone(folder):
            rendering = render(read(folder, wanted))
            for path in rendering:
                _require_below(path)
            return _write(rendering, folder, reach)
    except OSError as error:
        raise FilesError(
            f"{folder}: the feeds cannot be written: {error.strerror} ({error.filename})",
            todo="Make room, or make it writable for this user, and try again: readers still have what was there.",
        ) from error


def read(folder: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the files below ``folder`` whose path ``wanted`` takes; nothing where there is no folder.

    Raises :class:`FilesError`.
    """
    found = {}
    with _reading(folder):
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if wanted(name) and path.is_file():
                found[name] = path.read_bytes()
    return found


def differing(folder: Path, rendering: Mapping[str, bytes], *, spared: Iterable[str] = ()) -> list[str]:
    """Return the paths that :func:`write` would write or remove, but for those in ``spared``; nothing is written.

    Raises :class:`FilesError`.
    """
    with _reading(folder):
        gone = [path for path in _before(folder) - rendering.keys() - set(spared) if (folder / path).is_file()]
        new = [path for path, content in rendering.items() if not _holds(folder / path, content)]
    return sorted([*gone, *new])


def kept(folder: Path) -> dict[str, bytes]:
    """Return the files that were written to ``folder`` and are there, by path. Raises :class:`FilesError`."""
    with _reading(folder):
        names = _before(folder)
    return read(folder, lambda path: path in names)


@contextmanager
def copying(folder: Path) -> Iterator[None]:
    """Hold the right to copy ``folder`` elsewhere: of two at once the last to copy has the last to be written.

    Others may write the folder meanwhile, and copy it afterwards. Raises :class:`FilesError`.
    """
    try:
        with _alone(folder, _COPYING):
            yield
    except OSError as error:
        raise FilesError(
            f"{folder}: cannot be copied: {error.strerror} ({error.filename})", todo="Make it writable for this user."
        ) from error


@contextmanager
def still(folder: Path) -> Iterator[Path]:
    """Yield a folder that holds what is in ``folder`` now and goes on to, while others write there; to be read only.

    Under :func:`copying`: who copies a folder that is being written may copy an index before what it names. Files are
    links: in ``folder`` they are replaced, never changed. Raises :class:`FilesError`.
    """
    made = folder / _STILL
    try:
        with _alone(folder):
            shutil.rmtree(made, ignore_errors=True)  # of one that died
            shutil.copytree(folder, made, symlinks=True, copy_function=_linked, ignore=_not_theirs)
        yield made
    except shutil.Error as error:
        raise FilesError(f"{folder}: cannot be copied: {error}", todo="Make it readable for this user.") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _linked(source: str, copy: str) -> None:
    try:
        os.link(source, copy, follow_symlinks=False)
    except OSError:  # it is somebody else's, or of another file system
        shutil.copy2(source, copy, follow_symlinks=False)


def _not_theirs(_folder: str, names: Iterable[str]) -> list[str]:
    """Return what is not for readers, but for the list of what is."""
    return [each for each in names if each != LIST and (each.startswith(".ebspub-") or each.endswith(_TEMPORARY))]


def copied(folder: Path, destination: str) -> set[str]:
    """Return the files that were copied to ``destination``, as :func:`remember` had it. Raises :class:`FilesError`."""
    with _reading(folder):
        file = _copied(folder, destination)
        return listed(file.read_bytes()) if file.is_file() else set()


def remember(folder: Path, destination: str, paths: Iterable[str]) -> None:
    """Write down the files that are, or will be, at ``destination``; under :func:`copying`. Raises OSError."""
    _replace({_copied(folder, destination): listing(paths)})


def _copied(folder: Path, destination: str) -> Path:
    # The folder is served, and where it is copied to may be nobody's business.
    return folder / f"{_COPIED}{hashlib.sha256(destination.encode()).hexdigest()[:16]}"


def _before(folder: Path) -> set[str]:
    """Return what an earlier rendering wrote."""
    return listed((folder / LIST).read_bytes()) if (folder / LIST).is_file() else set()


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FilesError(
            f"{folder}: cannot be read: {error.strerror} ({error.filename})", todo="Make it readable for this user."
        ) from error


def _write(rendering: Mapping[str, bytes], folder: Path, reach: Callable[[str], None]) -> Written:
    before = _before(folder)
    _tidy(folder, before | rendering.keys())
    gone = [path for path in reversed(in_order(before - rendering.keys())) if (folder / path).is_file()]
    new = [path for path in in_order(rendering) if not _holds(folder / path, rendering[path])]
    if new or gone:
        # Before anything is there that it does not list; after everything is gone that it did.
        _replace({folder / LIST: listing(before | rendering.keys())})
    reach("listed")
    for some in _together(new):
        _replace({folder / path: rendering[path] for path in some})
        for path in some:
            reach(f"wrote {path}")
    for path in gone:
        (folder / path).unlink()
        reach(f"removed {path}")
        _prune(folder, path)
    if not _holds(folder / LIST, listing(rendering)):
        _replace({folder / LIST: listing(rendering)})
    return Written(tuple(new), tuple(gone), len(rendering) - len(new))


def _holds(file: Path, content: bytes) -> bool:
    try:
        return file.stat().st_size == len(content) and file.read_bytes() == content
    except (FileNotFoundError, NotADirectoryError):
        return False


def _together(paths: Iterable[str]) -> Iterator[list[str]]:
    """Yield what is to take its place at once: a file, with its detached signature where that comes next."""
    for _, some in groupby(paths, key=lambda path: path.removesuffix(".gpg")):
        yield list(some)


def _replace(contents: Mapping[Path, bytes]) -> None:
    """Put each content in the place of its file, whole or not at all, whatever dies in between; in this order."""
    ready = [(_written(file, content), file) for file, content in contents.items()]
    for new, file in ready:
        new.replace(file)
    for folder in {file.parent for file in contents}:
        _sync(folder)


def _written(file: Path, content: bytes) -> Path:
    """Return a file beside ``file`` that has ``content``, on the disk."""
    _make(file.parent)
    new = file.with_name(f".{file.name}{_TEMPORARY}")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE), "wb") as out:
        # Not as the umask has it: what is published is for everybody.
        os.fchmod(out.fileno(), _MODE)
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    return new


def _make(folder: Path) -> None:
    """Make a folder, and those above it that are not there, for everybody to enter: not as the umask has it."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(exist_ok=True)
        missing.chmod(_FOLDER_MODE)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tidy(folder: Path, paths: Iterable[str]) -> None:
    """Remove what a process that died had begun to write. Nobody else writes now."""
    for path in (LIST, *paths):
        file = folder / path
        file.with_name(f".{file.name}{_TEMPORARY}").unlink(missing_ok=True)


def _prune(folder: Path, path: str) -> None:
    """Remove the folders that are empty without ``path``."""
    for parent in (folder / path).parents:
        if parent == folder:
            return
        try:
            parent.rmdir()
        except OSError:  # something is in it still, of ours or of others
            return


@contextmanager
def _alone(folder: Path, lock: str = _LOCK) -> Iterator[None]:
    """Hold a lock of the folder; it goes with the process, however that ends. Raises :class:`FilesError`."""
    handle = os.open(folder / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _LOCK_MODE)
    try:
        # Whoever may open the file may lock it.
        os.fchmod(handle, _LOCK_MODE)
        _lock(handle, folder / lock)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, file: Path) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise FilesError(
                    f"{file.parent}: another process has been writing or copying the feeds for {WAIT:g} s",
                    todo=f"See which one has {file} open (`fuser -v`), end it if it hangs, and try again.",
                ) from None
            time.sleep(_LOOK)
        else:
            return


def _below(path: str) -> bool:
    parts = PurePosixPath(path).parts
    good = path == "/".join(parts) and not path.startswith("/") and "\0" not in path
    return good and bool(parts) and not any(part == ".." or part.startswith(".") for part in parts)


def _require_below(path: str) -> None:
    if not _below(path):
        raise ValueError(f"no path of a feed: {path!r}")
