"""A volume is written past the kernel's cache where that pays, and reads the same wherever it was written."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import random
from pathlib import Path

import pytest

from ebspub.populate.imaging import volume
from ebspub.populate.imaging.streams import Stream
from ebspub.populate.imaging.volume import BLOCK, PAGE, Pouring, Volume, digest
from tests.conftest import Need

MIB = 1 << 20


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readinto(self, view: memoryview) -> int:
        return self._file.readinto(view)


def made(path: Path, size: int = 8 * MIB) -> Volume:
    path.write_bytes(b"")
    os.truncate(path, size)
    return Volume(str(path))


def aligned(content: bytes) -> memoryview:
    room = mmap.mmap(-1, len(content))
    room[:] = content
    return memoryview(room)


def noise(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


@pytest.fixture
def past(tmp_path: Path, need: Need) -> Path:
    """A path of a file system that can write past its cache."""
    path = tmp_path / "volume"
    path.touch()
    opened = Volume(str(path))
    need.that(opened._past is not None, "a file system with O_DIRECT below the temporary folder")
    opened.close()
    return path


def test_what_is_large_goes_past_the_cache_and_what_is_small_does_not(past: Path) -> None:
    target = made(past)
    content = noise(BLOCK)
    assert not target.store(aligned(content), BLOCK)
    assert target.store(aligned(content[:PAGE]), 4 * BLOCK)
    target.close()
    written = past.read_bytes()
    assert written[BLOCK : 2 * BLOCK] == content
    assert written[4 * BLOCK :][:PAGE] == content[:PAGE]
    assert written.count(0) > len(written) - 2 * BLOCK


def test_where_there_is_no_way_past_the_cache_all_is_written_through_it(tmp_path: Path) -> None:
    target = made(tmp_path / "volume")
    if target._past is not None:
        os.close(target._past)
        target._past = None
    content = noise(BLOCK)
    assert target.store(aligned(content), BLOCK)
    target.close()
    assert (tmp_path / "volume").read_bytes()[BLOCK : 2 * BLOCK] == content


def test_a_device_that_refuses_the_alignment_is_written_through_the_cache(past: Path) -> None:
    target = made(past)
    content = noise(BLOCK)
    # The kernel's own refusal: no device takes a write past the cache that begins at an odd byte.
    assert target.store(aligned(content), 12345)
    target.close()
    assert past.read_bytes()[12345:][:BLOCK] == content


def test_a_disk_of_large_and_small_pieces_is_on_the_volume_as_it_came(tmp_path: Path) -> None:
    disk = bytearray(6 * MIB + 3 * PAGE + 700)
    places = random.Random(2)
    for seed in range(40):
        at = places.randrange(0, len(disk) - 200_000) // PAGE * PAGE
        piece = noise(places.choice((PAGE, 3 * PAGE, 200_000)), seed)
        disk[at : at + len(piece)] = piece
    disk[-700:] = noise(700)
    target = made(tmp_path / "volume")
    pouring = Pouring(target, lambda _reach: None)
    pouring.pour(Stream(_Bytes(bytes(disk))))
    target.flush()
    again = target.digests(range(target.size // BLOCK), lambda _done: None)
    target.close()
    assert (tmp_path / "volume").read_bytes() == bytes(disk).ljust(8 * MIB, b"\0")
    blocks = [bytes(disk[at : at + BLOCK]).ljust(BLOCK, b"\0") for at in range(0, len(disk), BLOCK)]
    wanted = {index: hashlib.sha256(block).digest() for index, block in enumerate(blocks) if any(block)}
    assert pouring.found == again == wanted
    assert digest(again) == digest(wanted)
    zeros = bytes(PAGE)
    assert pouring.written == PAGE * sum(
        block[at : at + PAGE] != zeros for block in blocks for at in range(0, BLOCK, PAGE)
    )


def test_threads_that_write_stand_back_behind_the_one_that_unpacks() -> None:
    found: list[int] = []
    before = os.getpriority(os.PRIO_PROCESS, 0)
    crew = volume._Crew(lambda _index, _buffer: found.append(os.getpriority(os.PRIO_PROCESS, 0)))
    crew.put(0, crew.take())
    crew.finish()
    assert found == [min(19, before + 10)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == before
