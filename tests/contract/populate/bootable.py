"""A tree that is small, but boots as far as GRUB: this machine's own GRUB in it, and a kernel that is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.contract.populate.world import run

#: What grub-mkconfig and its scripts call.
_PROGRAMS = (
    *("sh", "env", "sed", "awk", "grep", "cat", "rm", "mv", "mktemp", "sort", "uname", "ls", "tr", "cut", "id", "expr"),
    *("basename", "dirname", "head", "tail", "chmod", "test", "readlink", "stat", "echo", "printf", "true"),
    *("grub-mkimage", "grub-probe", "grub-mkrelpath", "grub-script-check", "grub-editenv"),
)
_SCRIPTS = (
    *("/usr/sbin/grub-mkconfig", "/usr/share/grub/grub-mkconfig_lib"),
    *("/etc/grub.d/00_header", "/etc/grub.d/10_linux", "/etc/grub.d/40_custom"),
)
#: What a core needs to find its root; a real package has ten times as many.
_MODULES = ("biosdisk", "part_gpt", "ext2", "xfs", "btrfs", "search", "search_fs_uuid", "normal", "configfile", "linux")
KERNEL = "vmlinuz-6.1.0-1-test"
FSTAB = "# as published\nLABEL=cloudimg-rootfs\t/\text4\tdefaults 0 1\n/dev/vdb /mnt auto nofail 0 2\n"


def make_tree(root: Path) -> None:
    """Fill the empty folder ``root``."""
    for name in ("boot", "dev", "proc", "tmp", "etc/default", "usr/bin", "usr/sbin", "usr/lib", "var"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "lib64").symlink_to("usr/lib")
    _copy_programs(root)
    for script in _SCRIPTS:
        _copy(Path(script), root / script[1:])
    for target in ("i386-pc", "x86_64-efi"):
        _copy_modules(Path("/usr/lib/grub") / target, root / "usr/lib/grub" / target)
    (root / "usr/lib/grub/i386-pc/grub-bios-setup").chmod(0o755)
    (root / "boot" / KERNEL).write_bytes(b"no kernel at all" * 1000)
    (root / "boot/initrd.img-6.1.0-1-test").write_bytes(b"no initrd either" * 1000)
    (root / "etc/fstab").write_text(FSTAB)
    (root / "etc/default/grub").write_text("GRUB_TIMEOUT=0\n")
    # Times from before the copy: what keeps them was not touched.
    for path in (root, *root.rglob("*")):
        os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)


def make_bootable(file: Path, root: Path, fs_type: str, *options: str, size: str) -> None:
    """Make a bare file system with the tree ``root`` and the hard cases of ``tree.py`` below /srv."""
    run("truncate", "-s", size, file)
    maker = {"xfs": ("mkfs.xfs", "-q", "-f"), "btrfs": ("mkfs.btrfs", "-q", "-f")}
    run(*maker.get(fs_type, ("mke2fs", "-q", "-F", "-t", fs_type)), *options, file)
    script = 'mount -o loop "$0" "$1" && cp -a "$2/." "$1/" && mkdir "$1/srv" && "$3" "$4" plant "$1/srv"'
    mountpoint = file.parent / f"{file.name}.mnt"
    mountpoint.mkdir()
    run("unshare", "-m", "sh", "-c", script, file, mountpoint, root, sys.executable, Path(__file__).parent / "tree.py")


def _copy_programs(root: Path) -> None:
    libraries: set[str] = set()
    setup = "/usr/lib/grub/i386-pc/grub-bios-setup"
    for name in (*_PROGRAMS, setup):
        found = Path(shutil.which(name) or name).resolve()
        if name != setup:
            _copy(found, root / "usr" / found.parent.name / name)
        listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=False).stdout
        libraries.update(re.findall(r"(/\S+) \(0x", listed))
    for library in libraries:
        _copy(Path(library).resolve(), root / "usr/lib" / Path(library).name)


def _copy_modules(source: Path, folder: Path) -> None:
    needs = {}
    for line in (source / "moddep.lst").read_text().splitlines():
        name, _, needed = line.partition(":")
        needs[name] = needed.split()
    wanted, new = set[str](), set(_MODULES) & needs.keys()
    while new:
        wanted |= new
        new = {needed for name in new for needed in needs[name]} - wanted
    for file in (*(source / f"{name}.mod" for name in wanted), *source.glob("*.lst"), *source.glob("*.img")):
        _copy(file, folder / file.name)
    if (source / "grub-bios-setup").exists():
        _copy(source / "grub-bios-setup", folder / "grub-bios-setup")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
