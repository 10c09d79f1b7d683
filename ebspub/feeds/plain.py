"""Everything that is published as JSON and as CSV, for programs that read neither query data nor simplestreams."""

from __future__ import annotations

import csv
import io
import json
from functools import lru_cache
from operator import attrgetter

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

#: A spreadsheet takes what begins with one of these for a formula.
_FORMULA = "=+-@\t\r"

#: Of all columns at once, for there are many rows.
_VALUES = attrgetter(*COLUMNS)
#: Made once: making one costs more than a row.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def row(image: Image) -> dict[str, str | None]:
    """Return what is known of an AMI by column. What is absent or not known is None; times are RFC 3339 (UTC)."""
    found = {name: value or None for name, value in zip(COLUMNS, _VALUES(image), strict=True)}
    found["partition"] = places.partition(image)
    found["version"] = suites.of(image).version or None
    found["created"] = None if image.created is None else _time(image.created)
    found["released"] = None if image.released is None else _time(image.released)
    return found


def render(catalog: Catalog) -> dict[str, bytes]:
    """Return the two files: ours and what others published, in the order of query data, one image a line."""
    if not catalog.every and not catalog.withdrawn:
        return {}
    lines = []
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\r\n")  # RFC 4180
    writer.writerow(COLUMNS)
    for image in catalog.every:
        found = row(image)
        lines.append(_ENCODER.encode(found))
        writer.writerow([f"'{cell}" if cell and cell[0] in _FORMULA else cell for cell in found.values()])
    document = "".join([f'{{"format":{json.dumps(FORMAT)},"images":[\n', ",\n".join(lines), "\n]}\n"])
    return {JSON: document.encode(), CSV: table.getvalue().encode()}


@lru_cache(maxsize=4096)
def _time(at: float) -> str:
    # Many AMIs were published at the same time.
    return isoformat(at)
