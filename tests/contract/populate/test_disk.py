"""Whole disks on volumes: every format, thin, proved, and grown to the volume's size."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.populate.disks import (
    MIB,
    ROOT,
    SIZE,
    START,
    data_of,
    disk_task,
    make_root,
    make_whole,
    offer,
    root_of,
    same,
    written,
)
from tests.contract.populate.hvm import backed_by
from tests.contract.populate.world import BY_ID, Server, World, run, sha256
from tests.support.disks import gpt_complaints
from tests.support.localshell import LocalHost, loop_device
from tests.support.variants import few


def _gz(disk: Path, to: Path) -> Path:
    with disk.open("rb") as plain, gzip.open(to / "disk.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed)
    return to / "disk.gz"


def _packer(*command: str) -> Callable[[Path, Path], Path]:
    def pack(disk: Path, to: Path) -> Path:
        packed = to / f"disk.{command[0]}"
        with packed.open("wb") as file:
            subprocess.run([*command, "-c", str(disk)], stdout=file, check=True)
        return packed

    return pack


def _tar(disk: Path, to: Path) -> Path:
    packed = to / "odd.name"
    with tarfile.open(packed, "w:gz", compresslevel=1) as tar:
        (to / "README").write_text("x" * 3000)
        tar.add(to / "README", "README")
        tar.add(disk, "disk.raw")
    return packed


def _converter(kind: str, *options: str) -> Callable[[Path, Path], Path]:
    def convert(disk: Path, to: Path) -> Path:
        run("qemu-img", "convert", "-f", "raw", "-O", kind, *options, disk, to / "converted")
        return to / "converted"

    return convert


FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "raw": lambda disk, _to: disk,
    "gz": _gz,
    "xz": _packer("xz", "-0", "-T2"),
    "zst": _packer("zstd", "-q", "-1"),
    "bz2": _packer("bzip2", "-1"),
    "tar.gz": _tar,
    "qcow2": _converter("qcow2", "-c"),
    "vmdk": _converter("vmdk", "-o", "subformat=streamOptimized"),
    "vhd": _converter("vpc", "-o", "subformat=dynamic,force_size=on"),
    "fixed-vhd": _converter("vpc", "-o", "subformat=fixed,force_size=on"),
}


#: One that is streamed, one with a decoder of its own, one that qemu-img converts; the others are recognised in the
#: same way and have a decoder or a driver of their own.
_FEW = ("raw", "gz", "zst", "qcow2")


@pytest.mark.parametrize("name", few(_FEW, FORMATS))
def test_every_format_arrives_byte_by_byte_and_thin(disk_world: World, disk: Path, tmp_path: Path, name: str) -> None:
    artefact = offer(disk_world, FORMATS[name](disk, tmp_path))
    before = written(disk_world)
    facts = disk_world.succeed(disk_task(disk_world, artefact.file.name, artefact.sha256, grow=False)).facts
    assert same(disk_world.volume, disk)
    assert gpt_complaints(disk_world.volume) == ""
    assert facts["sha256"] == artefact.sha256
    assert (facts["table"], facts["moved"], facts["grown"]) == ("gpt", "yes", "no")
    assert (int(facts["image_size"]), int(facts["size"])) == (SIZE, 160 * MIB)
    # The GPT that was moved is written once more: 70 KiB at most.
    data = data_of(disk)
    assert written(disk_world) - before <= data * 1.02 + 70 * 1024
    if name not in ("qcow2", "vmdk", "vhd"):
        assert int(facts["bytes"]) <= data * 1.02


def test_the_digest_is_of_the_disk_and_not_of_how_it_was_packed(disk_world: World, disk: Path, tmp_path: Path) -> None:
    digests = set()
    for attempt, name in enumerate(("raw", "xz", "qcow2"), start=1):
        artefact = FORMATS[name](disk, tmp_path)
        if not (disk_world.server.folder / artefact.name).exists():
            offer(disk_world, artefact)
        run("blkdiscard", "-z", os.readlink(disk_world.host.devices / BY_ID))
        task = disk_task(disk_world, artefact.name, sha256(artefact), grow=False, attempt=attempt)
        digests.add(disk_world.succeed(task).facts["digest"])
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("fs_type", "table"),
    few(
        [("ext4", "gpt"), ("xfs", "gpt"), ("btrfs", "dos")],
        [("ext4", "gpt"), ("ext4", "dos"), ("xfs", "gpt"), ("btrfs", "gpt"), ("btrfs", "dos")],
    ),
)
def test_the_root_partition_and_its_file_system_grow(
    host: LocalHost, server: Server, tmp_path: Path, fs_type: str, table: str
) -> None:
    size, root = (SIZE, ROOT) if fs_type == "ext4" else (336 * MIB, 320 * MIB)
    whole = make_whole(tmp_path / "whole.raw", fs_type, table, size, root)
    volume = tmp_path / "volume"
    volume.touch()
    os.truncate(volume, size + 200 * MIB)
    with loop_device(volume) as device:
        (host.devices / BY_ID).symlink_to(device)
        world = World(host, host.shell, volume, server)
        artefact = offer(world, whole)
        facts = world.succeed(disk_task(world, artefact.file.name, artefact.sha256)).facts
        host.close()
        assert not backed_by(device)
    assert (facts["grown"], facts["fs_type"], facts["table"]) == ("root", fs_type, table)
    found = root_of(volume)
    assert found["start"] * 512 == START
    assert found["size"] * 512 >= root + 200 * MIB - 2 * MIB
    part = tmp_path / "part"
    part.touch()
    run("dd", f"if={volume}", f"of={part}", "bs=1M", f"skip={START // MIB}", "conv=sparse", "status=none")
    os.truncate(part, found["size"] * 512)
    checks: dict[str, tuple[str | Path, ...]] = {
        "ext4": ("e2fsck", "-fn", part),
        "xfs": ("xfs_repair", "-n", part),
        "btrfs": ("btrfs", "check", "--readonly", part),
    }
    run(*checks[fs_type])
    assert _capacity(part, fs_type) >= root + 190 * MIB
    if table == "gpt":
        assert gpt_complaints(volume) == ""


def _capacity(part: Path, fs_type: str) -> int:
    if fs_type == "ext4":
        lines = dict(line.split(":", 1) for line in run("dumpe2fs", "-h", part).splitlines() if ":" in line)
        return int(lines["Block count"]) * int(lines["Block size"])
    if fs_type == "xfs":
        told = run("xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks blocksize", part)
        values = dict(line.split(" = ") for line in told.splitlines())
        return int(values["dblocks"]) * int(values["blocksize"])
    told = run("btrfs", "inspect-internal", "dump-super", part)
    return next(int(line.split()[1]) for line in told.splitlines() if line.startswith("total_bytes"))


def test_a_bare_file_system_is_a_disk_to_paravirtual_only(disk_world: World, tmp_path: Path) -> None:
    bare = tmp_path / "bare.img"
    make_root(bare, "ext4")
    artefact = offer(disk_world, bare)
    report = disk_world.fail(disk_task(disk_world, artefact.file.name, artefact.sha256), "bad-image")
    assert "hvm" in report.message
    task = disk_task(disk_world, artefact.file.name, artefact.sha256, virtualization="paravirtual", attempt=2)
    facts = disk_world.succeed(task).facts
    assert (facts["table"], facts["grown"]) == ("none", "root")
    assert _capacity(disk_world.volume, "ext4") == 160 * MIB
    run("e2fsck", "-fn", disk_world.volume)


def test_what_lies_last_and_is_no_file_system_is_left_alone(disk_world: World, tmp_path: Path) -> None:
    whole = make_whole(tmp_path / "whole.raw", "ext4")
    run("sgdisk", "-n", "3:0:0", "-t", "3:8200", whole)
    artefact = offer(disk_world, whole)
    facts = disk_world.succeed(disk_task(disk_world, artefact.file.name, artefact.sha256)).facts
    assert (facts["moved"], facts["grown"]) == ("yes", "no")
    assert same(disk_world.volume, whole)
