"""The beginning of zstd data, unpacked by zstd's own program: no library of Python 3.11's reads it."""

from __future__ import annotations

import subprocess
import tempfile
from typing import Final

#: As the methods call it: windows of any size.
_COMMAND: Final = ("zstd", "-dcq", "--long=31")


def unpacked(head: bytes, most: int) -> bytes | None:
    """Return what data that begins with ``head`` holds, at most ``most`` bytes; None where this host has no zstd."""
    with tempfile.TemporaryFile() as file:
        file.write(head)
        file.seek(0)
        try:
            process = subprocess.Popen(_COMMAND, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError:
            return None
        with process:
            assert process.stdout is not None
            try:
                # Its status tells nothing: what was cut off is no sound file.
                return process.stdout.read(most)
            finally:
                process.kill()
