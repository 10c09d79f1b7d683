"""Lines on stdout and stderr, from any thread, and how values look in them.

Output that nobody reads any more (``ebspub status | head``) is dropped without a word, and never stops a run. Output
that cannot be written for another reason (a full disk) is told once on stderr; the command then exits with 1.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

_LOCK = threading.RLock()
# Everything that a terminal may take for a command: C0, DEL, C1.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_lost = threading.Event()
_unread = threading.Event()


def begin() -> None:
    """Forget what an earlier command of this process could not write."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it (`>&-`): what is said is not wanted
            setattr(sys, name, io.StringIO())
    _lost.clear()
    _unread.clear()


def failed() -> bool:
    """Return whether something could not be written that somebody may be waiting for."""
    return _lost.is_set()


def unread() -> bool:
    """Return whether nobody reads stdout any more."""
    return _unread.is_set() or _lost.is_set()


def out(line: str) -> None:
    """Write one line to stdout."""
    error = _write(sys.stdout, line)
    if error is None:
        return
    if error.errno == errno.EPIPE:
        _unread.set()
    elif not _lost.is_set():
        _lost.set()
        err(f"ebspub: standard output cannot be written: {error.strerror}")


def err(line: str) -> None:
    """Write one line to stderr."""
    _write(sys.stderr, line)


def out_json(document: Mapping[str, Any], *, compact: bool = False) -> None:
    """Write a JSON document to stdout: indented, or ``compact`` on one line."""
    out(json.dumps(document, ensure_ascii=False, indent=None if compact else 2))


def _write(stream: TextIO, line: str) -> OSError | None:
    with _LOCK:
        try:
            # One write for the whole line: a live table that stands in for the stream prints it above itself.
            stream.write(_encodable(f"{line}\n", stream))
            stream.flush()
        except OSError as error:
            _discard(stream)
            return error
    return None


def _encodable(text: str, stream: TextIO) -> str:
    """Return ``text`` with what ``stream`` cannot take (a file name that is not UTF-8, a narrow locale) escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _discard(stream: TextIO) -> None:
    """Let everything that is still written to ``stream`` vanish, what the interpreter flushes at its end included."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, stream.fileno())
    finally:
        os.close(nowhere)


def on_terminal() -> bool:
    """Return whether stdout is a terminal that can redraw what it shows."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def clean(text: str) -> str:
    """Return ``text`` on one line and without control characters: builders and servers may say anything."""
    return " ".join(_CONTROL.sub(" ", text).split())


def clean_lines(text: str) -> str:
    """Return ``text`` without control characters but with its line ends."""
    return "\n".join(_CONTROL.sub(" ", line).rstrip() for line in text.split("\n"))


def duration(seconds: float) -> str:
    """Return a duration in at most six characters: 7s, 12m03s, 5h07m, 12d03h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size(count: float) -> str:
    """Return a number of bytes with a binary unit: 512 B, 1.4 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def plural(count: int, noun: str) -> str:
    """Return ``1 job``, ``2 jobs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def columns(rows: Sequence[Sequence[str]], *, indent: str = "") -> list[str]:
    """Return ``rows`` as lines with aligned columns; nothing is cut, an empty cell shows a dash."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [(cell or "-").ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(indent + "  ".join([*cells, row[-1]]).rstrip())
    return lines
