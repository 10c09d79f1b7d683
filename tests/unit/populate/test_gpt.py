"""A GPT that is moved to the end of a larger disk is right by sgdisk's judgement, and by our own reading."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ebspub.errors import JobError
from ebspub.populate import gpt
from tests.conftest import Need
from tests.support.disks import gpt_complaints, make_disk

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path, need: Need) -> Path:
    need.tool("sgdisk")
    return make_disk(tmp_path / "disk.raw", mib=16, data=range(2, 4))


def head(disk: Path) -> bytes:
    with disk.open("rb") as file:
        return file.read(gpt.HEAD)


def patched(disk: Path, size: int) -> Path:
    patches = gpt.grown(head(disk), size)
    os.truncate(disk, size)
    with disk.open("r+b") as file:
        for patch in patches:
            file.seek(patch.offset)
            file.write(patch.data)
    return disk


def entry(disk: Path) -> str:
    told = subprocess.run(["sgdisk", "--info=1", str(disk)], check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in told.splitlines() if "sector" in line or "GUID" in line)


@pytest.mark.parametrize("mib", [17, 24, 1024, 3 * 1024 * 1024])
def test_sgdisk_finds_nothing_wrong_with_a_moved_gpt(disk: Path, mib: int) -> None:
    before = entry(disk)
    patched(disk, mib * MIB)
    assert gpt_complaints(disk) == ""
    assert entry(disk) == before
    told = subprocess.run(["sgdisk", "--print", str(disk)], check=True, capture_output=True, text=True).stdout
    assert f"last usable sector is {mib * 2048 - 34}" in told


def test_the_old_backup_is_wiped_and_nothing_else_is_lost(disk: Path) -> None:
    old = disk.read_bytes()
    new = patched(disk, 24 * MIB).read_bytes()
    assert old[16 * MIB - 512 :][:8] == b"EFI PART"
    assert not new[16 * MIB - 33 * 512 : 16 * MIB].strip(b"\0")
    assert new[2 * MIB : 16 * MIB - 33 * 512] == old[2 * MIB : 16 * MIB - 33 * 512]


def test_a_disk_of_its_size_or_without_gpt_stays_as_it_is(disk: Path) -> None:
    assert gpt.grown(head(disk), 16 * MIB) == []
    assert gpt.grown(bytes(gpt.HEAD), 32 * MIB) == []


def test_a_disk_larger_than_the_volume_is_refused(disk: Path) -> None:
    with pytest.raises(JobError, match="does not fit") as caught:
        gpt.grown(head(disk), 8 * MIB)
    assert caught.value.code == "too-small"


@pytest.mark.parametrize("place", [512 + 40, 1024 + 5])
def test_a_damaged_gpt_is_refused(disk: Path, place: int) -> None:
    damaged = bytearray(head(disk))
    damaged[place] ^= 1
    with pytest.raises(JobError, match="damaged"):
        gpt.grown(bytes(damaged), 32 * MIB)
