"""How large the disk in an artefact is, as its first bytes say it."""

from __future__ import annotations

import struct
from typing import Final

from ebspub.source.formats import Inside

_SECTOR: Final = 512


def least(found: Inside) -> int:
    """Return how many bytes a volume must have at least for the disk in an artefact; 0 where nothing tells.

    A disk as it is has as many as the artefact (a VHD of fixed size has a footer of 512 more), and its GPT names its
    last sector (UEFI specification, 5.3.2); qcow2, VMDK and VHD say the size in their headers. A tree has none.
    """
    begin, content = found.begin, found.format.content
    plain = max(0, (found.size or 0) - _SECTOR)
    if content == "disk":
        return max(plain, (_number(begin, 512 + 32, "<Q") + 1) * _SECTOR if begin[512:520] == b"EFI PART" else 0)
    if content == "filesystem":
        return plain
    if content == "qcow2":
        return _number(begin, 24, ">Q")
    if content == "vmdk":
        return _number(begin, 12, "<Q") * _SECTOR
    if content == "vhd":
        # Who made it decides which of the two counts.
        cylinders, heads, sectors = (_number(begin, 56, ">H"), _number(begin, 58, ">B"), _number(begin, 59, ">B"))
        return min(_number(begin, 48, ">Q"), cylinders * heads * sectors * _SECTOR)
    return 0


def _number(begin: bytes, at: int, form: str) -> int:
    if len(begin) < at + struct.calcsize(form):
        return 0
    return int(struct.unpack_from(form, begin, at)[0])
