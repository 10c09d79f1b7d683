"""The plainest way to bring a disk onto a device, as a yardstick: its data, and not its holes; then fsync.

python -m tests.bench.copying DISK DEVICE
"""

from __future__ import annotations

import os
import sys

_PIECE = 1 << 20


def main(disk: str, device: str) -> None:
    """Copy what of ``disk`` is no hole."""
    source, target = os.open(disk, os.O_RDONLY), os.open(device, os.O_RDWR)
    at, size = 0, os.fstat(source).st_size
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            break
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end:
            at += os.pwrite(target, os.pread(source, min(_PIECE, end - at), at), at)
    os.fsync(target)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
