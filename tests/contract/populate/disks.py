"""What the tests of the disk method share: whole disks with file systems, and a builder that writes them."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

from ebspub.populate.disk import DiskMethod
from ebspub.remote.detached import Task
from tests.contract.populate.world import VOLUME, Image, World, job_spec, run

MIB = 1 << 20
#: Where the root partition lies on the disks made here, and how large it is.
START = 8 * MIB
ROOT = 96 * MIB
SIZE = 112 * MIB


def make_root(file: Path, fs_type: str, size: int = ROOT) -> None:
    """Make a file system with some files in it."""
    file.touch()
    os.truncate(file, size)
    tree = file.with_suffix(".tree")
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hostname").write_text("disk\n")
    (tree / "data").write_bytes(random.Random(3).randbytes(9 * MIB))
    commands: dict[str, list[str | Path]] = {
        "ext4": ["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, file],
        "btrfs": ["mkfs.btrfs", "-q", "-f", "-r", tree, file],
        "xfs": ["mkfs.xfs", "-q", "-f", file],
    }
    run(*commands[fs_type])


def make_whole(file: Path, fs_type: str, table: str = "gpt", size: int = SIZE, root: int = ROOT) -> Path:
    """Make a raw disk: a boot partition of 4 MiB with data, and a root partition."""
    part = file.with_suffix(".part")
    make_root(part, fs_type, root)
    file.touch()
    os.truncate(file, size)
    boot = "21686148-6449-6E6F-744E-656564454649" if table == "gpt" else "83"
    linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4" if table == "gpt" else "83"
    lines = f"label: {table}\n1: start={START // 512}, size={root // 512}, type={linux}\n"
    number = 14 if table == "gpt" else 2
    lines += f"{number}: start=2048, size=8192, type={boot}\n"
    subprocess.run(["sfdisk", "-q", file], input=lines, text=True, check=True, capture_output=True)
    run("dd", f"if={part}", f"of={file}", "bs=1M", f"seek={START // MIB}", "conv=notrunc,sparse", "status=none")
    with file.open("r+b") as opened:
        opened.seek(MIB + 5 * 4096)
        opened.write(random.Random(4).randbytes(700_001))
    return file


def disk_task(
    world: World, name: str, digest: str | None, *, grow: bool = True, virtualization: str = "hvm", attempt: int = 1
) -> Task:
    spec = job_spec(world.server.url(name), digest)
    registration = spec.registration.model_copy(update={"virtualization": virtualization})
    spec = spec.model_copy(update={"registration": registration, "method": "disk", "grow": grow})
    method = DiskMethod(download_tries=3, download_pause=0)
    return method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=attempt)


def offer(world: World, file: Path) -> Image:
    """Let the server have a file under its own name; ``tarball`` of what is returned is that file."""
    (world.server.folder / file.name).symlink_to(file)
    return Image(file, file)


def compress(file: Path, *command: str) -> Path:
    subprocess.run([*command, str(file)], check=True)
    return next(file.parent.glob(f"{file.name}.*z*"))


def same(volume: Path, disk: Path, *, but_table: bool = True) -> bool:
    """Return whether a volume begins with the disk; the sectors of the GPT aside where it was moved."""
    size = disk.stat().st_size
    with volume.open("rb") as one, disk.open("rb") as other:
        first, second = one.read(size), other.read(size)
        rest = one.read()
    table = 34 * 512 if but_table else 0
    tail = size - 33 * 512 if but_table else size
    behind = rest[: -33 * 512] if but_table and rest else rest
    return first[table:tail] == second[table:tail] and behind.count(0) == len(behind)


def data_of(disk: Path) -> int:
    """Return the bytes of a disk in pages that are not all zeros."""
    zeros, count = bytes(4096), 0
    with disk.open("rb") as file:
        while page := file.read(4096):
            count += page != zeros[: len(page)]
    return count * 4096


def written(world: World) -> int:
    """Return the bytes that were ever written to the builder's volume."""
    device = os.readlink(world.host.devices / "disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0")
    return int(Path(f"/sys/block/{Path(device).name}/stat").read_text().split()[6]) * 512


def root_of(volume: Path) -> dict[str, Any]:
    """Return the root partition of a disk as sfdisk has it."""
    import json

    table = json.loads(run("sfdisk", "--json", volume))["partitiontable"]
    found: dict[str, Any] = max(table["partitions"], key=lambda one: one["start"])
    return found
