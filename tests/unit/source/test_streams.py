"""Simplestreams indexes of downloads: the one file of an item, and nothing that leads elsewhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ebspub.errors import SourceError
from ebspub.source.streams import versions

INDEX = "https://example.com/releases/streams/v1/index.json"
PRODUCTS = "https://example.com/releases/streams/v1/com.ubuntu.cloud:released:download.json"
PRODUCT = "com.ubuntu.cloud:server:24.04:amd64"
PATH = "server/releases/noble/release-20240423/ubuntu-24.04-server-cloudimg-amd64.img"


def mirror(**item: Any) -> dict[str, Any]:
    """Return the documents of a mirror by URL; ``item`` changes the item."""
    disk = {"ftype": "disk1.img", "path": PATH, "sha256": "A" * 64, "size": 1, **item}
    entry = {
        "format": "products:1.0",
        "products": [PRODUCT],
        "path": "streams/v1/com.ubuntu.cloud:released:download.json",
    }
    return {
        INDEX: {
            "format": "index:1.0",
            "index": {
                "com.ubuntu.cloud:released:aws": {**entry, "datatype": "image-ids", "path": "streams/v1/aws.json"},
                "com.ubuntu.cloud:released:download": {**entry, "datatype": "image-downloads"},
            },
        },
        PRODUCTS: {
            "format": "products:1.0",
            "products": {
                PRODUCT: {
                    "versions": {
                        "20240423": {"items": {"disk1.img": disk, "manifest": {"ftype": "manifest"}}},
                        "20240501": {"items": {"manifest": {"ftype": "manifest"}}},
                    }
                }
            },
        },
    }


def found(documents: dict[str, Any], index: str = INDEX, product: str = PRODUCT, item: str = "disk1.img") -> Any:
    return versions(index, product, item, lambda url: json.dumps(documents[url]).encode())


@pytest.mark.parametrize("index", [INDEX, PRODUCTS])
def test_an_item_is_found_by_index_or_by_its_file_of_products(index: str) -> None:
    items = found(mirror(), index)
    assert list(items) == ["20240423"]
    assert items["20240423"].url == f"https://example.com/releases/{PATH}"
    assert items["20240423"].sha256 == "a" * 64


@pytest.mark.parametrize("path", ["../../etc/x", "/x", "http://evil.example/x", "a//b", "a/../b", "a?b", 3, None])
def test_a_path_that_leads_elsewhere_is_refused(path: Any) -> None:
    with pytest.raises(SourceError, match="leads elsewhere"):
        found(mirror(path=path))


@pytest.mark.parametrize("sha256", ["a" * 63, None, 7, "g" * 64])
def test_an_item_without_a_checksum_is_refused(sha256: Any) -> None:
    with pytest.raises(SourceError, match="has no sha256"):
        found(mirror(sha256=sha256))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="no product 'x' among its downloads"):
        found(mirror(), product="x")
    with pytest.raises(SourceError, match="has no product 'x'"):
        found(mirror(), PRODUCTS, product="x")
    assert found(mirror(), item="squashfs") == {}


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"format": "index:1.0", "index": []}', b"[" * 100_000])
def test_what_is_no_index_is_refused(content: bytes) -> None:
    with pytest.raises(SourceError, match="cannot be used"):
        versions(INDEX, PRODUCT, "disk1.img", lambda _: content)
