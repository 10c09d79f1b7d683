"""The locator: ``releasesTable`` as programs read it, and a page that finds an AMI as one types.

``aaData`` has a row for each AMI of the newest serials: Zone, Name, Version, Arch, Instance Type, Release, AMI-ID (a
link that launches it), AKI-ID (`hvm` where it needs none), and, which Ubuntu's had not, the plain AMI id.

The page is static: it loads its data as a script, so that it also works where it is opened by its path, and asks no
other host for anything.
"""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Iterable
from functools import lru_cache
from importlib import resources

from ebspub.feeds import changes, places, plain, suites
from ebspub.feeds.catalog import Catalog, Image, newest, serial_key

ROOT = "locator/ec2"
TABLE = f"{ROOT}/releasesTable"
PAGE = f"{ROOT}/index.html"
_RESOURCES = {"locator.css": f"{ROOT}/locator.css", "locator.js": f"{ROOT}/locator.js"}
#: What else programs may read, by format: links to what lies in the folder above.
_BESIDE = {
    "plain": (f'<a href="../../{plain.JSON}">JSON</a>', f'<a href="../../{plain.CSV}">CSV</a>'),
    "changes": (f'<a href="../../{changes.PATH}">new builds</a> as a feed',),
}
Row = tuple[str, ...]


def render(
    catalog: Catalog,
    *,
    title: str = "EC2 image locator",
    every_serial: bool = False,
    formats: Collection[str] = ("plain", "changes"),
) -> dict[str, bytes]:
    """Return table and page by path, of what is released; ``every_serial``: of older ones, too, not of the newest only.

    ``title`` is the heading of the page, which links to those of ``formats`` that programs read, and to no other.
    """
    images = catalog.every
    if not images and not catalog.withdrawn:
        return {}
    released = [each for each in images if each.stream == "released"]
    shown = _in_order(released if every_serial else newest(released))
    rows = [row(each) for each in shown]
    table = ",\n".join(map(_line, rows, shown))
    beside = [link for name, links in _BESIDE.items() if name in formats for link in links]
    page = _resource("locator.html").decode()
    page = page.replace("{{beside}}", ",\n".join(['<a href="releasesTable">releasesTable</a>', *beside]))
    page = page.replace("{{title}}", html.escape(title))
    return {
        TABLE: f'{{"aaData":[\n{table}\n]}}\n'.encode(),
        PAGE: page.encode(),
        f"{ROOT}/releases.js": _script(rows, shown),
        **{path: _resource(name) for name, path in _RESOURCES.items()},
    }


def row(image: Image) -> Row:
    """Return the eight cells of an AMI, all plain text."""
    suite = suites.of(image)
    virtual = image.virtualization == "hvm"
    return (
        image.region,
        image.suite if image.build == "server" else f"{image.suite} {image.build}",
        suite.title if image.label in ("release", "daily") else f"{suite.title} {image.label}",
        image.arch,
        f"hvm:{image.root_store}" if virtual else image.root_store,
        image.serial,
        image.ami,
        image.aki,
    )


def _in_order(images: Iterable[Image]) -> list[Image]:
    """Return the newest release first, and of it the newest serial."""
    placed = sorted(images, key=lambda each: (each.suite, each.build, each.order))
    placed.sort(key=lambda each: serial_key(each.serial), reverse=True)
    placed.sort(key=lambda each: _numbers(suites.of(each).version), reverse=True)
    return placed


@lru_cache(maxsize=256)
def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _line(cells: Row, image: Image) -> str:
    """Return an AMI's row of the table."""
    kernel = image.aki or ("hvm" if image.virtualization == "hvm" else "")
    # Readers put the cells into pages as they are: one of them is a link.
    return json.dumps([*map(_escaped, cells[:6]), _link(image), _escaped(kernel), html.escape(image.ami)])


@lru_cache(maxsize=4096)
def _escaped(cell: str) -> str:
    # Most cells are in many rows.
    return html.escape(cell)


def _link(image: Image) -> str:
    url = places.launch(image)
    name = html.escape(image.ami)
    return f'<a href="{html.escape(url)}">{name}</a>' if url else name


def _script(rows: list[Row], images: list[Image]) -> bytes:
    """Return the page's data as a script that assigns it."""
    # An AMI's link is its region's and its id: for each region once.
    links = {each.region: url.removesuffix(each.ami) for each in images if (url := places.launch(each))}
    lines = ",\n".join(map(json.dumps, rows))
    head = f'"use strict";\nconst releases = {{"launch":{json.dumps(links, sort_keys=True)},"rows":[\n'
    return f"{head}{lines}\n]}};\n".encode()


def _resource(name: str) -> bytes:
    return (resources.files(__package__) / name).read_bytes()
