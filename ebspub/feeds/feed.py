"""Read what others publish: query data, simplestreams, or our own JSON, by its URL.

What a document is, is told by what it says. Signed simplestreams (``.sjson``, or ``.json`` with ``.json.gpg`` beside
it) are proved by a keyring; without one what is clear-signed is refused, and nothing vouches for the rest but https.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from ebspub.errors import SourceError
from ebspub.feeds import plain, query, suites
from ebspub.feeds.catalog import Image
from ebspub.source import web
from ebspub.source.fetch import fetch
from ebspub.source.look import is_local, path_of
from ebspub.source.signature import SignatureError, is_clear_signed, verify

#: Largest document, in bytes: Ubuntu's of all AMIs has less than 20 MiB.
LIMIT = 256 * 1024 * 1024
_SECONDS = 300.0
#: How often a document and its detached signature that do not fit are fetched again, if they are others then.
_TRIES = 3
_PLAIN = re.compile(r"[ -~]*")
_PATH = re.compile(r"[A-Za-z0-9_.:+~@=,-]+(/[A-Za-z0-9_.:+~@=,-]+)*")
_AMI = re.compile(r"ami-[0-9a-f]{1,32}")
_TODO = "Name a query file (.../released.current.txt), a streams/v1/index.json, or the folder of them."
#: Returns the content of a URL.
Read = Callable[[str], bytes]


def images(
    url: str, *, keyring: str | None = None, fingerprint: str | None = None, region: str = "", read: Read | None = None
) -> list[Image]:
    """Return the AMIs that the feed at ``url`` names.

    ``url`` is one of http(s) or ``file:///``, or an absolute path; a folder's leads to its ``streams/v1/index.json``.
    With ``keyring`` (a file of OpenPGP keys; ``fingerprint`` for one of them) simplestreams must be signed by it. With
    ``region`` files of products that have none of it are not fetched. Raises :class:`SourceError`.
    """
    reader = _Reader(read or _read, keyring, fingerprint)
    where = f"file://{quote(url)}" if url.startswith("/") else url
    if not re.search(r"\.(txt|json|sjson)$", urlsplit(where).path):
        where = f"{where.rstrip('/')}/streams/v1/index.{'sjson' if keyring else 'json'}"
    if keyring and urlsplit(where).path.endswith(".txt"):
        raise SourceError(f"{web.shown(where)} is not signed", todo="Name simplestreams, or give no keyring.")
    content = reader(where)
    if not content.lstrip().startswith(b"{"):
        return _rows(content, where)
    found = list(_documents(content, where, reader, region))
    return [each for each in found if region in ("", each.region)]


class _Reader:
    """Reads documents, and proves them where there is a keyring."""

    def __init__(self, read: Read, keyring: str | None, fingerprint: str | None) -> None:
        self._read = read
        self._keyring = keyring
        self._fingerprint = fingerprint

    def __call__(self, url: str) -> bytes:
        content = self._read(url)
        clear = is_clear_signed(content)
        if self._keyring is None:
            if clear:
                raise SourceError(
                    f"{web.shown(url)} is signed, and no keyring is given", todo="Give the keyring, or name the .json."
                )
            return content
        # Whatever it is and however it is called: what is not proved is nothing.
        if clear:
            return self._proved(url, content, None)
        beside = _signature(url)
        signature = self._read(beside)
        for _ in range(_TRIES):
            try:
                return self._proved(url, content, signature)
            except SignatureError:
                # One of them may be of a version that took the other's place in between.
                before = content, signature
                content, signature = self._read(url), self._read(beside)
                if (content, signature) == before:
                    raise
        return self._proved(url, content, signature)

    def _proved(self, url: str, content: bytes, signature: bytes | None) -> bytes:
        assert self._keyring is not None
        return verify(
            content, signature, keyring=self._keyring, fingerprint=self._fingerprint, origin=web.shown(url)
        ).content


def _signature(url: str) -> str:
    """Return the URL of the signature beside a document."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path}.gpg"))


def _read(url: str) -> bytes:
    if not is_local(url):
        return fetch(url, limit=LIMIT, deadline=_SECONDS)
    path: Path = path_of(url)
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", todo=_TODO) from error


def _rows(content: bytes, url: str) -> list[Image]:
    known = suites.known()
    found = [image for line in content.split(b"\n") if (image := query.parse(line)) is not None and _sane(image)]
    if not found and content.strip():
        raise SourceError(f"{web.shown(url)} is neither query data nor simplestreams", todo=_TODO)
    return [replace(each, version=known[each.suite].version) if each.suite in known else each for each in found]


def _documents(content: bytes, url: str, read: Read, region: str, *, leads: bool = True) -> Iterator[Image]:
    """Yield the images of a JSON document, and of those that it leads to, if it may."""
    document = _table(content, url)
    match document.get("format"):
        case "index:1.0" if leads:
            root, streams, _ = url.rpartition("/streams/v1/")
            if not streams:
                raise SourceError(f"{web.shown(url)} is in no folder streams/v1", todo=_TODO)
            for path in _paths(document, url, region):
                where = f"{root}/{quote(path)}"
                yield from _documents(read(where), where, read, region, leads=False)
        case "products:1.0":
            yield from _products(document)
        case plain.FORMAT:
            yield from _own(document)
        case _:
            raise SourceError(f"{web.shown(url)} is JSON, but no feed of images", todo=_TODO)


def _table(content: bytes, url: str) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{web.shown(url)} is damaged: it is not JSON", todo=_TODO) from error
    return _as_table(document)


def _as_table(value: object) -> Mapping[str, Any]:
    """Return a table of a document; what is none holds nothing."""
    return value if isinstance(value, dict) else {}


def _paths(index: Mapping[str, Any], url: str, region: str) -> Iterator[str]:
    """Yield the paths of the files of image ids that may have images of ``region``."""
    for entry in map(_as_table, _as_table(index.get("index")).values()):
        if entry.get("datatype") != "image-ids":
            continue
        clouds = entry.get("clouds")
        there = [_as_table(each).get("region") for each in clouds] if isinstance(clouds, list) else []
        if region and there and region not in there:
            continue
        path = entry.get("path")
        if not isinstance(path, str) or not _PATH.fullmatch(path) or ".." in path.split("/"):
            raise SourceError(f"{web.shown(url)}: a path in it leads elsewhere: {path!r:.80}", todo=_TODO)
        yield path


def _products(document: Mapping[str, Any]) -> Iterator[Image]:
    for name, product in _as_table(document.get("products")).items():
        words = name.split(":")
        build = words[1] if len(words) == 4 else "server"
        for serial, version in _as_table(_as_table(product).get("versions")).items():
            for item in map(_as_table, _as_table(_as_table(version).get("items")).values()):
                # What an item does not say its version, its product or the document says for it.
                facts = {**_texts(document), **_texts(_as_table(product)), **_texts(_as_table(version)), **_texts(item)}
                virt, store = facts.get("virt", "hvm"), facts.get("root_store", "ssd")
                image = Image(
                    facts.get("release", ""),
                    build,
                    facts.get("label", "release"),
                    serial,
                    facts.get("arch", ""),
                    facts.get("region") or facts.get("crsn", ""),
                    facts.get("id", ""),
                    {"instance": "instance-store", "ebs": "ebs"}.get(store, f"ebs-{store}"),
                    "paravirtual" if virt == "pv" else virt,
                    version=facts.get("version", ""),
                )
                if _sane(image):
                    yield image


def _own(document: Mapping[str, Any]) -> Iterator[Image]:
    names = ("suite", "build", "label", "serial", "arch", "region", "ami", "root_store", "virtualization", "aki", "ari",
             "version", "snapshot", "name", "boot_mode", "volume_type", "partition")  # fmt: skip
    listed = document.get("images")
    for each in listed if isinstance(listed, list) else ():
        facts = _texts(_as_table(each))
        image = Image(
            **{name: facts.get(name, "") for name in names},
            created=_time(facts.get("created", "")),
            released=_time(facts.get("released", "")),
        )
        if _sane(image):
            yield image


def _time(text: str) -> float | None:
    """Return a time of RFC 3339 in seconds since the epoch; what is none, or of no year of ours, is not known."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    known = found.tzinfo is not None and 1970 < found.year < 9999
    return found.timestamp() if known else None


def _texts(table: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in table.items() if isinstance(value, str)}


def _sane(image: Image) -> bool:
    """Whether an image can be shown and launched: a feed may hold commands to a terminal."""
    texts = (image.suite, image.build, image.label, image.serial, image.arch, image.region, image.root_store,
             image.virtualization, image.aki, image.ari, image.version, image.snapshot, image.name)  # fmt: skip
    needed = image.suite and image.serial and image.arch and image.region
    return bool(needed and _AMI.fullmatch(image.ami)) and all(_PLAIN.fullmatch(text) for text in texts)
