"""A file tree like that of a small Debian system: the same bytes for the same seed.

Its content packs at about 2.7:1, as that of such systems does. It is cut from two pools, one like text and one like
programs; every piece has an alphabet of its own, so that only what is near can be packed: no decoder finds the pools.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_POOL = 1 << 20
#: When all of it was made.
_THEN = 1_287_532_800
#: Shares of the bytes: in files of some KiB, in libraries, in large files, and of these what is packed already.
_SMALL, _MIDDLE = 0.34, 0.36


def plant(root: Path, size: int, *, seed: int = 1) -> None:
    """Make a tree with ``size`` bytes in its files, links to them, and a file with a hole."""
    rng = random.Random(seed)
    pools = _pools()
    names = _names(root, rng)
    sizes = _sizes(size, rng)
    previous: Path | None = None
    for number, length in enumerate(sizes):
        path = next(names)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(pools, length, rng, packed=length > 8 << 20 and number % 3 == 0))
        path.chmod(0o755 if length > 200_000 else 0o644)
        if previous is not None and number % 13 == 0:
            (path.parent / f"{path.name}.so").symlink_to(os.path.relpath(previous, path.parent))
        if previous is not None and number % 97 == 0:
            os.link(previous, path.parent / f"{path.name}.hard")
        previous = path
    with (root / "var/log/lastlog").open("wb") as file:
        file.truncate(8 << 20)
        file.seek(1000 * 292)
        file.write(b"\1" * 292)
    for folder, _, files in os.walk(root, topdown=False):
        for name in (*files, ""):
            os.utime(os.path.join(folder, name), (_THEN, _THEN), follow_symlinks=False)


def _names(root: Path, rng: random.Random) -> Iterator[Path]:
    (root / "var/log").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/fstab").write_text("LABEL=cloudimg-rootfs / ext4 defaults 0 1\n")
    places = (
        "usr/share/doc",
        "usr/lib/python3",
        "usr/lib/modules",
        "usr/share/zoneinfo",
        "usr/lib/x86_64",
        "etc",
        "var/lib",
    )
    for number in itertools.count():
        folder = root / rng.choice(places) / f"part{rng.randrange(90)}"
        yield folder / f"{rng.choice(('lib', 'read', 'module', 'conf'))}{number}"


def _sizes(size: int, rng: random.Random) -> list[int]:
    """Return the sizes of the files: many small ones, some libraries, a few large ones."""
    found: list[int] = []
    left = int(size * _SMALL)
    while left > 0:
        found.append(min(left, int(rng.lognormvariate(8.2, 1.5)) + 20))
        left -= found[-1]
    left = int(size * _MIDDLE)
    while left > 0:
        found.append(min(left, rng.randrange(200_000, 3_000_000)))
        left -= found[-1]
    left = size - sum(found)
    while left > 0:
        found.append(min(left, rng.randrange(8 << 20, 32 << 20)))
        left -= found[-1]
    rng.shuffle(found)
    return found


def _content(pools: tuple[bytes, bytes], size: int, rng: random.Random, *, packed: bool) -> bytes:
    if packed:
        return rng.randbytes(size)
    pool = pools[0] if size < 100_000 else pools[1]
    pieces = bytearray()
    while len(pieces) < size:
        start = rng.randrange(_POOL - 65536)
        alphabet = list(range(256))
        rng.shuffle(alphabet)
        pieces += pool[start : start + min(max(size - len(pieces), 0), _POOL - start)].translate(bytes(alphabet))
    return bytes(pieces[:size])


@cache
def _pools() -> tuple[bytes, bytes]:
    rng = random.Random(0)
    return _text(rng), _program(rng)


def _text(rng: random.Random) -> bytes:
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    words = ["".join(rng.choices(letters, range(26, 0, -1), k=rng.randrange(2, 11))) for _ in range(4000)]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    told = bytearray()
    while len(told) < _POOL:
        told += " ".join(rng.choices(words, weights, k=12)).encode() + b"\n"
    return bytes(told[:_POOL])


def _program(rng: random.Random) -> bytes:
    parts = [rng.randbytes(rng.randrange(3, 12)) for _ in range(600)]
    weights = [1 / (rank + 4) for rank in range(len(parts))]
    told = bytearray()
    while len(told) < _POOL:
        for number, part in enumerate(rng.choices(parts, weights, k=400)):
            told += part
            told += rng.randbytes(1) if number % 8 == 0 else b""
    return bytes(told[:_POOL])
