"""Builders, volumes and images for the tests of the populate methods."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Need
from tests.contract.populate.bootable import make_bootable, make_tree
from tests.contract.populate.disks import MIB, make_whole
from tests.contract.populate.hvm import SIZE, backed_by
from tests.contract.populate.world import (
    BY_ID,
    LUCID,
    MEMBER,
    PRECISE,
    Image,
    Server,
    World,
    left_loops,
    make_image,
    pack,
    serving,
)
from tests.support.localshell import LocalHost, loop_device

#: The kinds of file system that an image may have, with what mkfs is told.
KINDS = {
    "lucid": ("ext3", "-O", LUCID, "-I", "128", "-L", "uec-rootfs"),
    "ext2": ("ext2", "-O", "none,filetype,sparse_super", "-L", "old"),
    "precise": ("ext4", "-O", PRECISE, "-L", "cloudimg-rootfs"),
    "ext4": ("ext4", "-L", "cloudimg-rootfs", "-b", "4096", "-m", "1"),
}


def image_of(kind: str, folder: Path) -> Image:
    fs_type, *options = KINDS[kind]
    file = folder / f"{kind}.img"
    make_image(file, fs_type, *options)
    tarball = folder / f"{kind}.tar.gz"
    note = folder / "README.files"
    note.write_text("what is what\n")
    pack(tarball, ("README.files", note), (MEMBER, file), ("lucid-server-uec-amd64-vmlinuz-virtual", note))
    return Image(file, tarball)


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, need: Need) -> dict[str, Image]:
    """One image of each kind, full of hard cases; not to be changed."""
    need.loop()
    need.tool("mke2fs", "setfacl", "getfattr", "unshare")
    folder = tmp_path_factory.mktemp("images")
    return {kind: image_of(kind, folder) for kind in KINDS}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "www"
    folder.mkdir()
    with serving(folder) as running:
        yield running


@pytest.fixture
def host(tmp_path: Path, need: Need) -> Iterator[LocalHost]:
    need.loop()
    need.tool("unshare", "nsenter", "setpriv", "curl")
    local = LocalHost(tmp_path / "host")
    try:
        yield local
    finally:
        local.close()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    file = tmp_path / "volume"
    with file.open("wb") as opened:
        opened.truncate(128 << 20)
    return file


@pytest.fixture
def world(host: LocalHost, volume: Path, server: Server) -> Iterator[World]:
    """A builder as root, its volume a block device."""
    with loop_device(volume) as device:
        (host.devices / BY_ID).symlink_to(device)
        made = World(host, host.shell, volume, server)
        yield made
        host.close()
        # What runs in a builder that is gone is gone, with all that it mounted.
        assert not left_loops(host.home)


@pytest.fixture
def plain_world(host: LocalHost, server: Server) -> World:
    """A builder without root, its volume a plain file."""
    volume = host.folder / "volume"
    volume.touch()
    os.truncate(volume, 128 << 20)
    volume.chmod(0o666)
    (host.devices / BY_ID).symlink_to("/mnt/volume")
    return World(host, host.user_shell(), volume, server)


# Volumes with partitions ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def small_tree(tmp_path_factory: pytest.TempPathFactory, need: Need) -> Path:
    """A folder with a small system and its boot loaders; not to be changed."""
    need.loop()
    need.tool(
        "grub-mkimage", "grub-mkconfig", "sfdisk", "mcopy", "mformat", "mkfs.vfat", "setfacl", "getfattr", "unshare"
    )
    root = tmp_path_factory.mktemp("small")
    make_tree(root)
    return root


@pytest.fixture(scope="session")
def bootable(tmp_path_factory: pytest.TempPathFactory, small_tree: Path) -> Path:
    """A bare ext4 file system that can be made bootable; not to be changed."""
    file = tmp_path_factory.mktemp("bootable") / "ext4.img"
    make_bootable(file, small_tree, "ext4", "-L", "cloudimg-rootfs", size="64M")
    return file


@pytest.fixture
def hvm_world(host: LocalHost, tmp_path: Path, server: Server) -> Iterator[World]:
    """A builder as root, with a volume on which partitions have room."""
    volume = tmp_path / "volume"
    volume.touch()
    os.truncate(volume, SIZE)
    with loop_device(volume) as device:
        (host.devices / BY_ID).symlink_to(device)
        yield World(host, host.shell, volume, server)
        host.close()
        assert not left_loops(host.home)
        assert not backed_by(device)


# Whole disks ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory, need: Need) -> Path:
    """A raw disk with a GPT and ext4; not to be changed."""
    need.loop()
    need.tool("sfdisk", "sgdisk", "mke2fs", "qemu-img")
    return make_whole(tmp_path_factory.mktemp("whole") / "disk.raw", "ext4")


@pytest.fixture
def disk_world(host: LocalHost, tmp_path: Path, server: Server) -> Iterator[World]:
    """A builder as root, with a volume of 160 MiB."""
    volume = tmp_path / "volume"
    volume.touch()
    os.truncate(volume, 160 * MIB)
    with loop_device(volume) as device:
        (host.devices / BY_ID).symlink_to(device)
        yield World(host, host.shell, volume, server)
        host.close()
        assert not left_loops(host.home)
        assert not backed_by(device)
