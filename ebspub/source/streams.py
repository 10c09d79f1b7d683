"""Simplestreams indexes of downloads: which file is which item of which version of a product.

``index:1.0`` names files of ``products:1.0``; each product has versions (by serial), each version items with a path
below the mirror's root, a size and a SHA-256. What is signed carries the signature itself (``.sjson``) or has it
beside it (``.json.gpg``); an index that is signed leads only to files that are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ebspub.errors import SourceError

#: What is read of a document: its content, proved as the configuration asks, by its URL.
Read = Callable[[str], bytes]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ADVICE = "Correct index, product or item in the configuration, or wait until the build is published."


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a product's version."""

    url: str
    sha256: str


def versions(index: str, product: str, item: str, read: Read) -> dict[str, Item]:
    """Return the files of ``item`` (its ftype or its key) of ``product`` by version.

    ``index`` is the URL of an index, or of one of its files of products. Raises :class:`SourceError`.
    """
    document = _document(index, read)
    root = _root(index)
    if document.get("format") == "index:1.0":
        found = f"{root}/{_path_to_products(document, index, product)}"
        document = _document(found, read)
    else:
        found = index
    if document.get("format") != "products:1.0":
        raise _unusable(found, f"its format is {document.get('format')!r} instead of index:1.0 or products:1.0")
    products = _table(document, "products", found)
    if product not in products:
        raise SourceError(f"{found} has no product {product!r}", todo=_ADVICE)
    listed = _table(_as_table(products[product], found), "versions", found)
    files = {serial: _item(_as_table(version, found), item, root, found) for serial, version in listed.items()}
    return {serial: file for serial, file in files.items() if file is not None}


def _path_to_products(document: Mapping[str, Any], index: str, product: str) -> str:
    """Return the path of the one file of downloads that has ``product``."""
    paths = []
    for entry in _table(document, "index", index).values():
        products = entry.get("products") if isinstance(entry, dict) else None
        if isinstance(products, list) and product in products and entry.get("datatype") == "image-downloads":
            paths.append(_below(entry.get("path"), index))
    if len(paths) != 1:
        which = "no product" if not paths else f"{len(paths)} files with the product"
        raise SourceError(f"{index} has {which} {product!r} among its downloads", todo=_ADVICE)
    return paths[0]


def _item(version: Mapping[str, Any], name: str, root: str, origin: str) -> Item | None:
    items = _table(version, "items", origin)
    chosen = [each for key, each in items.items() if isinstance(each, dict) and each.get("ftype") == name]
    if not chosen and isinstance(items.get(name), dict):
        chosen = [items[name]]
    if not chosen:
        return None
    if len(chosen) > 1:
        raise SourceError(f"{origin} has {len(chosen)} items of the ftype {name!r} in a version", todo=_ADVICE)
    sha256 = chosen[0].get("sha256")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
        raise _unusable(origin, f"an item {name!r} has no sha256")
    return Item(f"{root}/{quote(_below(chosen[0].get('path'), origin))}", sha256.lower())


def _root(index: str) -> str:
    """Return the mirror's root: paths are relative to what ``streams/v1`` lies in."""
    root, found, _ = index.rpartition("/streams/v1/")
    if not found:
        raise SourceError(f"{index} is no simplestreams index: it is not in a folder streams/v1", todo=_ADVICE)
    return root


def _below(path: object, origin: str) -> str:
    """Return a path of a document, if it stays below the mirror's root."""
    good = isinstance(path, str) and re.fullmatch(r"[A-Za-z0-9_.:+~@=,-]+(/[A-Za-z0-9_.:+~@=,-]+)*", path)
    if not isinstance(path, str) or not good or ".." in path.split("/"):
        raise _unusable(origin, f"a path in it leads elsewhere: {path!r:.80}")
    return path


def _document(url: str, read: Read) -> Mapping[str, Any]:
    try:
        return _as_table(json.loads(read(url)), url)
    except (ValueError, RecursionError) as error:
        raise _unusable(url, "it is not JSON") from error


def _table(document: Mapping[str, Any], key: str, origin: str) -> Mapping[str, Any]:
    return _as_table(document.get(key), origin)


def _as_table(value: object, origin: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _unusable(origin, "it is not what simplestreams describes")
    return value


def _unusable(origin: str, why: str) -> SourceError:
    return SourceError(f"{origin} cannot be used: {why}", todo="Is `index` the URL of a streams/v1/index.json?")
