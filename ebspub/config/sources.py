"""Where a build's artefact lies and what proves it: ``[builds.source]`` becomes a job's :class:`ebspub.spec.Source`.

Three ways to say where: ``url`` (URL or path of the artefact itself), ``directory`` with ``file`` (a tree in Ubuntu's
layout, in which SHA256SUMS and SHA256SUMS.gpg lie beside every artefact), ``index`` with ``item`` (simplestreams).

Three ways to prove it, and no fourth: a list of checksums (or an index) whose OpenPGP signature is of a key in
``keyring``; a ``sha256`` in the file; ``verify = "none"``, which says that nothing does. A list without a signature is
no proof: who can change the artefact can change the list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebspub.config import templates
from ebspub.config.cell import Cell
from ebspub.config.layers import Layers
from ebspub.config.model import Config
from ebspub.config.problems import quoted
from ebspub.config.values import as_url
from ebspub.spec import Arch, Source

_PLACES = ("url", "directory", "index")
#: A day on which nothing was published: for laying out what does not depend on the serial.
_SOME_SERIAL = "20000101"


@dataclass(frozen=True)
class Place:
    """Where the artefact of a build and arch lies, as templates. An ``index`` says so itself: ``url`` is then empty."""

    key: str
    url: str = ""
    sums: str | None = None
    index: str | None = None
    product: str | None = None
    item: str | None = None

    @property
    def signed(self) -> str | None:
        """The template of what a signature would be of: the list of checksums, or the index."""
        return self.index or self.sums


def document(cell: Cell) -> dict[str, Any]:
    """Return the fields of the cell's :class:`Source`; ``cell.problems`` says what is wrong with them."""
    path = f"{cell.here}.source"
    layers = Layers((path, cell.build.source), (f"{path}.{cell.arch}", getattr(cell.build.source, cell.arch)))
    place = _place(cell, layers)
    if place is None:
        return {}
    sha256 = _sha256(cell, layers, place)
    proof = _proof(cell, layers, place, sha256)
    if cell.build.serial == "current":
        _serial_can_be_found(cell, layers, place)
    values = cell.values()

    def url(template: str | None) -> str | None:
        return as_url(templates.expand(template, values)) if template is not None else None

    found = {"sums_url": url(place.sums), "signature_url": url(proof.pop("signature")), "sha256": sha256, **proof}
    if place.index is None:
        return {**found, "url": url(place.url)}
    index, product = url(place.index), templates.expand(place.product or "", values)
    # Until the index has been read: what is looked for, and where.
    return {**found, "url": f"{index}#{product}/{cell.serial}/{place.item}", "index": index, "product": product,
            "item": place.item}  # fmt: skip


def _place(cell: Cell, layers: Layers) -> Place | None:
    path = f"{cell.here}.source"
    places = layers.of_uppermost(*_PLACES)
    if not places:
        cell.fault(f"{path}.url", f"missing, expected the URL of the artefact of {cell.arch}, or directory, or index")
        return None
    if len(places) > 1:
        cell.fault(layers.where(min(places)), f"found {' and '.join(places)}, expected one of them")
        return None
    key, template = next(iter(places.items()))
    for only, needs in (("file", "directory"), ("item", "index"), ("product", "index")):
        if layers.get(only) is not None and key != needs:
            cell.fault(layers.where(only), f"found without {needs}, expected it only there")
    if key == "url":
        return Place(key, template, layers.get("sha256sums"))
    return _in_directory(cell, layers, template) if key == "directory" else _in_index(cell, layers, template)


def _in_directory(cell: Cell, layers: Layers, template: str) -> Place | None:
    file = layers.get("file")
    if file is None:
        expected = "the name of the artefact in the directory, such as {suite}-server-cloudimg-{arch}.tar.gz"
        cell.fault(f"{cell.here}.source.file", f"missing, expected {expected}")
        return None
    folder = template.rstrip("/")
    if "serial" not in templates.fields(folder):
        # Ubuntu's layout: dailies lie beside one another, releases (and betas) have a tree of their own.
        daily = cell.build.label == "daily"
        folder += "/{suite}/{serial}" if daily else "/releases/{suite}/release-{serial}"
    return Place("directory", f"{folder}/{file}", layers.get("sha256sums", f"{folder}/SHA256SUMS"))


def _in_index(cell: Cell, layers: Layers, template: str) -> Place | None:
    item = layers.get("item")
    if item is None:
        cell.fault(f"{cell.here}.source.item", 'missing, expected the ftype of the item in the index, "disk1.img"')
        return None
    if layers.get("sha256sums") is not None:
        cell.fault(layers.where("sha256sums"), "found with index, expected none: the index has the checksums")
    stream = "com.ubuntu.cloud.daily" if cell.build.label == "daily" else "com.ubuntu.cloud"
    product = layers.get("product", f"{stream}:{{build}}:{{version}}:{{arch}}")
    return Place("index", index=template, product=product, item=item)


def _sha256(cell: Cell, layers: Layers, place: Place) -> str | None:
    """Return the checksum in the file, if it can be that of this artefact."""
    sha256: str | None = layers.get("sha256")
    if sha256 is None:
        return None
    path, table = f"{cell.here}.source", cell.build.source
    mine = getattr(table, cell.arch)
    used = templates.fields(place.url) | ({"serial", "arch"} if place.index else set())
    if used & {"serial", "date"} and cell.serial != cell.build.serial:
        # The checksum in the file is that of the file's serial.
        if place.signed is None:
            which = "every serial" if cell.build.serial == "current" else "--serial"
            cell.fault(f"{path}.sha256sums", f"missing, expected a URL: a sha256 in the file is not that of {which}")
        return None
    shared = (mine is None or mine.sha256 is None) and len(cell.build.arches) > 1
    if shared and ("arch" in used or (mine is not None and mine.url is not None)):
        cell.fault(f"{path}.sha256", f"one checksum for several artefacts, expected one in {path}.<arch> for each")
    return sha256


def _proof(cell: Cell, layers: Layers, place: Place, sha256: str | None) -> dict[str, Any]:
    """Return verify, keyring, fingerprint and the template ``signature``."""
    path = f"{cell.here}.source"
    keyring, verify = layers.get("keyring"), layers.get("verify")
    for key in ("fingerprint", "signature"):
        if layers.get(key) is not None and keyring is None:
            cell.fault(f"{path}.keyring", f"missing, expected the file of the keys: {key} is of no use without it")
    if verify == "none":
        for key in ("keyring", "sha256"):
            if layers.get(key) is not None:
                cell.fault(layers.where("verify"), f'found "none" and {key}, expected one of the two')
    elif layers.get("sha256") is None and place.signed is None:
        expected = 'expected sha256sums (a URL) with a keyring, or sha256, or verify = "none"'
        cell.fault(path, f"nothing proves the artefact of {cell.arch}, {expected}")
    elif sha256 is None and keyring is None and place.signed is not None:
        what = "an index" if place.index else "sha256sums"
        expected = 'expected the file of the keys that sign it, or sha256, or verify = "none"'
        cell.fault(f"{path}.keyring", f"missing: {what} without a signature proves nothing; {expected}")
    signature = layers.get("signature")
    if signature is None and keyring is not None and place.signed is not None and not _signs_itself(place):
        signature = f"{place.signed}.gpg"
    return {
        "verify": verify or ("sha256" if sha256 is not None else "signature"),
        "keyring": beside(cell.config, keyring) if keyring is not None else None,
        "fingerprint": layers.get("fingerprint"),
        "signature": None if signature == "inline" else signature,
    }


def _signs_itself(place: Place) -> bool:
    return bool(place.index and place.index.endswith(".sjson"))


def beside(config: Config, file: str) -> str:
    """Return a path that the configuration names relative to its own file."""
    return os.path.normpath(Path(config.origin).absolute().parent / Path(file).expanduser())


def _serial_can_be_found(cell: Cell, layers: Layers, place: Place) -> None:
    if place.index is None and _where_serials_are(place, cell.values()) is None:
        expected = 'expected {serial} in it, once a folder and with no {date} before: serial is "current"'
        cell.fault(layers.where(place.key), f"found {quoted(place.url)}, {expected}")


def _where_serials_are(place: Place, values: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Return the folder that is to be listed, and what stands before and after the serial in the names there."""
    parts = place.url.split("/")
    at = next((number for number, part in enumerate(parts) if "serial" in templates.fields(part)), None)
    if at is None or "date" in templates.fields("/".join(parts[: at + 1])):
        return None
    name = templates.expand(parts[at], {**values, "serial": "\0"}).split("\0")
    if len(name) != 2:
        return None
    return as_url(templates.expand("/".join(parts[:at]), values)), name[0], name[1]


@dataclass(frozen=True)
class Lookout:
    """What a build with ``serial = "current"`` is looked for by."""

    config: Config
    index: int
    #: Folder (URL) whose entries carry the serials, and the text around the serial in their names; None for an index.
    folder: tuple[str, str, str] | None

    @property
    def arches(self) -> tuple[Arch, ...]:
        """The arches that a serial must have to be the current one."""
        return self.config.builds[self.index].arches

    @property
    def name(self) -> str:
        """The build, for messages."""
        build = self.config.builds[self.index]
        return f"{build.suite} {build.build} {build.label}"

    def source(self, arch: Arch, serial: str = _SOME_SERIAL) -> Source:
        """Return the source that ``serial`` would have."""
        return Source.model_validate(document(_cell(self.config, self.index, arch, serial)))


def lookout(config: Config, index: int) -> Lookout:
    """Return by what the current serial of build ``index`` (of a configuration that was checked) is found."""
    cell = _cell(config, index, config.builds[index].arches[0], _SOME_SERIAL)
    path, table = f"{cell.here}.source", cell.build.source
    place = _place(cell, Layers((path, table), (f"{path}.{cell.arch}", getattr(table, cell.arch))))
    assert place is not None, "select() has checked the file"
    return Lookout(config, index, None if place.index else _where_serials_are(place, cell.values()))


def _cell(config: Config, index: int, arch: Arch, serial: str) -> Cell:
    build = config.builds[index]
    regions = build.regions if build.regions is not None else tuple(config.regions)
    return Cell(config, index, regions[0], arch, serial)
