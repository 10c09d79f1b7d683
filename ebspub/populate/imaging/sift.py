"""Unpacked from stdin to stdout, without zeros: the direct method's decoder, in a process of its own.

Records: how many zeros come first, and how many bytes then follow that are not all zeros, up to :data:`BLOCK`; the last
record has none of these. What ends without it is not whole. Why is said on stderr.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import Final

from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.streams import Stream, decoder
from ebspub.populate.imaging.volume import BLOCK

RECORD: Final = struct.Struct(">QQ")
_ZEROS: Final = bytes(BLOCK)


class _Stdin:
    def readinto(self, view: memoryview) -> int:
        return os.readv(0, [view])


def sift(compression: str) -> None:
    """Unpack ``compression``, of :data:`ebspub.source.formats.COMPRESSED`. Exit status 1: it is not sound."""
    try:
        _sift(Stream(decoder(Stream(_Stdin()), compression)))
    except Refusal as error:
        sys.exit(error.message)


def _sift(stream: Stream) -> None:
    block, zeros = memoryview(bytearray(BLOCK)), 0
    while True:
        count = stream.fill(block)
        if _ZEROS.startswith(block[:count]):
            zeros += count
        else:
            _write(RECORD.pack(zeros, count))
            _write(block[:count])
            zeros = 0
        if count < BLOCK:
            break
    _write(RECORD.pack(zeros, 0))


def _write(data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(1, left) :]
