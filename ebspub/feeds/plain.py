"""Everything that is published as JSON and as CSV, for programs that read neither query data nor simplestreams."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping

from ebspub.clock import isoformat
from ebspub.feeds import places, suites
from ebspub.feeds.catalog import Catalog, Image

JSON = "images.json"
CSV = "images.csv"
FORMAT = "ebspub-images:1"
#: The columns, and the keys of an image. New ones come at the end; none is taken away.
COLUMNS = (
    "stream",
    "suite",
    "version",
    "build",
    "label",
    "serial",
    "arch",
    "region",
    "partition",
    "ami",
    "snapshot",
    "root_store",
    "volume_type",
    "virtualization",
    "boot_mode",
    "aki",
    "ari",
    "name",
    "created",
    "released",
)


def row(image: Image) -> dict[str, str | None]:
    """Return what is known of an AMI by column. What is absent or not known is None; times are RFC 3339 (UTC)."""
    found: Mapping[str, str | None] = {
        "partition": places.partition(image),
        "version": suites.of(image).version,
        "created": None if image.created is None else isoformat(image.created),
        "released": None if image.released is None else isoformat(image.released),
    }
    return {name: (found[name] if name in found else getattr(image, name)) or None for name in COLUMNS}


def render(catalog: Catalog) -> dict[str, bytes]:
    """Return the two files: ours and what others published, in the order of query data, one image a line."""
    if not catalog.every and not catalog.withdrawn:
        return {}
    rows = [row(each) for each in catalog.every]
    lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in rows)
    document = f'{{"format":{json.dumps(FORMAT)},"images":[\n{lines}\n]}}\n'
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in each.values()] for each in rows)
    return {JSON: document.encode(), CSV: table.getvalue().encode()}


def _cell(value: str | None) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    text = value or ""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text
