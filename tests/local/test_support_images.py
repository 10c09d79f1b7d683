"""The real image that tests publish: it boots to a login prompt, and holds what breaks careless copying."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from ebspub.demo.trees import Tree, differences, from_ext, mounted, snapshot
from tests.support.images import LABEL, NASTY, NASTY_NAMES, RealImage, real_image
from tests.support.qemu import BootFailed, boot_disk, boot_to_login

pytestmark = [
    pytest.mark.needs_loop,
    pytest.mark.needs_tool("debootstrap", "mkfs.ext4", "setcap", "setfacl"),
    pytest.mark.timeout(900),  # the first run on a machine builds the image
]


@pytest.fixture(scope="module")
def image() -> RealImage:
    return real_image()


@pytest.fixture(scope="module")
def tree(image: RealImage) -> Tree:
    with mounted(image.image) as root:
        return snapshot(root)


@pytest.mark.variant  # what is published of it boots in test_real_image.py
@pytest.mark.needs_tool("qemu-system-x86_64")
def test_the_image_boots_to_a_login_prompt_and_is_not_changed_by_it(image: RealImage) -> None:
    before = image.image.stat().st_mtime_ns
    log = boot_to_login(image.image, image.kernel, image.initrd)
    assert "ebspub-test login:" in log
    assert image.image.stat().st_mtime_ns == before


@pytest.mark.long
@pytest.mark.needs_tool("qemu-system-x86_64")
def test_a_kernel_that_panics_ends_the_boot_with_the_log(image: RealImage) -> None:
    no_initrd = image.kernel
    with pytest.raises(BootFailed, match=r"does not boot: Kernel panic") as failed:
        boot_to_login(image.image, image.kernel, no_initrd)
    assert "Linux version" in failed.value.log


@pytest.mark.long
@pytest.mark.needs_tool("qemu-system-x86_64")
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_a_disk_without_a_boot_loader_does_not_boot(tmp_path: Path, firmware: Literal["bios", "uefi"]) -> None:
    disk = tmp_path / "empty"
    disk.touch()
    os.truncate(disk, 8 << 20)
    with pytest.raises(BootFailed, match="does not boot"):
        boot_disk(disk, firmware, timeout=60)


@pytest.mark.needs_tool("qemu-system-x86_64")
def test_a_boot_that_takes_too_long_ends_with_the_log(image: RealImage) -> None:
    with pytest.raises(BootFailed, match=r"no login prompt in 0\.5 s"):
        boot_to_login(image.image, image.kernel, image.initrd, timeout=0.5)


def test_the_file_system_is_clean_and_has_its_label(image: RealImage) -> None:
    subprocess.run(["e2fsck", "-fn", image.image], check=True, capture_output=True)
    label = subprocess.run(["e2label", image.image], check=True, capture_output=True, text=True).stdout
    assert label.strip() == LABEL


@pytest.mark.long
def test_the_tarball_holds_the_image(image: RealImage, tmp_path: Path) -> None:
    stem = "bookworm-server-uec-amd64"
    subprocess.run(["tar", "-xSf", image.tarball, "-C", tmp_path], check=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["README.files", f"{stem}-loader", f"{stem}-vmlinuz-virtual", f"{stem}.img"]
    subprocess.run(["cmp", image.image, tmp_path / f"{stem}.img"], check=True)
    assert tarfile.is_tarfile(image.tarball)


def test_the_image_holds_what_breaks_careless_copying(tree: Tree) -> None:
    nasty = {path: tree[os.fsencode(NASTY) + b"/" + path] for path in NASTY_NAMES}
    assert all(entry.kind == "file" for entry in nasty.values())
    at = {name: tree[os.fsencode(NASTY / name)] for name in (
        "deep", "sparse", "fifo", "char", "block", "setuid", "setgid", "capable", "unreadable", "long link", "-rf"
    )}  # fmt: skip
    assert at["-rf"].links == (b"srv/nasty/-rf", b"srv/nasty/deep/er/hard link")
    assert {name for name, _ in at["-rf"].xattrs} == {b"user.text", b"user.binary"}
    acls = {b"system.posix_acl_access", b"system.posix_acl_default", b"trusted.secret"}
    assert {name for name, _ in at["deep"].xattrs} == acls
    assert {name for name, _ in at["capable"].xattrs} == {b"security.capability"}
    assert (at["sparse"].size or 0) > 64 << 20 > 1 << 20 > (at["sparse"].allocated or 0)
    assert at["sparse"].mtime_ns == at["deep"].mtime_ns == 1_287_532_800_123_456_789
    assert at["setuid"].mtime_ns == -1
    assert (at["setuid"].mode, at["setgid"].mode) == (0o4755, 0o2755)
    assert (at["char"].device, at["block"].device) == ((1, 3), (259, 70000))
    assert at["fifo"].kind == "fifo"
    assert (at["unreadable"].uid, at["unreadable"].gid, at["unreadable"].mode) == (70000, 80000, 0)
    assert len(at["long link"].target or b"") == 1000


def test_debugfs_and_the_kernel_see_the_same_image(image: RealImage, tree: Tree) -> None:
    assert differences(tree, from_ext(image.image)) == []
