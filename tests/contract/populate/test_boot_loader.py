"""The method `filesystem` for HVM: partitions, the image's own boot loader, and a tree that is otherwise untouched."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ebspub.errors import ConfigError
from ebspub.populate import FATAL_CODES
from ebspub.populate.filesystem import FilesystemMethod
from ebspub.remote.detached import poll, start
from ebspub.remote.report import Failed, Succeeded
from tests.contract.populate.bootable import KERNEL, make_bootable
from tests.contract.populate.hvm import (
    ESP,
    MIB,
    ROOT,
    SIZE,
    Arch,
    BootMode,
    backed_by,
    content_of,
    esp_files,
    hvm_spec,
    hvm_task,
    image_tree,
    others,
    partitions,
    replace,
    root_tree,
    start_of,
    without,
)
from tests.contract.populate.world import BY_ID, VOLUME, World, run
from tests.support.variants import few

KINDS = {
    "ext3": ("64M", "-L", "cloudimg-rootfs"),
    "ext4": ("64M", "-L", "cloudimg-rootfs"),
    "xfs": ("320M", "-L", "root"),
    "btrfs": ("256M", "-L", "cloudimg-rootfs", "-O", "^no-holes"),
}
TYPES = {
    "amd64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "bios": "21686148-6449-6E6F-744E-656564454649",
    "esp": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
}


@pytest.mark.needs_tool("mkfs.xfs", "mkfs.btrfs")
@pytest.mark.parametrize("kind", few(["ext4"], KINDS, rest="long"))
def test_each_file_system_lies_in_a_partition_with_its_boot_loaders_and_is_otherwise_the_images(
    hvm_world: World, small_tree: Path, tmp_path: Path, kind: str
) -> None:
    image = tmp_path / f"{kind}.img"
    size, *options = KINDS[kind]
    make_bootable(image, small_tree, kind, *options, size=size)
    uuid = run("blkid", "-p", "-o", "value", "-s", "UUID", image).strip()
    label = run("blkid", "-p", "-o", "value", "-s", "LABEL", image).strip()

    report = hvm_world.succeed(hvm_task(hvm_world, image))

    hvm_world.assert_clean()
    facts = hvm_world.method.facts(report.facts)
    found = partitions(hvm_world.volume)
    assert {number: (one["start"], one["type"]) for number, one in found.items()} == {
        1: (227328, TYPES["amd64"]),
        14: (2048, TYPES["bios"]),
        15: (10240, TYPES["esp"]),
    }
    assert (found[1]["start"] + found[1]["size"]) * 512 == SIZE - MIB
    run("sfdisk", "--verify", hvm_world.volume)
    probed = run("blkid", "-p", "-O", str(ROOT), "-S", str(found[1]["size"] * 512), "-o", "export", hvm_world.volume)
    assert {f"TYPE={kind}", f"UUID={uuid}", f"LABEL={label}"} <= set(probed.splitlines())
    assert (facts.fs_type, facts.uuid, facts.label, facts.size) == (kind, uuid, label, SIZE)
    assert (facts.boot_loader, facts.grub_cfg) == ("bios uefi", "own")
    wanted, tree = image_tree(image), root_tree(hvm_world.volume)
    changed = "boot/grub boot/efi etc/fstab etc/default/grub.d"
    assert sorted(facts.changed.split()) == sorted(changed.split())
    assert others(tree, changed) == others(wanted, changed)
    assert {"/boot/grub/i386-pc/core.img", "/boot/grub/x86_64-efi/core.efi"} <= tree.keys()
    assert facts.files == len(others(wanted, changed)) - 1
    config = content_of(hvm_world.volume, "boot/grub/grub.cfg").decode()
    assert f"linux\t/boot/{KERNEL} root=UUID={uuid} ro  console=tty1 console=ttyS0,115200" in config
    assert "\nserial --unit=0 --speed=115200\n" in config
    assert "/dev/" not in config
    # GRUB's core lies in its partition, and the boot code in front of the table knows where.
    core = content_of(hvm_world.volume, "boot/grub/i386-pc/core.img")
    raw = start_of(hvm_world.volume, 3 * MIB)
    assert raw[MIB + 1024 : MIB + 4096] == core[1024:4096]
    assert int.from_bytes(raw[0x5C:0x64], "little") == 2048
    efi = content_of(hvm_world.volume, "boot/grub/x86_64-efi/core.efi")
    assert esp_files(hvm_world.volume, tmp_path / "esp") == {"EFI/BOOT/BOOTX64.EFI": efi}
    assert uuid.encode() in efi


# What images and builders may lack ------------------------------------------------------------------------------------


GRUB = "/usr/lib/grub"


@pytest.mark.parametrize(
    ("path", "named"),
    [
        (f"{GRUB}/i386-pc/kernel.img", "grub-pc-bin"),
        (f"{GRUB}/x86_64-efi/kernel.img", "grub-efi-amd64-bin"),
        ("/usr/bin/grub-mkimage", "grub-common"),
        (f"/boot/{KERNEL}", "linux-image-cloud-amd64"),
    ],
)
def test_what_an_image_lacks_is_told_before_anything_is_written(
    hvm_world: World, bootable: Path, tmp_path: Path, path: str, named: str
) -> None:
    report = hvm_world.fail(hvm_task(hvm_world, without(bootable, tmp_path, path)), "bad-image")
    assert named in report.message
    assert hvm_world.volume.stat().st_blocks == 0
    hvm_world.assert_clean()


def test_an_image_for_one_firmware_gets_its_boot_loader_alone_and_a_plain_grub_cfg_where_it_makes_none(
    hvm_world: World, bootable: Path, tmp_path: Path
) -> None:
    less = without(bootable, tmp_path, f"{GRUB}/x86_64-efi/kernel.img", "/usr/sbin/grub-mkconfig", "/etc/fstab")
    report = hvm_world.succeed(hvm_task(hvm_world, less, boot_mode=None))
    facts = hvm_world.method.facts(report.facts)
    assert (facts.boot_loader, facts.grub_cfg, facts.changed) == ("bios", "minimal", "boot/grub etc/fstab")
    config = content_of(hvm_world.volume, "boot/grub/grub.cfg").decode()
    assert f"linux /boot/{KERNEL} root=UUID={facts.uuid} ro console=tty1 console=ttyS0,115200" in config
    assert "initrd /boot/initrd.img-6.1.0-1-test" in config
    assert content_of(hvm_world.volume, "etc/fstab").decode() == f"UUID={facts.uuid} / ext4 defaults 0 1\n"


def test_programs_of_another_architecture_are_told_before_anything_is_written(
    hvm_world: World, bootable: Path, tmp_path: Path
) -> None:
    other = without(bootable, tmp_path, "/usr/bin/grub-mkimage")
    elf = tmp_path / "elf"
    elf.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00" + bytes(100))
    run("debugfs", "-w", "-R", f"write {elf} usr/bin/grub-mkimage", other)
    run("debugfs", "-w", "-R", "sif usr/bin/grub-mkimage mode 0100755", other)
    report = hvm_world.fail(hvm_task(hvm_world, other), "builder")
    assert "cannot run the image's programs" in report.message
    assert "builder" in FATAL_CODES
    assert hvm_world.volume.stat().st_blocks == 0


@pytest.mark.parametrize(
    ("arch", "boot_mode", "firmware", "optional"),
    [
        ("amd64", None, "bios", "uefi"),
        ("amd64", "legacy-bios", "bios", "uefi"),
        ("amd64", "uefi", "uefi", "bios"),
        ("amd64", "uefi-preferred", "bios uefi", ""),
        ("arm64", "uefi", "uefi", ""),
        ("i386", None, "bios", ""),
    ],
)
def test_the_boot_mode_says_which_boot_loaders_an_image_must_have(
    arch: Arch, boot_mode: BootMode, firmware: str, optional: str
) -> None:
    task = FilesystemMethod().task(
        hvm_spec("http://x/", boot_mode, arch), volume_id=VOLUME, device="/dev/sdf", attempt=1
    )
    assert (task.parameters["firmware"], task.parameters["optional"]) == (firmware, optional)


def test_a_boot_mode_that_an_architecture_does_not_have_is_refused() -> None:
    spec = hvm_spec("http://x/", "uefi", "i386")
    with pytest.raises(ConfigError, match="no boot loader is known for i386"):
        FilesystemMethod().task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=1)


def test_arm64_has_an_esp_and_nothing_for_bios(hvm_world: World, small_tree: Path, tmp_path: Path) -> None:
    """Its modules are GRUB's for arm64 by name; grub-mkimage is one that joins what it is given."""
    tree = tmp_path / "tree"
    shutil.copytree(small_tree, tree, symlinks=True)
    (tree / "usr/lib/grub/x86_64-efi").rename(tree / "usr/lib/grub/arm64-efi")
    shutil.rmtree(tree / "usr/lib/grub/i386-pc")
    (tree / "usr/bin/grub-mkimage").write_text('#!/bin/sh\n[ "$1" = -O ] || exit 0\ncat "$6" >"$4"\necho "$@" >>"$4"\n')
    image = tmp_path / "arm64.img"
    make_bootable(image, tree, "ext4", size="64M")
    report = hvm_world.succeed(hvm_task(hvm_world, image, boot_mode="uefi", arch="arm64"))
    facts = hvm_world.method.facts(report.facts)
    assert facts.boot_loader == "uefi"
    assert sorted(partitions(hvm_world.volume)) == [1, 15]
    assert partitions(hvm_world.volume)[1]["type"] == "B921B045-1DF0-41C3-AF44-4C6F280D3FAE"
    (name, content), *rest = esp_files(hvm_world.volume, tmp_path / "esp").items()
    assert (name, rest) == ("EFI/BOOT/BOOTAA64.EFI", [])
    assert f"search.fs_uuid {facts.uuid} root\n".encode() in content
    assert b"-O arm64-efi" in content
    config = content_of(hvm_world.volume, "boot/grub/grub.cfg").decode()
    assert f"root=UUID={facts.uuid} ro  console=tty1 console=ttyS0,115200" in config
    # By its number GRUB finds no serial port there, and gfxterm, its default, no screen.
    assert "\nterminal_output console\n" in config
    assert "serial" not in config
    assert start_of(hvm_world.volume, 440) == bytes(440)


FAKE_MOUNT = """#!/bin/sh
case "$*" in
*'-t vfat'*)
  for folder; do device=$last; last=$folder; done
  {real} -t tmpfs none "$folder" && MTOOLS_SKIP_CHECK=1 mcopy -i "$device" -s -n ::/ "$folder/"
  echo "$device" >{home}/fat
  ;;
*) exec {real} "$@" ;;
esac
"""
FAKE_UMOUNT = """#!/bin/sh
if [ "$1" = esp.mnt ] && [ -d esp.mnt/EFI ]; then
  MTOOLS_SKIP_CHECK=1 mcopy -i "$(cat {home}/fat)" -s -o esp.mnt/EFI ::/
fi
exec {real} "$@"
"""


def test_a_kernel_that_mounts_vfat_is_used_for_the_esp(hvm_world: World, bootable: Path, tmp_path: Path) -> None:
    """Played by mtools, because this machine's kernel need not mount it."""
    filesystems = hvm_world.host.home / "filesystems"
    filesystems.write_text(Path("/proc/filesystems").read_text() + "\tvfat\n")
    replace(hvm_world, "mount", FAKE_MOUNT)
    replace(hvm_world, "umount", FAKE_UMOUNT)
    hvm_world.host.inside(f"{hvm_world.host.home}/real/mount --bind {filesystems} /proc/filesystems")
    hvm_world.succeed(hvm_task(hvm_world, bootable))
    assert set(esp_files(hvm_world.volume, tmp_path / "esp")) == {"EFI/BOOT/BOOTX64.EFI"}
    assert (hvm_world.host.home / "fat").exists()


def test_a_builder_that_has_neither_vfat_nor_mtools_is_told(hvm_world: World, bootable: Path) -> None:
    (hvm_world.host.home / "none").write_text("")
    hvm_world.host.inside(f"mount --bind {hvm_world.host.home}/none /usr/bin/mtools")
    report = hvm_world.fail(hvm_task(hvm_world, bootable), "builder")
    assert "install mtools" in report.message
    assert hvm_world.volume.stat().st_blocks == 0


def test_a_builder_without_mkfs_vfat_makes_the_esp_with_mtools(
    hvm_world: World, bootable: Path, tmp_path: Path
) -> None:
    (hvm_world.host.home / "none").write_text("")
    hvm_world.host.inside(f"mount --bind {hvm_world.host.home}/none $(readlink -f /usr/sbin/mkfs.vfat)")
    hvm_world.succeed(hvm_task(hvm_world, bootable))
    probed = run("blkid", "-p", "-O", str(ESP), "-o", "export", hvm_world.volume)
    assert {"TYPE=vfat", "LABEL=UEFI"} <= set(probed.splitlines())
    assert set(esp_files(hvm_world.volume, tmp_path / "esp")) == {"EFI/BOOT/BOOTX64.EFI"}


def test_a_login_without_root_is_told(plain_world: World, bootable: Path) -> None:
    report = plain_world.fail(hvm_task(plain_world, bootable), "builder")
    assert "sudo" in report.message


def test_a_volume_without_room_for_partitions_is_told(hvm_world: World, bootable: Path) -> None:
    os.truncate(hvm_world.volume, 100 * MIB)
    run("losetup", "-c", (hvm_world.host.devices / BY_ID).resolve())
    hvm_world.fail(hvm_task(hvm_world, bootable), "too-small")
    assert hvm_world.volume.stat().st_blocks == 0


# Proof, and restarts --------------------------------------------------------------------------------------------------


def test_an_esp_that_does_not_hold_what_was_written_is_found(hvm_world: World, bootable: Path) -> None:
    spoil = '[ "$last" != ::/ ] || {{ echo >x && "{real}" -c mcopy -i "$2" x ::/EFI/BOOT/X; }}'
    real = '"{real}" -c "${{0##*/}}" "$@" || exit'
    replace(hvm_world, "mtools", f"#!/bin/sh\nfor last; do :; done\n{real}\n{spoil}\n")
    report = hvm_world.fail(hvm_task(hvm_world, bootable), "verify")
    assert "EFI system partition" in report.message
    hvm_world.assert_clean()


def test_a_program_of_the_image_can_change_nothing_but_the_boot_loaders_folder(
    hvm_world: World, bootable: Path, tmp_path: Path
) -> None:
    nosy = without(bootable, tmp_path, "/etc/grub.d/40_custom")
    script = tmp_path / "script"
    script.write_text(
        "#!/bin/sh\nfor f in /etc/nosy /usr/nosy /nosy; do echo >$f; done 2>/dev/null\n"
        "rm -f /etc/fstab 2>/dev/null\necho '#' /dev/*\n"
    )
    run("debugfs", "-w", "-R", f"write {script} etc/grub.d/40_custom", nosy)
    run("debugfs", "-w", "-R", "sif etc/grub.d/40_custom mode 0100755", nosy)
    hvm_world.succeed(hvm_task(hvm_world, nosy))
    assert not [name for name in root_tree(hvm_world.volume) if name.endswith("nosy")]


@pytest.mark.parametrize("phase", few(["boot"], ["mkfs", "boot", "verify", "finish"]))
def test_killed_in_any_phase_nothing_stays_attached_and_a_second_start_ends_well(
    hvm_world: World, bootable: Path, phase: str
) -> None:
    for name in ("sfdisk", "mkfs.vfat", "sha256sum", "e2fsck"):
        replace(hvm_world, name, '#!/bin/sh\n"{real}" "$@"\nstatus=$?\nsleep "$(cat {home}/pause)"\nexit $status\n')
    (hvm_world.host.home / "pause").write_text("0.5\n")
    task = hvm_task(hvm_world, bootable)
    start(hvm_world.shell, task)
    hvm_world.wait_for_phase(task, phase)
    time.sleep(0.3)
    hvm_world.kill_all(task)
    report = poll(hvm_world.shell, task)
    assert isinstance(report, Failed)
    assert (report.code, report.phase) == ("vanished", phase)
    hvm_world.assert_clean()
    assert not backed_by((hvm_world.host.devices / BY_ID).resolve())
    (hvm_world.host.home / "pause").write_text("0\n")
    again = hvm_world.succeed(task)
    assert isinstance(again, Succeeded)
    changed = again.facts["changed"]
    assert others(root_tree(hvm_world.volume), changed) == others(image_tree(bootable), changed)


@pytest.mark.long
def test_partitions_that_a_kernel_shows_of_an_earlier_start_are_our_own(hvm_world: World, bootable: Path) -> None:
    task = hvm_task(hvm_world, bootable)
    device = (hvm_world.host.devices / BY_ID).resolve()
    replace(hvm_world, "mkfs.vfat", "#!/bin/sh\nexit 1\n")
    hvm_world.fail(task, "mkfs")
    (hvm_world.host.home / "mkfs.vfat.stub").write_text(
        f'#!/bin/sh\nexec "{hvm_world.host.home}/real/mkfs.vfat" "$@"\n'
    )
    run("partx", "--add", device)
    try:
        hvm_world.succeed(task, again=True)
    finally:
        run("partx", "--delete", device)


@pytest.mark.needs_tool("btrfs")
def test_subvolumes_of_btrfs_are_refused_because_a_copy_cannot_keep_them(
    hvm_world: World, small_tree: Path, tmp_path: Path
) -> None:
    image = tmp_path / "sub.img"
    make_bootable(image, small_tree, "btrfs", size="256M")
    script = 'mount -o loop "$0" "$1" && btrfs subvolume create "$1/@home"'
    run("unshare", "-m", "sh", "-c", script, image, tmp_path / "sub.img.mnt")
    report = hvm_world.fail(hvm_task(hvm_world, image), "unsupported-fs")
    assert "@home" in report.message
