"""The partition table of a disk on a larger volume: the GPT's backup moved, the partition that can grow found."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ebspub.errors import EbspubError
from ebspub.populate import gpt
from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.volume import Volume

_EXTENDED = (0x05, 0x0F, 0x85)
#: Sectors that a GPT's backup takes, and those below which growing is not worth a change.
_LEAST = 2048


class Layout(NamedTuple):
    """``table``: gpt, dos or none. The last partition: its number (0: none that can grow), first sector and sectors.

    ``room``: whether it can become larger.
    """

    table: str
    number: int
    start: int
    sectors: int
    room: bool


def relocate(volume: Volume, size: int) -> bool:
    """Move a GPT's backup to the end of the volume, on which a disk of ``size`` bytes lies; return whether it moved.

    Raises :class:`Refusal` for a GPT that is damaged, or of a disk larger than what was published.
    """
    head = volume.read(gpt.HEAD, 0)
    try:
        gpt.whole(head, size)
        patches = gpt.grown(head, volume.size)
    except EbspubError as error:
        raise Refusal("bad-image", error.what) from error
    for at, data in patches:
        volume.write(data, at)
    volume.flush()
    return bool(patches)


def layout(volume: Volume) -> Layout:
    """Return what of the disk can grow: the partition that comes last on it, or a bare file system."""
    head = volume.read(gpt.HEAD, 0)
    sectors = volume.size // 512
    if head[512:520] == b"EFI PART":
        first, last = struct.unpack_from("<QQ", head, 512 + 40)
        entries, count, each = struct.unpack_from("<QII", head, 512 + 72)
        found = []
        for number in range(min(count, 128)):
            at = entries * 512 + number * each
            if any(head[at : at + 16]):
                begin, end = struct.unpack_from("<QQ", head, at + 32)
                found.append((begin, end - begin + 1, number + 1))
        return _grown("gpt", found, last + 1) if first <= last else Layout("gpt", 0, 0, 0, room=False)
    if head[510:512] != b"\x55\xaa":
        return Layout("none", 0, 0, sectors, room=False)
    found = []
    for number in range(4):
        type_, begin, count = struct.unpack_from("<4xB3xII", head, 446 + 16 * number)
        if type_ in _EXTENDED:
            return Layout("dos", 0, 0, 0, room=False)
        if type_ and count:
            found.append((begin, count, number + 1))
    return _grown("dos", found, min(sectors, 0xFFFFFFFF))


def _grown(table: str, found: list[tuple[int, int, int]], end: int) -> Layout:
    if not found:
        return Layout(table, 0, 0, 0, room=False)
    start, sectors, number = max(found)
    return Layout(table, number, start, sectors, room=end - (start + sectors) >= _LEAST)
