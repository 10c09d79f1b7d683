"""Which serial is the current one: the newest that has the artefacts of all arches, and what they are proved by.

Serials are what folders are named after (``20101020``, ``release-20101020.1``), as the index page of the folder above
has them, or the versions of a product in a simplestreams index. Where a folder cannot be listed, Ubuntu's ``current``
(or ``release``) is asked, whose ``unpacked/build-info.txt`` says which serial it is. Everything else is then read from
the serial's own folder: ``current`` may move between two looks.

A folder that is not complete yet is passed over for the one before; so is one of which the server shows something not
(403: what S3 answers for a key that is not there to whoever may not list the bucket), and that is logged. A list that
is there but whose signature is absent or bad is no reason to take an older build: the proof of the newest fails, and
says so.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from datetime import date

from ebspub.errors import SourceError
from ebspub.source import web
from ebspub.source.look import Look
from ebspub.source.resolve import Reader
from ebspub.source.sums import artefact_name, listed_names
from ebspub.spec import Source

log = logging.getLogger(__name__)
#: How many serials are looked at before it is said that none is complete.
_TRIED = 10
_SERIAL = re.compile(r"([0-9]{8})(?:\.([1-9][0-9]{0,2}))?")
_ADVICE = "Correct the source in the configuration, or give the serial with --serial."

#: The source of one arch, were this the serial.
At = Callable[[str], Source]


def in_folders(folder: tuple[str, str, str], arches: Sequence[At], look: Look) -> str:
    """Return the newest complete serial among the entries of a folder: (its URL, text before and after the serial).

    Raises :class:`SourceError` where there is none, or the place cannot be looked at.
    """
    found = _sorted(_serials(folder, look))
    forbidden: web.ForbiddenError | None = None
    for serial in found[:_TRIED]:
        try:
            if all(_complete(at(serial), look) for at in arches):
                return serial
        except web.ForbiddenError as error:
            forbidden = forbidden or error
            log.warning("serial %s is passed over: %s", serial, error.what)
    if forbidden is not None:
        raise SourceError(f"{folder[0]}/: no serial can be read: {forbidden.what}", todo=_ADVICE) from forbidden
    if found:
        raise SourceError(f"{folder[0]}/: no serial is complete (newest: {found[0]})", todo=_ADVICE)
    wanted = f"{folder[1]}SERIAL{folder[2]}"
    raise SourceError(f"{folder[0]}/: no {wanted} is there, and nothing says which is current", todo=_ADVICE)


def in_index(arches: Sequence[At], look: Look) -> str:
    """Return the newest version that the products of all arches have in their index. Raises :class:`SourceError`."""
    reader = Reader(look)
    sources = [at("20000101") for at in arches]
    serials = [set(reader.versions(source)) for source in sources]
    common = _sorted(set.intersection(*serials))
    if not common:
        products = ", ".join(str(source.product) for source in sources)
        raise SourceError(f"{sources[0].index}: no version has {sources[0].item} of {products}", todo=_ADVICE)
    return common[0]


def _serials(folder: tuple[str, str, str], look: Look) -> set[str]:
    url, before, after = folder
    try:
        names = look.names(url)
    except web.AbsentError:
        names = frozenset()
    pattern = re.compile(f"{re.escape(before)}({_SERIAL.pattern}){re.escape(after)}")
    found = {match[1] for name in names if (match := pattern.fullmatch(name)) and _is_day(match[1])}
    return found or _pointed_at(url, before, look)


def _pointed_at(url: str, before: str, look: Look) -> set[str]:
    """Return the serial of Ubuntu's own pointer: ``current`` beside dailies, ``release`` beside ``release-...``."""
    pointer = before.rstrip("-") or "current"
    try:
        content = look(f"{url}/{pointer}/unpacked/build-info.txt")
    except web.AbsentError:
        return set()
    serial = build_info(content).get("serial", "")
    return {serial} if _is_day(serial) else set()


def build_info(content: bytes) -> dict[str, str]:
    """Return what a ``build-info.txt`` says: shell assignments, their names in lower case."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        name, equals, value = line.strip().partition("=")
        try:
            words = shlex.split(value)
        except ValueError:
            continue
        if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and len(words) <= 1:
            found[name.lower()] = "".join(words)
    return found


def _is_day(serial: str) -> bool:
    match = _SERIAL.fullmatch(serial)
    try:
        return match is not None and date(int(serial[:4]), int(serial[4:6]), int(serial[6:8])) is not None
    except ValueError:
        return False


def _sorted(serials: Iterable[str]) -> list[str]:
    def age(serial: str) -> tuple[str, int]:
        day, _, number = serial.partition(".")
        return day, int(number or 0)

    return sorted((serial for serial in serials if _is_day(serial)), key=age, reverse=True)


def _complete(source: Source, look: Look) -> bool:
    if source.sums_url is not None:
        try:
            content = look(source.sums_url)
        except web.AbsentError:
            return False
        if artefact_name(source.url) not in listed_names(content):
            return False
    return look.exists(source.url)
