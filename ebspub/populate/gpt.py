"""Let a GPT be that of a larger disk: what changes, as patches of single ranges of bytes.

UEFI specification, 5.3: the backup header lies in the last sector with its copy of the entries before it; both headers
name each other's place and the last sector that partitions may use, and are protected by a CRC32. The protective MBR
(5.2.3) covers the whole disk. The entries themselves, and so their CRC, stay as they are. Sectors of 512 bytes only:
EBS volumes have no others.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

from ebspub.errors import JobError

SECTOR: Final = 512
_HEADER: Final = struct.Struct("<8s4sIIIQQQQ16sQIII")
_SIGNATURE: Final = b"EFI PART"
#: Bytes of a disk's head that are looked at: MBR, header, entries.
HEAD: Final = 64 * 1024


class Patch(NamedTuple):
    """Bytes that lie at ``offset`` of the volume, whatever was there."""

    offset: int
    data: bytes


class _Header(NamedTuple):
    signature: bytes
    revision: bytes
    size: int
    crc: int
    reserved: int
    current: int
    backup: int
    first: int
    last: int
    guid: bytes
    entries: int
    number: int
    entry_size: int
    entries_crc: int

    def sealed(self) -> bytes:
        """Return the header's bytes with its own CRC."""
        plain = _HEADER.pack(*self._replace(crc=0))
        return _HEADER.pack(*self._replace(crc=zlib.crc32(plain)))


def grown(head: bytes, size: int) -> list[Patch]:
    """Return what to change for a disk whose first bytes are ``head`` (:data:`HEAD`) to fill ``size`` bytes.

    Nothing for a disk without GPT, or whose GPT is of that size already. Raises JobError for a damaged GPT and for a
    disk that is larger than ``size``.
    """
    if head[SECTOR : SECTOR + 8] != _SIGNATURE:
        return []
    header = _Header(*_HEADER.unpack_from(head, SECTOR))
    entries = _entries(head, header)
    old_end, end = header.backup, size // SECTOR - 1
    if old_end > end:
        raise JobError(
            f"the disk of {(old_end + 1) * SECTOR} bytes does not fit a volume of {size} bytes",
            todo="Raise volume.size, then `ebspub run`.",
            code="too-small",
        )
    if old_end == end:
        return []
    sectors = -(-len(entries) // SECTOR)
    primary = header._replace(backup=end, last=end - sectors - 1)
    backup = primary._replace(current=end, backup=1, entries=end - sectors)
    # The old backup is no backup any more: a tool that finds two would be right to be suspicious.
    stale = max(header.last + 1, old_end - sectors)
    return [
        *_protective(head, end),
        Patch(SECTOR, primary.sealed()),
        Patch(stale * SECTOR, bytes((old_end + 1 - stale) * SECTOR)),
        Patch(backup.entries * SECTOR, entries),
        Patch(end * SECTOR, backup.sealed()),
    ]


def whole(head: bytes, size: int) -> None:
    """See that a disk of ``size`` bytes reaches to the end that its GPT has; raise JobError for one that is cut off."""
    if head[SECTOR : SECTOR + 8] != _SIGNATURE:
        return
    end = (_Header(*_HEADER.unpack_from(head, SECTOR)).backup + 1) * SECTOR
    if end > size:
        raise JobError(
            f"the disk is cut off: its GPT ends at byte {end}, the disk at {size}",
            todo="Look at the source: it was not written or uploaded to its end.",
            code="bad-image",
        )


def _entries(head: bytes, header: _Header) -> bytes:
    """Return the bytes of the partition entries, the header and the entries having been checked."""
    length = header.number * header.entry_size
    start = header.entries * SECTOR
    sound = header.size == _HEADER.size and header.current == 1 and start + length <= len(head)
    sound = sound and header.sealed() == head[SECTOR : SECTOR + _HEADER.size]
    entries = head[start : start + length]
    if not sound or zlib.crc32(entries) != header.entries_crc:
        raise JobError(
            "the disk's GPT is damaged: its checksums are not right",
            todo="Mend the image: firmware and partitioning tools would not trust it either.",
            code="bad-image",
        )
    return entries


def _protective(head: bytes, end: int) -> list[Patch]:
    """Return the new size of the protective partition; a hybrid MBR's others stay."""
    for place in range(446, 510, 16):
        if head[place + 4] == 0xEE and struct.unpack_from("<I", head, place + 8) == (1,):
            return [Patch(place + 12, struct.pack("<I", min(end, 0xFFFFFFFF)))]
    return []
