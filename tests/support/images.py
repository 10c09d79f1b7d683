"""A real root file system that boots: Debian, made by debootstrap once and kept between runs.

It carries entries that break careless copying (:func:`plant_nasty_entries`). Needs root, and the Debian
packages ``debootstrap``, ``e2fsprogs``, ``acl``, ``libcap2-bin`` and, to be quick, ``pigz``; for arm64 also what
:mod:`tests.support.foreign` needs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ebspub.demo.image import pack_uec
from tests.support.foreign import running_arm64

Arch = Literal["amd64", "arm64"]
LABEL = "cloudimg-rootfs"
SUITE = "bookworm"
NASTY = Path("srv/nasty")
NASTY_NAMES = (
    b"new\nline",
    b"'single' \"double\" `back`",
    b"-rf",
    b"\xff\xfe not UTF-8",
    b"n" * 255,
    b" space ",
    b"$HOME;#*",
)
_SIZE = "1G"
#: The kernel, and boot loaders for all the firmware of the architecture, installed nowhere.
_KERNELS_AND_LOADERS: Mapping[Arch, str] = {
    "amd64": "linux-image-cloud-amd64,grub-pc-bin,grub-efi-amd64-bin",
    "arm64": "linux-image-cloud-arm64,grub-efi-arm64-bin",
}
_PACKAGES = "initramfs-tools,zstd,systemd-sysv,udev,grub2-common"

_INITRD = "etc/initramfs-tools/conf.d/ebspub"
_FILES = {
    "etc/fstab": f"LABEL={LABEL} / ext4 defaults 0 1\n",
    "etc/hostname": "ebspub-test\n",
    "etc/default/grub": "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\n",
    "etc/hosts": "127.0.0.1 localhost ebspub-test\n",
    "etc/resolv.conf": "",
    # Only what this machine's disk needs: a small initrd unpacks quickly in an emulated machine.
    _INITRD: "MODULES=list\nCOMPRESS=zstd\n",
    "etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\next4\n",
}
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp-runlevel.service",
    "getty@tty1.service",
    "systemd-journal-flush.service",
    "systemd-pstore.service",
    "modprobe@drm.service",
    "modprobe@fuse.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-fs-fuse-connections.mount",
)
_DROPPED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists", "var/log/apt")


@dataclass(frozen=True, slots=True)
class RealImage:
    """The files of the image; they are shared by all tests and must not be changed."""

    folder: Path
    image: Path  # a bare ext4 file system, raw
    tarball: Path  # as Ubuntu published it: <suite>-server-uec-<arch>.tar.gz
    kernel: Path
    initrd: Path


def real_image(arch: Arch = "amd64") -> RealImage:
    """Return the image, building it if this recipe (this module) was not yet built on this machine."""
    cache = _cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    folder = cache / f"real-image-{arch}-{key}"
    with _locked(cache / f"{folder.name}.lock"):
        if not folder.is_dir():
            for stale in cache.glob(f"{folder.name}.part-*"):
                shutil.rmtree(stale)
            part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=cache))
            try:
                _build(part, cache / "debs", arch)
                part.rename(folder)
            except BaseException:
                shutil.rmtree(part)
                raise
    return _files(folder, arch)


def _cache_folder() -> Path:
    return Path(os.environ.get("EBSPUB_TEST_CACHE") or Path(__file__).parents[2] / ".cache").resolve()


def _files(folder: Path, arch: Arch) -> RealImage:
    stem = f"{SUITE}-server-uec-{arch}"
    return RealImage(
        folder, folder / f"{stem}.img", folder / f"{stem}.tar.gz", folder / "vmlinuz", folder / "initrd.img"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(folder: Path, debs: Path, arch: Arch) -> None:
    files, tree = _files(folder, arch), folder / "tree"
    debs.mkdir(exist_ok=True)
    with running_arm64() if arch == "arm64" else nullcontext():
        _make_tree(tree, debs, arch)
    shutil.copy(next((tree / "boot").glob("vmlinuz-*")), files.kernel)
    shutil.copy(next((tree / "boot").glob("initrd.img-*")), files.initrd)
    _make_ext4(tree, files.image)
    shutil.rmtree(tree)
    pack_uec(folder, suite=SUITE, arch=arch, image=files.image, kernel=files.kernel)


def _make_tree(tree: Path, debs: Path, arch: Arch) -> None:
    # Before the kernel is installed, which makes an initrd: a large one takes minutes where programs are emulated.
    (tree / _INITRD).parent.mkdir(parents=True)
    (tree / _INITRD).write_text(_FILES[_INITRD])
    _debootstrap(tree, debs, arch)
    for name, text in _FILES.items():
        (tree / name).write_text(text)
    for unit in _MASKED:
        (tree / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    _run("chroot", str(tree), "update-initramfs", "-u")
    for name in _DROPPED:
        shutil.rmtree(tree / name)
    plant_nasty_entries(tree / NASTY)


def _debootstrap(tree: Path, debs: Path, arch: Arch) -> None:
    packages = f"{_PACKAGES},{_KERNELS_AND_LOADERS[arch]}"
    options = ["--variant=minbase", f"--arch={arch}", f"--include={packages}", f"--cache-dir={debs}"]
    # The namespaces end with the command, and with them whatever debootstrap mounted or started.
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "debootstrap", *options, SUITE, str(tree)]
    _run(*command, apt_mirror(SUITE), environment=os.environ | _apt_proxies())


def apt_mirror(suite: str) -> str:
    """Return the URL from which this machine's apt gets Debian's ``suite``."""
    fields = "$(CODENAME) $(COMPONENT) $(ORIGIN) $(REPO_URI)"
    targets = _run("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    for line in targets.splitlines():
        match line.split():
            case [codename, "main", "Debian", uri] if codename == suite:
                return uri
    raise RuntimeError(f"apt on this machine has no source for Debian {suite}: add one, then run apt-get update")


def _apt_proxies() -> dict[str, str]:
    """Return apt's proxies as wget, which debootstrap uses, wants them: in the environment."""
    proxies = {}
    for scheme in ("http", "https"):
        proxy = _run("apt-config", "--format", "%v", "dump", f"Acquire::{scheme}::Proxy").strip()
        if proxy and proxy != "DIRECT":
            proxies[f"{scheme}_proxy"] = proxy
    return proxies


def _make_ext4(tree: Path, image: Path) -> None:
    _run("truncate", "-s", _SIZE, str(image))
    _run("mkfs.ext4", "-q", "-L", LABEL, "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
    # cp, not mkfs -d: that one cuts times to seconds. The mount ends with its namespace.
    script = 'mount -o loop -- "$1" /media; cp -a -- "$2/." /media/; umount /media'
    _run("unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(image), str(tree))


def plant_nasty_entries(folder: Path) -> None:
    """Make ``folder``, full of what breaks careless copying. Needs root."""
    folder.mkdir(parents=True)
    names = [
        b"new\nline",
        b"'single' \"double\" `back`",
        b"-rf",
        b"\xff\xfe not UTF-8",
        b"n" * 255,
        b" space ",
        b"$HOME;#*",
    ]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"content of " + name)
    (folder / "deep" / "er").mkdir(parents=True)
    os.link(folder / "-rf", folder / "deep/er/hard link")
    (folder / "dangling").symlink_to("../no such\nfile")
    (folder / "long link").symlink_to("l" * 1000)
    with (folder / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(64 << 20)
        file.write(b"end")
    os.setxattr(folder / "-rf", "user.text", b'quo"ted')
    os.setxattr(folder / "-rf", "user.binary", bytes(range(256)))
    os.setxattr(folder / "deep", "trusted.secret", b"root only")
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "char", 0o20666, os.makedev(1, 3))
    os.mknod(folder / "block", 0o60640, os.makedev(259, 70000))
    for program, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("capable", 0o755), ("unreadable", 0o000)):
        shutil.copyfile("/bin/true", folder / program)
        (folder / program).chmod(mode)
    (folder / "deep").chmod(0o1777)
    os.chown(folder / "unreadable", 70000, 80000)
    _run("setcap", "cap_net_raw+ep", str(folder / "capable"))
    _run("setfacl", "-m", "u:1000:rwx,g:50:r", "-m", "d:u:1001:rx", str(folder / "deep"))
    for dated in ("sparse", "fifo", "dangling", "deep", "new\nline"):
        os.utime(folder / dated, ns=(1, 1_287_532_800_123_456_789), follow_symlinks=False)
    os.utime(folder / "setuid", ns=(1, -1))  # before the epoch


def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{output[-4000:]}")
    return output
