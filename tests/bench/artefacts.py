"""What is published in the benchmark: one file tree, as a file system and as a whole disk, in the forms of the trade.

It is made once and kept below `.cache`, under a name that tells the recipe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.bench import tree

MIB = 1 << 20
#: Where the partitions lie: GRUB's, EFI's, and the root, which is the last.
_BOOT, _ESP, _ROOT = 1 * MIB, 2 * MIB, 16 * MIB
_PAGE = 4096
_LAYOUT = """label: gpt
label-id: 00000000-0000-4000-8000-000000000001
14: start={boot}, size=2048, type=21686148-6449-6E6F-744E-656564454649
15: start={esp}, size={esp_size}, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B
1: start={root}, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4
"""
#: Forms of the whole disk, and what makes them of the raw one ({} is the file that is made).
_DISKS = {
    "disk.img.gz": "{gzip} -6 -n -c disk.raw > {}",
    "disk.img.xz": "xz -1 -T0 -c disk.raw > {}",
    "disk.img.zst": "zstd -q -3 -T0 -c disk.raw > {}",
    "disk.qcow2": "qemu-img convert -c -f raw -O qcow2 disk.raw {}",
}


@dataclass(frozen=True)
class Artefacts:
    """``folder`` holds the files. The rest: bytes of the pages of disk and file system that are not zeros."""

    folder: Path
    disk_data: int
    filesystem_data: int

    #: The image of the `filesystem` method, and its member.
    tarball = "lucid-server-uec-amd64.tar.gz"
    member = "lucid-server-uec-amd64.img"
    raw = "disk.raw"
    #: Those of `disk` and `direct`.
    disks = tuple(_DISKS)

    def path(self, name: str) -> Path:
        """Return a file."""
        return self.folder / name

    def sha256(self, name: str) -> str:
        """Return a file's SHA-256."""
        with self.path(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def made(cache: Path, *, size: int, data: int, forms: Iterable[str] = tuple(_DISKS)) -> Artefacts:
    """Return the artefacts of an image of ``size`` bytes whose files hold ``data`` bytes; make what is not there.

    ``forms``: the forms of the whole disk that are wanted.
    """
    cache.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256(Path(__file__).read_bytes() + Path(tree.__file__).read_bytes()).hexdigest()[:12]
    folder = cache / f"bench-{size // MIB}-{data // MIB}-{recipe}"
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=cache))
            try:
                _make(part, size, data)
                part.rename(folder)
            except BaseException:
                shutil.rmtree(part)
                raise
        for name in forms:
            if not (folder / name).exists():
                _run(folder, "sh", "-c", _DISKS[name].format(f"{name}.part", gzip=_gzip()))
                (folder / f"{name}.part").rename(folder / name)
    return Artefacts(folder, pages(folder / Artefacts.raw), pages(folder / Artefacts.member))


def large(cache: Path, gib: int) -> Path:
    """Return a packed whole disk of ``gib`` GiB with 128 MiB of data, spread over all of it."""
    folder = cache / f"large-{gib}"
    packed = folder / "disk.img.gz"
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not packed.exists():
            folder.mkdir(exist_ok=True)
            disk, part = folder / Artefacts.raw, folder / "part"
            with disk.open("wb") as file:
                file.truncate(gib << 30)
            _run(folder, "sh", "-c", f"printf 'label: gpt\\nstart=2048\\n' | sfdisk -q {disk.name}")
            with disk.open("r+b") as file:
                for number in range(128):
                    file.seek((4 + number * ((gib << 10) - 8) // 128) * MIB)
                    file.write(hashlib.shake_256(b"%d" % number).digest(MIB))
            _run(folder, "sh", "-c", f"{_gzip()} -1 -n -c {disk.name} > {part.name}")
            disk.unlink()
            part.rename(packed)
    return packed


def pages(path: Path) -> int:
    """Return the bytes of a file's pages (4 KiB) that are not all zeros; holes are not read."""
    zeros, count = bytes(_PAGE), 0
    with path.open("rb") as file:
        at, number = 0, file.fileno()
        while True:
            try:
                at = os.lseek(number, at, os.SEEK_DATA) // _PAGE * _PAGE
            except OSError:  # nothing but a hole up to the end
                return count * _PAGE
            end = os.lseek(number, at, os.SEEK_HOLE)
            while at < end and (piece := os.pread(number, 256 * _PAGE, at)):
                count += sum(1 for i in range(0, len(piece), _PAGE) if not zeros.startswith(piece[i : i + _PAGE]))
                at += len(piece)


def _make(folder: Path, size: int, data: int) -> None:
    root = folder / "tree"
    root.mkdir()
    tree.plant(root, data)
    image = folder / Artefacts.member
    options = ["-E", "lazy_itable_init=1,lazy_journal_init=1,hash_seed=00000000-0000-4000-8000-000000000002"]
    names = ["-L", "cloudimg-rootfs", "-U", "00000000-0000-4000-8000-000000000003"]
    time = {"E2FSPROGS_FAKE_TIME": "1287532800"}
    _run(
        folder,
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        *options,
        *names,
        "-d",
        "tree",
        image.name,
        f"{size // MIB}M",
        **time,
    )
    shutil.rmtree(root)
    # Whatever is zeros is a hole: the raw write of the yardstick has no more to do than it must.
    _run(folder, "fallocate", "--dig-holes", image.name)
    _disk(folder, image, size)
    _run(
        folder,
        "sh",
        "-c",
        f"tar -c --format=gnu --owner=0 --group=0 --mtime=@1287532800 {image.name}"
        f" | {_gzip()} -6 -n > {Artefacts.tarball}",
    )


def _disk(folder: Path, image: Path, size: int) -> None:
    """Make the raw whole disk: boot code and an ESP with some data, and the file system as its root partition."""
    disk = folder / Artefacts.raw
    with disk.open("wb") as file:
        file.truncate(_ROOT + size + MIB)
    sectors = {"boot": _BOOT // 512, "esp": _ESP // 512, "esp_size": (_ROOT - _ESP) // 512, "root": _ROOT // 512}
    subprocess.run(["sfdisk", "-q", disk], input=_LAYOUT.format(**sectors), text=True, check=True, capture_output=True)
    # sfdisk may end the last partition anywhere; the file system begins it.
    _run(
        folder,
        "dd",
        f"if={image.name}",
        f"of={disk.name}",
        "bs=1M",
        f"seek={_ROOT // MIB}",
        "conv=notrunc,sparse",
        "status=none",
    )
    with disk.open("r+b") as file:
        file.seek(_BOOT)
        file.write(hashlib.shake_256(b"boot").digest(700_000))
        file.seek(_ESP)
        file.write(hashlib.shake_256(b"efi").digest(4 * MIB))
    _run(folder, "fallocate", "--dig-holes", disk.name)


def _gzip() -> str:
    return shutil.which("pigz") or "gzip"


def _run(folder: Path, *command: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
