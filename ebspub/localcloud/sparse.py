"""Sparse files: the disks of the embedded cloud."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

GIB = 1 << 30


def create(path: Path, size: int) -> None:
    """Make the file ``path`` of ``size`` bytes that is one hole; it must not exist."""
    with path.open("xb") as file:
        file.truncate(size)


def copy(source_fd: int, target: Path) -> None:
    """Copy the open file ``source_fd`` to ``target``: holes stay holes, blocks of zeros become holes.

    Taking an open file, not a path, lets the copy finish when the source is deleted meanwhile. The target appears under
    its name only when it is complete. Raises :class:`subprocess.CalledProcessError` when ``cp`` fails (disk full).
    """
    partial = target.with_name(target.name + ".partial")
    subprocess.run(
        ["cp", "--sparse=always", "--reflink=auto", f"/proc/self/fd/{source_fd}", str(partial)],
        pass_fds=[source_fd],
        check=True,
        capture_output=True,
    )
    partial.rename(target)


def grow(path: Path, size: int) -> None:
    """Make the file at least ``size`` bytes long."""
    if path.stat().st_size < size:
        os.truncate(path, size)
