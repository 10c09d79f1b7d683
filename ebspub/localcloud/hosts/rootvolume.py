"""The root volume of an instance that boots from it: a bare file system, or one in a partition of a GPT."""

from __future__ import annotations

import struct
import time
from pathlib import Path

_SECTOR = 512
#: UEFI specification, 5.3.2 and 5.3.3: where the entries begin, how many there are, and how long each is.
_HEADER = struct.Struct("<8s64xQII")
_ENTRY = struct.Struct("<16s16sQQ")
_PATIENCE = 10.0


def offset(file: Path) -> int:
    """Return where the root file system begins in the volume (bytes): in the largest partition, or at its start."""
    with file.open("rb") as volume:
        volume.seek(_SECTOR)
        signature, first, count, size = _HEADER.unpack(volume.read(_HEADER.size))
        if signature != b"EFI PART":
            return 0
        volume.seek(first * _SECTOR)
        table = volume.read(min(count, 128) * size)
    entries = [_ENTRY.unpack_from(table, at) for at in range(0, len(table) - _ENTRY.size + 1, size)]
    spans = [(end - begin, begin) for kind, _, begin, end in entries if kind != bytes(16)]
    return max(spans, default=(0, 0))[1] * _SECTOR


def wait_until_free(file: Path) -> None:
    """Wait until the kernel has let go of the volume: what was mounted from it is written back then."""
    deadline = time.monotonic() + _PATIENCE
    while _in_use(file) and time.monotonic() < deadline:
        time.sleep(0.02)


def _in_use(file: Path) -> bool:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().strip() == str(file):
                return True
        except OSError:  # it was detached a moment ago
            continue
    return False
