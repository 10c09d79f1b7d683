"""Every renderer under its name, all of them at once, and all of them into a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from ebspub.feeds import changes, files, locator, plain, query, signing, streams, suites
from ebspub.feeds.catalog import Catalog


def _none() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Options:
    """What a publisher may say of its feeds.

    ``columns``: how many columns the query data of a suite have (10 as in 2010, or 11). ``title``: of the locator and
    of the feed of changes. ``origin``: who publishes, such as a host's name. ``url``: where the folder is served.
    ``formats``: names of :data:`RENDERERS`.
    """

    names: streams.Names = field(default_factory=streams.Names)
    columns: Mapping[str, int] = field(default_factory=_none)
    title: str = "EC2 image locator"
    origin: str = "ebspub"
    url: str = ""
    every_serial: bool = False
    formats: tuple[str, ...] = ("query", "streams", "locator", "plain", "changes")


Renderer = Callable[[Catalog, Options], dict[str, bytes]]
#: A new format is a module with ``render``, and a line here.
RENDERERS: Mapping[str, Renderer] = MappingProxyType(
    {
        "query": lambda catalog, options: query.render(catalog, options.columns),
        "streams": lambda catalog, options: streams.render(catalog, options.names),
        "locator": lambda catalog, options: locator.render(
            catalog, title=options.title, every_serial=options.every_serial, formats=options.formats
        ),
        "plain": lambda catalog, _options: plain.render(catalog),
        "changes": lambda catalog, options: changes.render(
            catalog,
            origin=options.origin,
            title=f"{options.title}: new images",
            url=options.url,
            rows="query" in options.formats,
        ),
    }
)


def render(catalog: Catalog, options: Options | None = None) -> dict[str, bytes]:
    """Return all files of the catalogue, by path; signatures are :func:`ebspub.feeds.signing.sign`'s to add."""
    options = options or Options()
    rendering: dict[str, bytes] = {}
    for name, renderer in RENDERERS.items():
        if name in options.formats:
            rendering |= renderer(catalog, options)
    if "query" not in options.formats and catalog.kept:
        # What lies there is of others, too: only ours goes.
        rendering |= query.render(replace(catalog.withdraw(catalog.images), gone=catalog.downloads))
    return rendering


def publish(
    folder: Path,
    load: Callable[[], Catalog],
    options: Options | None = None,
    key: signing.Key | None = None,
    *,
    reach: Callable[[str], None] = lambda _point: None,
) -> files.Written:
    """Bring ``folder`` up to date with the catalogue that ``load`` gives, merged with the query data that lies there.

    ``load`` is called once nobody else writes. With ``key`` simplestreams are signed; what is signed still is not
    signed again. Done twice it changes nothing. Raises :class:`files.FilesError`, :class:`signing.SigningError`.
    """

    def made(there: dict[str, bytes]) -> dict[str, bytes]:
        rendering = _rendered(there, load(), options)
        return rendering if key is None else signing.sign(rendering, key, there)

    return files.update(folder, _is_read, made, reach=reach)


def stale(folder: Path, catalog: Catalog, options: Options | None = None, key: signing.Key | None = None) -> list[str]:
    """Return what :func:`publish` would write or remove, by path; nothing is written, no secret key is needed.

    Raises :class:`files.FilesError`, :class:`signing.SigningError`.
    """
    there = files.read(folder, _is_read)
    rendering = _rendered(there, catalog, options)
    broken = signing.broken(rendering, key, there) if key is not None else []
    # Of those that hold the bytes are not known beforehand; of what is not rendered any more they go.
    signatures = signing.signatures(rendering) if key is not None else []
    return sorted({*broken, *files.differing(folder, rendering, spared=signatures)})


def _is_read(path: str) -> bool:
    return query.is_query(path) or signing.is_signed(path) or path == files.LIST


def _rendered(there: dict[str, bytes], catalog: Catalog, options: Options | None) -> dict[str, bytes]:
    rows = {path: content for path, content in there.items() if query.is_query(path)}
    rendering = render(query.keep(catalog, rows, suites.versions(catalog.images)), options)
    if options is not None and "query" not in options.formats:
        # What held nothing but rows of ours goes with them.
        ours = files.listed(there.get(files.LIST, b""))
        return {path: content for path, content in rendering.items() if content or path not in ours or not rows[path]}
    return rendering
