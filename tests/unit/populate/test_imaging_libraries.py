"""Unpacked on the builder, by a library or what its Python has: all of it comes out, and nothing less passes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import subprocess
from collections.abc import Callable

import pytest

from ebspub.populate.imaging import libraries, streams
from ebspub.populate.imaging.libraries import Engine, Zlib
from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.streams import Decoder, Stream, Unpacked, decoder
from tests.conftest import Need

CONTENT = random.Random(1).randbytes(300_000) + bytes(2_000_000) + b"end"


def _zstd(content: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", "--check"], input=content, capture_output=True, check=True).stdout


def _isal() -> Engine:
    found = libraries.engine("gzip", 1)
    Need().that(not isinstance(found, Zlib), "libisal2")
    assert found is not None
    return found


def _library(content: str) -> Callable[[], Engine]:
    def make() -> Engine:
        found = libraries.engine(content, 2)
        Need().that(found is not None, f"a library for {content}")
        assert found is not None
        return found

    return make


MAKERS: dict[str, tuple[Callable[[], Engine], Callable[[bytes], bytes]]] = {
    "zlib": (Zlib, lambda content: gzip.compress(content, 6)),
    "isal": (_isal, lambda content: gzip.compress(content, 6)),
    "zstd": (_library("zstd"), _zstd),
    "xz": (_library("xz"), lambda content: lzma.compress(content, preset=0)),
}


def unpacked(make: Callable[[], Engine], packed: bytes, room: int = 100_000) -> bytes:
    unpacker = Unpacked(Stream(io.BytesIO(packed)), make())
    stream, found = Stream(unpacker), bytearray()
    view = memoryview(bytearray(room))
    try:
        while count := stream.fill(view):
            found += view[:count]
    finally:
        unpacker.stop()
    return bytes(found)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.needs_tool("zstd")
def test_parts_come_out_one_after_the_other_whatever_the_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, pack = MAKERS[name]
    whole = pack(CONTENT[:1_000_000]) + pack(b"") + pack(CONTENT[1_000_000:])
    assert unpacked(make, whole) == CONTENT
    monkeypatch.setattr(streams, "_PACKED", 4097)
    assert unpacked(make, whole, 33_333) == CONTENT
    # Every part ends where a piece does, or a byte before or behind.
    short = b"".join(pack(bytes([number]) * number) for number in range(9))
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(streams, "_PACKED", size)
        assert unpacked(make, short, 5) == b"".join(bytes([number]) * number for number in range(9))


@pytest.mark.parametrize("padding", [1, 200_000, 600_000])
@pytest.mark.parametrize("name", ["zlib", "isal"])
def test_zeros_behind_gzip_are_padding(name: str, padding: int) -> None:
    make, pack = MAKERS[name]
    assert unpacked(make, pack(CONTENT) + bytes(padding)) == CONTENT


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.needs_tool("zstd")
def test_what_is_not_whole_is_refused(name: str) -> None:
    make, pack = MAKERS[name]
    whole = pack(CONTENT[:1_000_000]) + pack(CONTENT[1_000_000:])
    damages = {
        "cut": whole[:-1],
        "cut in its header": whole[:5],
        "half": whole[:200_000],
        "followed": whole + b"more",
        "changed": whole[:9000] + bytes(100) + whole[9100:],
        "changed at last": whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],
    }
    for how, damaged in damages.items():
        with pytest.raises(Refusal, match="cannot be unpacked"):
            pytest.fail(f"{how}: {len(unpacked(make, damaged))} bytes")
    with pytest.raises(Refusal, match="cannot be unpacked"):
        unpacked(make, b"")


def test_a_library_that_is_another_than_it_seems_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _isal()
    monkeypatch.setattr(libraries._Isal, "_GZIP", 2)  # "no header": what is packed does not come out
    assert isinstance(libraries.engine("gzip", 1), Zlib)


def test_without_a_library_there_is_a_program() -> None:
    packed = bz2.compress(CONTENT)
    unpacker = decoder(Stream(io.BytesIO(packed)), "bzip2")
    assert isinstance(unpacker, Decoder)
    stream, view = Stream(unpacker), memoryview(bytearray(len(CONTENT) + 1))
    assert stream.fill(view) == len(CONTENT)
    assert view[:-1] == CONTENT
    unpacker.stop()
