"""Tables of lines, merged: those of others stay byte for byte and in their order, ours come where they belong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end. ``value`` is what it says; None for a line of others that nobody understands."""

    order: tuple[Any, ...]
    text: bytes
    value: Any
    ours: bool = False


def split(line: bytes) -> list[str]:
    """Return the columns of a line. Bytes that are no text survive: it may be anybody's."""
    return line.removesuffix(b"\r").decode("utf-8", "surrogateescape").split("\t")


def joined(columns: Sequence[str]) -> bytes:
    """Return a line of ``columns``. Raises ValueError for what would be two lines, or one column more."""
    line = "\t".join(columns)
    if line.count("\t") != len(columns) - 1 or "\n" in line or "\r" in line:
        raise ValueError(f"no row of a table: {list(columns)!r}")
    return line.encode("utf-8", "surrogateescape")


def kept(content: bytes, read: Callable[[bytes], Line | None]) -> list[Line]:
    """Return the lines of ``content`` that are not ours, in their order.

    ``read`` tells what a line says, None for one that says nothing: that goes with the line before it.
    """
    found: list[Line] = []
    texts = content.split(b"\n")
    if not texts[-1]:
        texts.pop()
    for text in texts:
        line = read(text)
        if line is None:
            line = Line(found[-1].order if found else (), text, None)
        if not line.ours:
            found.append(line)
    return found


def merged(theirs: Sequence[Line], more: Iterable[Line]) -> list[Line]:
    """Return ``theirs`` in their order, with ``more`` put among them by their own order.

    Each of ``more`` comes before the first of theirs that is greater: where theirs are in order the whole is, and one
    of theirs that is not moves nothing else.
    """
    added = sorted(more, key=lambda line: (line.order, line.text))
    result: list[Line] = []
    place = 0
    for line in theirs:
        while place < len(added) and added[place].order < line.order:
            result.append(added[place])
            place += 1
        result.append(line)
    return result + added[place:]


def content(lines: Iterable[Line], was: bytes = b"") -> bytes:
    """Return the file of ``lines``; ``was`` where nothing is different but that its last line had no end."""
    made = b"".join(line.text + b"\n" for line in lines)
    return was if made == was + b"\n" else made
