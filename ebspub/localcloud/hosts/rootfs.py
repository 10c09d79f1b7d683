"""The root file system of a builder that is a namespace, as one tar archive: a process unpacks it in one go.

It lies in memory, but for what a builder may fill (see :data:`ON_DISK`).
"""

from __future__ import annotations

import io
import tarfile
from importlib import resources
from pathlib import Path

from ebspub.localcloud import loops
from ebspub.localcloud.hosts.base import HostSpec, write_host_keys
from ebspub.localcloud.hosts.userdata import as_script

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Folders of a builder that lie on disk and outlast a reboot; `state` is where the cloud and the builder's boot meet.
STATE = "var/lib/ec2"
ON_DISK = ("tmp", "var/tmp", "root", "home", STATE)
DISK_GROUP = 6
_UBUNTU = 1000
#: A builder may use as many loop devices as it has nodes for; the kernel numbers them for the whole machine.
_LOOP_NODES = 128

_MODES = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "dev/shm": 0o1777}
_FOLDERS = [
    ".old",
    "usr",
    "proc",
    "sys",
    "run",
    "mnt",
    "media",
    "srv",
    "opt",
    "tmp",
    "root",
    "home",
    "var",
    "var/tmp",
    "var/log",
    "var/lib",
    "var/cache",
    "dev",
    "dev/pts",
    "dev/shm",
    "dev/disk",
    "dev/disk/by-id",
    "etc",
    "etc/ssh",
    "etc/pam.d",
    "etc/alternatives",
    "etc/ssl",
    "etc/ca-certificates",
    "etc/ld.so.conf.d",
]
_LINKS = {
    "etc/mtab": "../proc/self/mounts",
    "var/run": "/run",
    "dev/ptmx": "pts/ptmx",
    "dev/fd": "/proc/self/fd",
    "dev/stdin": "fd/0",
    "dev/stdout": "fd/1",
    "dev/stderr": "fd/2",
}
_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
    "loop-control": (10, 237),
}
_ETC = {
    "passwd": (
        "root:x:0:0:root:/root:/bin/bash\n"
        "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin\n"
        f"ubuntu:x:{_UBUNTU}:{_UBUNTU}:Ubuntu:/home/ubuntu:/bin/bash\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "group": (
        "root:x:0:\nadm:x:4:ubuntu\ntty:x:5:\ndisk:x:6:\nmail:x:8:\nsudo:x:27:ubuntu\nshadow:x:42:\nutmp:x:43:\n"
        f"ubuntu:x:{_UBUNTU}:\nnogroup:x:65534:\n"
    ),
    "shadow": "root:*:20000:0:99999:7:::\nsshd:!:20000::::::\nubuntu:*:20000:0:99999:7:::\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "sudoers": (
        f'Defaults env_reset, !pam_session, !use_pty, secure_path="{PATH}"\n'
        "root ALL=(ALL:ALL) ALL\nubuntu ALL=(ALL) NOPASSWD:ALL\n"
    ),
    "pam.d/other": "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
    "os-release": 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04 LTS (embedded cloud)"\n',
}
_ETC_MODES = {"shadow": 0o600, "sudoers": 0o440}
_ETC_COPIED = ("ld.so.cache", "ld.so.conf", "mke2fs.conf", "protocols", "services", "localtime", "login.defs")


def archive(spec: HostSpec) -> bytes:
    """Return the archive for a host; its private host keys are made in ``spec.folder`` when the user data has none."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tree = _Tree(tar)
        _add_system(tree)
        _add_network(tree, spec)
        _add_login(tree, spec)
        _add_boot(tree, spec)
    return buffer.getvalue()


class _Tree:
    """Adds entries to an archive, owned by root unless told otherwise."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def folder(self, name: str, mode: int = 0o755, owner: int = 0) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, mode, owner, owner
        self._tar.addfile(info)

    def file(self, name: str, content: str | bytes, mode: int = 0o644, owner: int = 0) -> None:
        data = content.encode() if isinstance(content, str) else content
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.uid, info.gid = len(data), mode, owner, owner
        self._tar.addfile(info, io.BytesIO(data))

    def link(self, name: str, target: str) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._tar.addfile(info)

    def device(self, name: str, kind: bytes, number: tuple[int, int], mode: int) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, mode
        info.devmajor, info.devminor = number
        info.gid = DISK_GROUP if kind == tarfile.BLKTYPE else 0
        self._tar.addfile(info)


def _add_system(tree: _Tree) -> None:
    for name in _FOLDERS:
        tree.folder(name, _MODES.get(name, 0o755))
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            tree.link(name, f"usr/{name}")
    for name, target in _LINKS.items():
        tree.link(name, target)
    for name, number in _DEVICES.items():
        tree.device(f"dev/{name}", tarfile.CHRTYPE, number, 0o660 if name == "loop-control" else 0o666)
    for index in range(_LOOP_NODES):
        tree.device(f"dev/loop{index}", tarfile.BLKTYPE, (loops.LOOP_MAJOR, index), 0o660)
    for name, text in _ETC.items():
        tree.file(f"etc/{name}", text, _ETC_MODES.get(name, 0o644))
    for name in _ETC_COPIED:
        if (source := Path("/etc", name)).exists():
            tree.file(f"etc/{name}", source.read_bytes())


def _add_network(tree: _Tree, spec: HostSpec) -> None:
    tree.file("etc/hostname", spec.hostname + "\n")
    tree.file("etc/hosts", f"127.0.0.1 localhost\n{spec.address} {spec.hostname}\n")
    resolver = Path("/etc/resolv.conf")
    tree.file("etc/resolv.conf", resolver.read_bytes() if resolver.exists() else b"")


def _add_login(tree: _Tree, spec: HostSpec) -> None:
    keys = write_host_keys(spec.seed, spec.folder)
    for key in keys:
        tree.file(f"etc/ssh/{key.name}", key.read_bytes(), 0o600)
    lines = [f"ListenAddress {spec.address}:{spec.port}", *(f"HostKey /etc/ssh/{key.name}" for key in keys)]
    lines += [
        "PidFile none",
        "UsePAM no",
        "UseDNS no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin no",
        "AllowUsers ubuntu",
        "PrintMotd no",
        "MaxStartups 50:30:100",
        f"SetEnv PATH={PATH} LANG=C.UTF-8",
        "Subsystem sftp internal-sftp",
    ]
    tree.file("etc/ssh/sshd_config", "\n".join(lines) + "\n", 0o600)
    tree.folder("home/ubuntu", 0o750, _UBUNTU)
    tree.folder("home/ubuntu/.ssh", 0o700, _UBUNTU)
    authorized = "".join(f"{key.strip()}\n" for key in spec.authorized_keys)
    tree.file("home/ubuntu/.ssh/authorized_keys", authorized, 0o600, _UBUNTU)


def _add_boot(tree: _Tree, spec: HostSpec) -> None:
    power = resources.files("ebspub.localcloud.hosts").joinpath("power.sh").read_text()
    power = power.replace("@POWER@", f"/{STATE}/power").replace("@INIT@", "1")
    tree.folder(f"{STATE}/sbin")
    for name in ("shutdown", "poweroff", "reboot", "halt"):
        tree.file(f"{STATE}/sbin/{name}", power, 0o755)
    seed = spec.seed
    if seed.bootcmd:
        tree.file(f"{STATE}/bootcmd", as_script(seed.bootcmd), 0o700)
    if seed.script or seed.runcmd:
        tree.file(f"{STATE}/runcmd", seed.script or as_script(seed.runcmd), 0o700)
    for file in seed.write_files:
        tree.file(file.path.lstrip("/"), file.data(), int(file.permissions, 8))
