"""Simplestreams: ``streams/v1/index.json`` and the products it leads to, in the shape of Ubuntu's for AWS.

One file of products for each stream and partition: ``com.ubuntu.cloud:released:aws``, ``...:daily:aws-cn``. What is
signed is :mod:`ebspub.feeds.signing`'s to add. One item a line: GnuPG signs no text with lines of 20,000 characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from types import MappingProxyType

from ebspub.feeds import places, suites
from ebspub.feeds.catalog import Catalog, Image, Stream, changed, serial_key

ROOT = "streams/v1"
INDEX = f"{ROOT}/index.json"
_VIRT = {"paravirtual": "pv"}
#: Virtualization and root store in two letters; what is not here is written out.
_LETTERS = {
    ("pv", "instance"): "pi",
    ("pv", "ebs"): "pe",
    ("pv", "ssd"): "es",
    ("pv", "io1"): "eo",
    ("hvm", "instance"): "hi",
    ("hvm", "ebs"): "he",
    ("hvm", "ssd"): "hs",
    ("hvm", "io1"): "ho",
}


def _none() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Names:
    """What a publisher calls its own: ``vendor`` is ahead of every id, ``os`` in every product.

    ``endpoints``: URLs of EC2 by region, where they are not Amazon's.
    """

    vendor: str = "com.ubuntu.cloud"
    os: str = "ubuntu"
    endpoints: Mapping[str, str] = field(default_factory=_none)

    def endpoint(self, region: str) -> str:
        """Return the URL of EC2 in ``region``."""
        return self.endpoints.get(region) or places.endpoint(region)


def item_key(image: Image) -> str:
    """Return the key of an item, of which a product's version has but one: `usww1pe`, `cnnn1es`."""
    virt, store = virtualization(image), root_store(image)
    return places.short(image.region) + _LETTERS.get((virt, store), f"{virt[:1]}{store}")


def virtualization(image: Image) -> str:
    """Return `pv` or `hvm`."""
    return _VIRT.get(image.virtualization, image.virtualization)


def root_store(image: Image) -> str:
    """Return what simplestreams call the root store: `instance`, `ebs`, `ssd`, `io1`."""
    return "instance" if image.root_store == "instance-store" else image.root_store.removeprefix("ebs-")


def public_name(image: Image) -> str:
    """Return what a build is called, of whatever region: `ubuntu-lucid-10.04-amd64-server-20101020`."""
    version = suites.of(image).version
    if image.label == "daily":
        release = f"{image.suite}-daily"
    elif image.label == "release":
        release = f"{image.suite}-{version}"
    elif image.label.startswith("beta"):
        release = f"{image.suite}-{version}-{image.label}"
    else:
        release = f"{image.suite}-{image.label}"
    return f"ubuntu-{release}-{image.arch}-{image.build}-{image.serial}"


def render(catalog: Catalog, names: Names | None = None) -> dict[str, bytes]:
    """Return the index and the files of products by path. Of a suite without a version nothing is said."""
    names = names or Names()
    files: dict[tuple[Stream, str], list[Image]] = {}
    for image in catalog.withdrawn:
        # Where nothing is left, a file says so: a copy of the folder would keep the last one that named something.
        if suites.of(image).version:
            files.setdefault((image.stream, places.cloud(image)), [])
    for image in catalog.every:
        if suites.of(image).version:
            files.setdefault((image.stream, places.cloud(image)), []).append(image)
    if not files and not catalog.withdrawn:
        return {}
    rendered, index = {}, {}
    for (stream, cloud), images in sorted(files.items()):
        content_id = f"{names.vendor}:{stream}:{cloud}"
        gone = [each for each in catalog.withdrawn if (each.stream, places.cloud(each)) == (stream, cloud)]
        # Rows of others alone have no time; what is said of them is said now.
        at = changed(*images, *gone) or catalog.changed
        updated = _rfc2822(at)
        path = f"{ROOT}/{content_id}.json"
        regions = sorted({each.region for each in images})
        products = _products(images, names, at)
        rendered[path] = _file(content_id, updated, {each: names.endpoint(each) for each in regions}, products)
        index[content_id] = {
            "updated": updated,
            "format": "products:1.0",
            "datatype": "image-ids",
            "cloudname": cloud,
            "clouds": [{"region": each, "endpoint": names.endpoint(each)} for each in regions],
            "path": path,
            "products": sorted(products),
        }
    top = {"index": index, "updated": _rfc2822(catalog.changed), "format": "index:1.0"}
    rendered[INDEX] = json.dumps(top, indent=1).encode() + b"\n"
    return rendered


@dataclass(slots=True)
class _Product:
    """What is said of a product, and the lines of its items by version."""

    about: dict[str, object]
    versions: dict[str, dict[str, Image]] = field(default_factory=dict)


def _products(images: Iterable[Image], names: Names, at: float) -> dict[str, _Product]:
    found: dict[str, _Product] = {}
    for image in images:
        suite = suites.of(image)
        daily = "" if image.stream == "released" else f".{image.stream}"
        name = f"{names.vendor}{daily}:{image.build}:{suite.version}:{image.arch}"
        product = found.get(name)
        if product is None:
            product = found[name] = _Product(
                {
                    "aliases": ",".join(sorted({suite.version, suite.name[:1], suite.name})),
                    "arch": image.arch,
                    "os": names.os,
                    "release": suite.name,
                    "release_codename": suite.codename,
                    "release_title": suite.title,
                    "supported": suite.supported(at),
                    **({"support_eol": suite.eol.isoformat()} if suite.eol else {}),
                    "version": suite.version,
                }
            )
        product.versions.setdefault(image.serial, {})[item_key(image)] = image
    return found


def _file(content_id: str, updated: str, endpoints: Mapping[str, str], products: Mapping[str, _Product]) -> bytes:
    """Return a file of products: JSON, one item a line."""
    places_ = {region: {"region": region, "endpoint": url} for region, url in endpoints.items()}
    head = {
        "_aliases": {"crsn": places_},
        "content_id": content_id,
        "datatype": "image-ids",
        "format": "products:1.0",
        "updated": updated,
    }
    parts = [json.dumps(head, indent=1)[:-2], ',\n "products": {']
    parts.append(",".join(f"\n  {json.dumps(name)}: {_product(product)}" for name, product in sorted(products.items())))
    parts.append("\n }\n}\n")
    return "".join(parts).encode()


def _product(product: _Product) -> str:
    about = "".join(f"\n   {json.dumps(name)}: {json.dumps(value)}," for name, value in product.about.items())
    serials = sorted(product.versions, key=serial_key)
    versions = ",".join(f"\n    {json.dumps(serial)}: {_version(product.versions[serial])}" for serial in serials)
    return f'{{{about}\n   "versions": {{{versions}\n   }}\n  }}'


def _version(items: Mapping[str, Image]) -> str:
    # Of one build there is one label; of two (others' rows) the one that was published last.
    _, named = max(items.items(), key=lambda item: (item[1].at or 0.0, item[0]))
    lines = ",".join(
        f'\n      {json.dumps(key)}: {{"crsn": {json.dumps(each.region)}, "id": {json.dumps(each.ami)}, '
        f'"root_store": {json.dumps(root_store(each))}, "virt": {json.dumps(virtualization(each))}}}'
        for key, each in sorted(items.items())
    )
    label, name = json.dumps(named.label), json.dumps(public_name(named))
    return f'{{\n     "items": {{{lines}\n     }},\n     "label": {label},\n     "pubname": {name}\n    }}'


def _rfc2822(at: float) -> str:
    """Return a time as simplestreams have it: `Wed, 09 May 2018 21:17:15 +0000`."""
    return format_datetime(datetime.fromtimestamp(int(at), UTC))
