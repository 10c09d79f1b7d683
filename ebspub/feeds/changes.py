"""An Atom feed (RFC 4287) of new builds: one entry for each, the newest first.

A build is told once it is published, and again (same id, later ``updated``) when a region comes in late.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence

from ebspub.clock import isoformat
from ebspub.feeds import suites
from ebspub.feeds.catalog import Catalog, Image, changed, serial_key

PATH = "changes.atom"
#: How many builds it tells. Who reads it less often than that many come reads the other files.
LIMIT = 100
_ATOM = "http://www.w3.org/2005/Atom"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(
    catalog: Catalog, *, origin: str = "ebspub", title: str = "New images", url: str = "", rows: bool = True
) -> dict[str, bytes]:
    """Return the feed. Of others' rows it says nothing: nobody knows when they came.

    ``origin`` makes its ids its own: letters, digits, dots and dashes, such as the publisher's host. ``url`` is where
    the folder of feeds is served, if it is; with ``rows`` there are files of query data to link to.
    """
    ET.register_namespace("", _ATOM)
    builds: dict[tuple[str, str, str], list[Image]] = {}
    for image in catalog.images:
        if image.at is not None:
            builds.setdefault((image.suite, image.build, image.serial), []).append(image)
    if not builds and not catalog.withdrawn:
        return {}
    feed = ET.Element(f"{{{_ATOM}}}feed")
    _text(feed, "id", f"urn:ebspub:{origin}:changes")
    _text(feed, "title", title)
    _text(feed, "updated", isoformat(catalog.changed))
    _text(ET.SubElement(feed, f"{{{_ATOM}}}author"), "name", origin)
    if url:
        _link(feed, "self", f"{url.rstrip('/')}/{PATH}", "application/atom+xml")
    for images in sorted(builds.values(), key=_newest_first, reverse=True)[:LIMIT]:
        _entry(feed, images, origin, url if rows else "")
    ET.indent(feed, space=" ")
    return {PATH: b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(feed, encoding="utf-8") + b"\n"}


def _newest_first(images: list[Image]) -> tuple[float, tuple[int, int, str], str, str]:
    first = images[0]
    return _published(images), serial_key(first.serial), first.suite, first.build


def _published(images: Iterable[Image]) -> float:
    return min(each.at for each in images if each.at is not None)


def _entry(feed: ET.Element, images: list[Image], origin: str, url: str) -> None:
    first = images[0]
    version = suites.of(first).title
    entry = ET.SubElement(feed, f"{{{_ATOM}}}entry")
    _text(entry, "id", f"urn:ebspub:{origin}:{first.suite}:{first.build}:{first.serial}")
    _text(entry, "title", f"{first.suite} {first.build} {first.serial} ({first.label}, {version})")
    _text(entry, "updated", isoformat(changed(*images)))
    _text(entry, "published", isoformat(_published(images)))
    if url:
        file = f"query/{first.suite}/{first.build}/{first.stream}.txt"
        _link(entry, "alternate", f"{url.rstrip('/')}/{file}", "text/plain")
    ET.SubElement(entry, f"{{{_ATOM}}}category", term=first.label)
    regions = sorted({each.region for each in images})
    arches = sorted({each.arch for each in images})
    lines = [f"{each.region}\t{each.arch}\t{each.virtualization}:{each.root_store}\t{each.ami}" for each in images]
    _text(entry, "summary", f"{_count(images, 'AMI')} of {', '.join(arches)} in {_count(regions, 'region')}.")
    _text(entry, "content", "\n".join(lines), type="text")


def _count(things: Sequence[object], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _text(parent: ET.Element, name: str, text: str, **attributes: str) -> None:
    # What XML 1.0 cannot hold at all would make the whole feed unreadable.
    ET.SubElement(parent, f"{{{_ATOM}}}{name}", attributes).text = _NOT_XML.sub("�", text)


def _link(parent: ET.Element, rel: str, href: str, kind: str) -> None:
    ET.SubElement(parent, f"{{{_ATOM}}}link", rel=rel, href=href, type=kind)
