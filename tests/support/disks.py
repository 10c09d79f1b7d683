"""Whole-disk images to publish: a GPT with one partition of data, and holes."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

BLOCK = 512 * 1024


def make_disk(path: Path, *, mib: int = 48, data: Iterable[int] = range(4, 24), seed: int = 1) -> Path:
    """Make a raw disk of ``mib`` MiB with a GPT and random data in the MiBs ``data``; the rest are holes."""
    with path.open("wb") as file:
        file.truncate(mib << 20)
    command = ["sgdisk", "--clear", f"--disk-guid={_guid(seed)}", "--new=1:2048:0", "--typecode=1:8300", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    rng = random.Random(seed)
    with path.open("r+b") as file:
        for where in data:
            file.seek(where << 20)
            file.write(rng.randbytes(1 << 20))
    return path


def _guid(seed: int) -> str:
    return f"00000000-0000-4000-8000-{seed:012d}"


def change(path: Path, block: int, seed: int = 99) -> None:
    """Write other data into one block of 512 KiB."""
    with path.open("r+b") as file:
        file.seek(block * BLOCK)
        file.write(random.Random(seed).randbytes(BLOCK))


def data_blocks(path: Path) -> dict[int, bytes]:
    """Return the blocks of an image that are not all zeros, the last one filled up; holes are not read."""
    found: dict[int, bytes] = {}
    with path.open("rb") as file:
        number, index = file.fileno(), 0
        while True:
            try:
                index = os.lseek(number, index * BLOCK, os.SEEK_DATA) // BLOCK
            except OSError:  # nothing but a hole up to the end
                return found
            data = os.pread(number, BLOCK, index * BLOCK).ljust(BLOCK, b"\0")
            if data != bytes(BLOCK):
                found[index] = data
            index += 1


def gpt_complaints(path: Path) -> str:
    """Return what sgdisk finds wrong with a disk; empty for nothing."""
    done = subprocess.run(["sgdisk", "--verify", str(path)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 and "No problems found" in done.stdout else done.stdout + done.stderr
