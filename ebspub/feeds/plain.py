"""Everything that is published as JSON and as CSV, for programs that read neither query data nor simplestreams."""

from __future__ import annotations

import csv
import io
import json
from functools import lru_cache

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


#: Made once: making one costs more than a row.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def row(image: Image) -> dict[str, str | None]:
    """Return what is known of an AMI by column. What is absent or not known is None; times are RFC 3339 (UTC)."""
    found = {name: getattr(image, name) or None for name in COLUMNS}
    found["partition"] = places.partition(image)
    found["version"] = suites.of(image).version or None
    found["created"] = None if image.created is None else _time(image.created)
    found["released"] = None if image.released is None else _time(image.released)
    return found


def render(catalog: Catalog) -> dict[str, bytes]:
    """Return the two files: ours and what others published, in the order of query data, one image a line."""
    rows = [row(each) for each in catalog.every]
    if not rows and not catalog.withdrawn:
        return {}
    lines = ",\n".join(map(_ENCODER.encode, rows))
    document = f'{{"format":{json.dumps(FORMAT)},"images":[\n{lines}\n]}}\n'
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in each.values()] for each in rows)
    return {JSON: document.encode(), CSV: table.getvalue().encode()}


def _cell(value: str | None) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    if not value:
        return ""
    return f"'{value}" if value[0] in "=+-@\t\r" else value


@lru_cache(maxsize=4096)
def _time(at: float) -> str:
    # Many AMIs were published at the same time.
    return isoformat(at)
