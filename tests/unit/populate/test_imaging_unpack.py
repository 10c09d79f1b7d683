"""The image in an artefact, unpacked by the builder's program: sparse and whole, and only where nothing is in doubt."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ebspub.populate.program import program

MIB = 1 << 20
#: Zeros, data that no page boundary holds, zeros, and an end that is no whole page.
IMAGE = bytes(3 * MIB) + random.Random(2).randbytes(300_001) + bytes(5 * MIB + 77) + b"end"
DOUBT = 5
Member = tuple[str, bytes | str]


def tar(*members: Member) -> bytes:
    """Return an archive: names, each with content, or with what it is a link to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def unpack(folder: Path, artefact: bytes, most: int = 64 * MIB) -> int:
    """Return the exit status."""
    (folder / "artefact").write_bytes(artefact)
    (folder / "disk.pyz").write_bytes(program())
    command = [sys.executable, "-I", "-S", "disk.pyz", "unpack", str(most)]
    return subprocess.run(command, cwd=folder, stderr=subprocess.DEVNULL, check=False).returncode


TAKEN: dict[str, Callable[[], bytes]] = {
    "an archive": lambda: gzip.compress(tar(("notes.txt", b"x"), ("a/b.img", IMAGE), ("kernel", b"y")), 1),
    "an archive that is not compressed": lambda: tar(("b.img", IMAGE)),
    "an archive in several pieces": lambda: (
        gzip.compress(tar(("b.img", IMAGE))[:999], 1) + gzip.compress(tar(("b.img", IMAGE))[999:], 1)
    ),
    "a compressed image": lambda: lzma.compress(IMAGE, preset=0),
    "an image": lambda: IMAGE,
}


@pytest.mark.parametrize("made", TAKEN.values(), ids=TAKEN)
def test_the_image_comes_out_whole_and_sparse(tmp_path: Path, made: Callable[[], bytes]) -> None:
    assert unpack(tmp_path, made()) == 0
    image = tmp_path / "image"
    assert image.read_bytes() == IMAGE
    assert image.stat().st_blocks * 512 < MIB


def test_a_sparse_member_of_an_archive_comes_out_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with (source / "b.img").open("wb") as file:
        file.seek(3 * MIB)
        file.write(b"data")
        file.truncate(8 * MIB)
    packed = subprocess.run(
        ["tar", "-C", source, "--sparse", "-c", "b.img"], capture_output=True, check=True, timeout=60
    ).stdout
    assert len(packed) < MIB
    assert unpack(tmp_path, packed) == 0
    assert (tmp_path / "image").read_bytes() == (source / "b.img").read_bytes()


DOUBTFUL: dict[str, Callable[[], bytes]] = {
    "two images": lambda: tar(("a.img", IMAGE), ("b.img", IMAGE)),
    "no image": lambda: tar(("a.txt", b"x")),
    "an image that is a link": lambda: tar(("a.img", "/etc/shadow")),
    "a link beside the image": lambda: tar(("a.img", IMAGE), ("b.img", "/etc/shadow")),
    "a system that holds an image": lambda: tar(("./etc/passwd", b"x"), ("./boot/initrd.img", IMAGE)),
    "a system behind an image": lambda: tar(("initrd.img", IMAGE), ("usr/bin/true", b"x")),
    "an archive that was cut off": lambda: tar(("a.img", IMAGE))[:-1_000_000],
    "packed data that was cut off": lambda: gzip.compress(tar(("a.img", IMAGE)), 1)[:-100],
    "packed data that was changed": lambda: gzip.compress(IMAGE, 1)[:-8] + bytes(8),
    "an image whose name leads upwards": lambda: tar(("../a.img", IMAGE)),
    "an image whose name leads upwards on its way": lambda: tar(("a/../../b.img", IMAGE)),
    "more than there may be behind the image": lambda: gzip.compress(tar(("a.img", IMAGE), ("b", bytes(60 * MIB))), 1),
    "more than there may be": lambda: gzip.compress(bytes(65 * MIB), 1),
}


@pytest.mark.parametrize("made", DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_is_in_doubt_is_left_to_be_looked_at(tmp_path: Path, made: Callable[[], bytes]) -> None:
    assert unpack(tmp_path, made()) == DOUBT
    assert not os.path.lexists(tmp_path / "image")
