"""Run a program on a terminal of a given size, and see what it shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The program, started on a terminal of ``columns`` x ``lines``."""

    def __init__(
        self, *arguments: str, environment: Mapping[str, str], cwd: Path, columns: int = 80, lines: int = 24
    ) -> None:
        # The terminal's own size counts, not that of whoever started the tests.
        sized = {name: value for name, value in environment.items() if name not in ("LINES", "COLUMNS")}
        mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "ebspub", *arguments],
            env={**sized, "TERM": "xterm-256color"},
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._mine = mine
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._mine, 65536)
            except OSError:  # how Linux says that the other side was closed
                return
            self._shown += chunk

    @property
    def raw(self) -> str:
        return self._shown.decode()

    @property
    def text(self) -> str:
        """Return what was written, without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r\n", "\n")

    def wait(self) -> int:
        """Return the exit code, after the end."""
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()
            self.process.wait()
            self._reader.join()
            os.close(self._mine)
