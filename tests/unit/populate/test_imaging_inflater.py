"""Gzip unpacked by the builder's Python, where there is no igzip: all of it comes out, and nothing less passes."""

from __future__ import annotations

import gzip
import io
import random

import pytest

from ebspub.populate.imaging.artefact import Refusal
from ebspub.populate.imaging.streams import Inflater, Stream

CONTENT = random.Random(1).randbytes(300_000) + bytes(2_000_000) + b"end"
WHOLE = gzip.compress(CONTENT[:1_000_000], 1) + gzip.compress(b"") + gzip.compress(CONTENT[1_000_000:], 9)


def unpacked(packed: bytes) -> bytes:
    stream, found = Stream(Inflater(Stream(io.BytesIO(packed)))), bytearray()
    view = memoryview(bytearray(100_000))
    while count := stream.fill(view):
        found += view[:count]
    return bytes(found)


@pytest.mark.parametrize("padding", [b"", bytes(1), bytes(200_000)])
def test_members_come_out_one_after_the_other_and_padding_is_nothing(padding: bytes) -> None:
    assert unpacked(WHOLE + padding) == CONTENT


@pytest.mark.parametrize(
    "damaged",
    [b"", WHOLE[:-1], WHOLE[:5], WHOLE[:200_000], WHOLE + b"more", WHOLE[:9000] + bytes(100) + WHOLE[9100:]],
    ids=["nothing", "cut", "cut in its header", "half", "followed", "changed"],
)
def test_what_is_not_whole_is_refused(damaged: bytes) -> None:
    with pytest.raises(Refusal, match=r"cannot be unpacked: .*gzip data"):
        unpacked(damaged)
