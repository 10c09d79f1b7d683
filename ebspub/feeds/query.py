"""Query data: Ubuntu's plain text tables, one AMI a row, merged with what others published there.

    query/{released,daily}.latest.txt                        suite build label serial
    query/<suite>/<build>/{released,daily}.txt               AMIs, every serial, oldest first
    query/<suite>/<build>/{released,daily}.current.txt       AMIs of the newest serial only
    query/<suite>/<build>/{released,daily}-dl[.current].txt  suite build label serial arch path suggested_name

A row of an AMI is ``suite build label serial root_store arch region ami aki ari virt``, separated by tabs, without a
header; an absent kernel is an empty field. Readers in the wild unpack exactly that many columns. The first files, those
of lucid, had no ``virt``: :func:`render` goes on with ten columns where all kept rows have ten, or where it is told to.

Rows of others stay byte for byte, and in their order. A row is ours when its AMI is, published or withdrawn, or when it
stands where ours belongs (same suite, build, serial, region, root store, arch and virtualization).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from types import MappingProxyType

from ebspub.feeds import lines
from ebspub.feeds.catalog import STREAMS, Catalog, Download, Image, Stream, serial_key
from ebspub.feeds.lines import Line

ROOT = "query"
#: Suites whose rows have ten columns whatever is kept of them: pass it to :func:`render` to publish as in 2010.
LUCID_ERA: Mapping[str, int] = MappingProxyType({"lucid": 10})
#: Nothing hidden: rsync, for one, keeps what it has begun in folders of such names.
_PATH = re.compile(rf"{ROOT}/([^/.][^/]*)/([^/.][^/]*)/(released|daily)(-dl)?(\.current)?\.txt")
_LATEST = re.compile(rf"{ROOT}/(released|daily)\.latest\.txt")
_WIDE, _NARROW = 11, 10
_COLUMNS = attrgetter(
    *("suite", "build", "label", "serial", "root_store", "arch", "region", "ami", "aki", "ari", "virtualization")
)


def row(image: Image, columns: int = _WIDE) -> bytes:
    """Return the row of an AMI, without its line end."""
    return lines.joined(_COLUMNS(image)[:columns])


def parse(line: bytes) -> Image | None:
    """Return the AMI of a row; None for a line that is none. One of ten columns is paravirtual: nothing else was."""
    words = lines.split(line)
    if len(words) not in (_NARROW, _WIDE) or not all(words[:8]):
        return None
    suite, build, label, serial, root_store, arch, region, ami, aki, ari = words[:_NARROW]
    virtualization = (words[_NARROW] if len(words) == _WIDE else "") or "paravirtual"
    return Image(suite, build, label, serial, arch, region, ami, root_store, virtualization, aki, ari)


def is_query(path: str) -> bool:
    """Whether ``path`` is of the layout of query data."""
    return bool(_PATH.fullmatch(path) or _LATEST.fullmatch(path))


def keep(catalog: Catalog, files: Mapping[str, bytes], versions: Mapping[str, str]) -> Catalog:
    """Return the catalogue with the rows of ``files`` that are not its own.

    ``files`` are query data by path, as they lie in the folder or at an older publisher's; other paths are passed
    over. ``versions`` has the version of a suite, which the rows do not tell.
    """
    kept = {path: content for path, content in sorted(files.items()) if is_query(path)}
    mine = _Mine(catalog)
    found: dict[tuple[str, str], Image] = {}
    for path, content in kept.items():
        match = _PATH.fullmatch(path)
        if match is None or match[4]:
            continue
        for line in content.split(b"\n"):
            image = parse(line)
            # What is no text stays where it is, byte for byte; no other format could tell of it.
            if image is not None and _is_text(line) and not mine.image(image, match[3]):
                found.setdefault(image.place, replace(image, version=versions.get(image.suite, "")))
    return replace(catalog, kept=MappingProxyType(kept), others=tuple(found.values()))


def _is_text(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def render(catalog: Catalog, columns: Mapping[str, int] = MappingProxyType({})) -> dict[str, bytes]:
    """Return query data by path. ``columns``: how many the rows of a suite have, 10 or 11, whatever is kept of it.

    A file of others that nothing of ours is in, or belongs in, is given back as it is.
    """
    mine = _Mine(catalog)
    rendered = dict(catalog.kept)
    found: dict[Stream, dict[tuple[str, str], _Newest]] = {stream: {} for stream in STREAMS}
    for group in sorted(_groups(catalog)):
        suite, build, stream = group
        files = _amis(catalog, mine, group, columns.get(suite))
        touched = any(catalog.kept.get(path, b"") != content for path, content in files.items())
        found[stream][suite, build] = _newest_of(files[_path(group, current=True)], touched=touched)
        rendered |= files | _downloads(catalog, mine, group)
    for stream in STREAMS:
        path = f"{ROOT}/{stream}.latest.txt"
        rendered[path] = _latest(catalog.kept.get(path, b""), found[stream], mine)
    return {path: content for path, content in sorted(rendered.items()) if content or path in catalog.kept}


Group = tuple[str, str, Stream]


class _Mine:
    """What is ours, to be told from the rows of others."""

    def __init__(self, catalog: Catalog) -> None:
        known = (*catalog.images, *catalog.withdrawn)
        self.images: dict[Group, list[Image]] = {}
        self.downloads: dict[Group, list[Download]] = {}
        for image in catalog.images:
            self.images.setdefault((image.suite, image.build, image.stream), []).append(image)
        for file in catalog.downloads:
            self.downloads.setdefault((file.suite, file.build, file.stream), []).append(file)
        self.serials = frozenset((each.suite, each.build, each.serial) for each in known)
        self._places = frozenset(each.place for each in known)
        self._keys = frozenset((each.stream, *each.key) for each in catalog.images)
        # In whatever stream they were named before.
        self._files = frozenset(each.key for each in (*catalog.downloads, *catalog.gone))

    def image(self, image: Image, stream: str) -> bool:
        return image.place in self._places or (stream, *image.key) in self._keys

    def download(self, key: tuple[str, ...]) -> bool:
        return key in self._files


def _groups(catalog: Catalog) -> frozenset[Group]:
    """Return the suites, builds and streams in which anything of ours is, was, or may still be named."""
    known = (*catalog.images, *catalog.withdrawn)
    return frozenset((each.suite, each.build, stream) for each in known for stream in STREAMS)


def _path(group: Group, *, current: bool = False, downloads: bool = False) -> str:
    suite, build, stream = group
    return f"{ROOT}/{suite}/{build}/{stream}{'-dl' if downloads else ''}{'.current' if current else ''}.txt"


def _amis(catalog: Catalog, mine: _Mine, group: Group, columns: int | None) -> dict[str, bytes]:
    """Return the two files of AMIs of a group."""
    whole, current = (catalog.kept.get(_path(group, current=only), b"") for only in (False, True))

    def read(line: bytes) -> Line | None:
        image = parse(line)
        if image is None:
            return None
        return Line((serial_key(image.serial), *image.order), line, image, ours=mine.image(image, group[2]))

    theirs, recent = lines.kept(whole, read), lines.kept(current, read)
    if group not in mine.images and (lines.content(theirs, whole), lines.content(recent, current)) == (whole, current):
        return {_path(group): whole, _path(group, current=True): current}
    there = {each.value.place for each in theirs if each.value}
    # What only the current file names is history, too, once a newer serial is there.
    more = [each for each in recent if each.value and each.value.place not in there]
    wide = columns or _columns([*theirs, *recent])
    ours = [
        Line((serial_key(each.serial), *each.order), row(each, wide), each, ours=True)
        for each in mine.images.get(group, ())
    ]
    every = lines.merged(theirs, [*ours, *more])
    return {
        _path(group): lines.content(every, whole),
        _path(group, current=True): lines.content(_of_newest(every, recent), current),
    }


def _of_newest(every: list[Line], recent: list[Line]) -> list[Line]:
    """Return the lines of the newest serial: those of ``recent`` stay where they are, as do lines that say nothing."""
    last = max((each.order[0] for each in every if each.value), default=None)
    fresh = [each for each in recent if each.value is None or each.order[0] == last]
    shown = {each.text for each in fresh}
    return lines.merged(
        fresh, [each for each in every if each.value and each.order[0] == last and each.text not in shown]
    )


def _columns(theirs: Iterable[Line]) -> int:
    """Return how many columns the rows of a suite have: ten where all that are kept do."""
    counts = {len(lines.split(each.text)) for each in theirs if each.value is not None}
    return _NARROW if counts == {_NARROW} else _WIDE


def _downloads(catalog: Catalog, mine: _Mine, group: Group) -> dict[str, bytes]:
    """Return the two files of artefacts of a group."""

    def read(line: bytes) -> Line | None:
        words = lines.split(line)
        if len(words) != 7:
            return None
        file = Download(*words)
        return Line((serial_key(file.serial), file.arch), line, file, ours=mine.download(file.key))

    paths = [_path(group, current=only, downloads=True) for only in (False, True)]
    whole, current = (catalog.kept.get(path, b"") for path in paths)
    names = ("suite", "build", "label", "serial", "arch", "path", "name")
    ours = [
        Line(
            (serial_key(each.serial), each.arch), lines.joined([getattr(each, name) for name in names]), each, ours=True
        )
        for each in mine.downloads.get(group, ())
    ]
    theirs, recent = lines.kept(whole, read), lines.kept(current, read)
    if not ours and (lines.content(theirs, whole), lines.content(recent, current)) == (whole, current):
        return dict(zip(paths, (whole, current), strict=True))
    every = lines.merged(theirs, ours)
    rendered = lines.content(every, whole), lines.content(_of_newest(every, recent), current)
    return dict(zip(paths, rendered, strict=True))


@dataclass(frozen=True, slots=True)
class _Newest:
    """What the newest row of a suite and build says, and whether its file is another one than before."""

    label: str
    serial: str
    touched: bool

    def replaces(self, serial: str) -> bool:
        """Whether it is to be named instead of ``serial``, of which nothing more is known."""
        return self.touched and bool(self.serial) and serial_key(serial) <= serial_key(self.serial)


def _newest_of(current: bytes, *, touched: bool) -> _Newest:
    rows = [image for line in current.split(b"\n") if (image := parse(line)) is not None]
    last = max(rows, key=lambda each: serial_key(each.serial), default=None)
    return _Newest("", "", touched) if last is None else _Newest(last.label, last.serial, touched)


def _latest(kept: bytes, found: Mapping[tuple[str, str], _Newest], mine: _Mine) -> bytes:
    """Return the file that names the newest serial of every suite and build."""

    def read(line: bytes) -> Line | None:
        words = lines.split(line)
        if len(words) != 4:
            return None
        suite, build, _, serial = words
        newest = found.get((suite, build))
        # One of which nothing of ours is known may be of a build without AMIs: it stays where it is newer.
        ours = newest is not None and ((suite, build, serial) in mine.serials or newest.replaces(serial))
        return Line((suite, build), line, words, ours=ours)

    theirs = lines.kept(kept, read)
    standing = {each.order for each in theirs if each.value}
    ours = [
        Line(name, lines.joined([*name, each.label, each.serial]), each, ours=True)
        for name, each in sorted(found.items())
        if each.serial and name not in standing
    ]
    return lines.content(lines.merged(theirs, ours), kept)
