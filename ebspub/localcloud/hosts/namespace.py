"""Builders as root: each in mount, pid and uts namespaces of its own, with volumes as loop devices.

The host's root is a folder of the cloud, so that whatever a builder downloads lies on disk and is gone with the folder.
The network is shared: sshd listens on the builder's own loopback address.
"""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import tarfile
import threading
import time
from importlib import resources
from pathlib import Path

from ebspub.localcloud import loops
from ebspub.localcloud.hosts.base import (
    Attached,
    DeviceNames,
    ExitCallback,
    HostSpec,
    by_id_name,
    remove_tree,
    watch,
    write_host_keys,
)
from ebspub.localcloud.hosts.userdata import as_script

_HERE = resources.files("ebspub.localcloud.hosts")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UBUNTU = 1000
_DISK_GROUP = 6
#: A builder may use as many loop devices as there are nodes; the kernel counts them for the whole machine.
_LOOP_NODES = 128
_SETUP_TIMEOUT = 20.0

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
        f'Defaults env_reset, !pam_session, !use_pty, secure_path="{_PATH}"\n'
        "root ALL=(ALL:ALL) ALL\nubuntu ALL=(ALL) NOPASSWD:ALL\n"
    ),
    "pam.d/other": "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n",
    "os-release": 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04 LTS (embedded cloud)"\n',
    "ssh/sshd_config": "",  # written per host
}
_COPIED = (
    "ld.so.cache",
    "ld.so.conf",
    "mke2fs.conf",
    "protocols",
    "services",
    "localtime",
    "login.defs",
    "resolv.conf",
)


class NamespaceHost:
    """One builder; see :class:`ebspub.localcloud.hosts.base.Host`."""

    def __init__(self, spec: HostSpec) -> None:
        self.spec = spec
        self._root = spec.folder / "root"
        self._console = spec.folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._init_pid = 0
        self._names = DeviceNames(nitro=spec.nitro)
        self._nodes: dict[str, tuple[str, loops.LoopDevice]] = {}
        self._lock = threading.RLock()

    def start(self, on_exit: ExitCallback) -> None:
        self._lay_out()
        self._init_pid = 0
        init = str(_HERE / "namespace-init.sh")
        # The death signal comes when the forking thread ends: callers run in threads that live as long as the cloud.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--uts"]
        command += ["--kill-child=KILL", "--propagation", "private", "sh", init, str(self._root)]
        command += [self.spec.hostname, self._ready_name]
        with self._console.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": _PATH, "LANG": "C.UTF-8"},
            )
        self._process = process
        self._init_pid = self._wait_until_inside(process)
        watch(process, lambda: on_exit(self._why()))
        with self._lock:
            for volume_id, (name, device) in self._nodes.items():
                self._make_node(volume_id, name, device)

    def stop(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            os.kill(self._init_pid or process.pid, signal.SIGKILL)
            process.wait()
        with self._lock:
            for volume_id in list(self._nodes):
                self.unplug(volume_id)
            loops.sweep(self.spec.folder)

    def reboot(self) -> None:
        if self._alive():
            (self._root / "var/lib/ec2/power").write_text("reboot\n")
            os.kill(self._init_pid, signal.SIGKILL)

    def plug(self, volume: Attached) -> None:
        with self._lock:
            if volume.volume_id in self._nodes:  # kept over a reboot
                return
            device = loops.attach(volume.file)
            name = self._names.add(volume)
            self._nodes[volume.volume_id] = (name, device)
            if self._alive():
                self._make_node(volume.volume_id, name, device)

    def busy(self, volume_id: str) -> bool:
        with self._lock:
            known = self._nodes.get(volume_id)
        return known is not None and self._alive() and known[1].busy()

    def unplug(self, volume_id: str) -> None:
        with self._lock:
            known = self._nodes.pop(volume_id, None)
            self._names.remove(volume_id)
        if known is None:
            return
        name, device = known
        if self._alive():
            (self._dev() / name).unlink(missing_ok=True)
            (self._dev() / "disk/by-id" / by_id_name(volume_id)).unlink(missing_ok=True)
        device.release()

    def discard(self) -> None:
        remove_tree(self.spec.folder)

    def console(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    @property
    def _ready_name(self) -> str:
        return f"ready-{self.spec.instance_id}"

    def _wait_until_inside(self, process: subprocess.Popen[bytes]) -> int:
        """Return the first process's pid when it has a root of its own: until then its /dev is this machine's.

        Raises :class:`OSError` when it does not get there.
        """
        pid = 0
        deadline = time.monotonic() + _SETUP_TIMEOUT
        while not (pid and Path(f"/proc/{pid}/root/run", self._ready_name).exists()):
            pid = pid or _only_child(process.pid)
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise OSError(f"builder {self.spec.instance_id} does not boot: {self.console()[-500:]}")
            time.sleep(0.005)
        return pid

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None and self._init_pid > 0

    def _dev(self) -> Path:
        """The builder's /dev, seen from outside its namespaces."""
        return Path(f"/proc/{self._init_pid}/root/dev")

    def _make_node(self, volume_id: str, name: str, device: loops.LoopDevice) -> None:
        node = self._dev() / name
        node.unlink(missing_ok=True)
        os.mknod(node, stat.S_IFBLK | 0o660, os.makedev(loops.LOOP_MAJOR, device.number))
        node.chmod(0o660)
        os.chown(node, 0, _DISK_GROUP)
        if self.spec.nitro:
            link = self._dev() / "disk/by-id" / by_id_name(volume_id)
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../{name}")

    def _why(self) -> str:
        power = self._root / "var/lib/ec2/power"
        return power.read_text().strip() if power.exists() else "gone"

    def _lay_out(self) -> None:
        """Write the root folder; what is there of an earlier boot stays."""
        root, spec = self._root, self.spec
        spec.folder.mkdir(parents=True, exist_ok=True)
        for part in ("usr", "proc", "sys", "dev", "run", ".old", "etc/ssh", "etc/pam.d", "var/lib/ec2/sbin", "var/log"):
            (root / part).mkdir(parents=True, exist_ok=True)
        for part, mode in (
            ("tmp", 0o1777),
            ("var/tmp", 0o1777),
            ("root", 0o700),
            ("mnt", 0o755),
            ("home/ubuntu", 0o755),
        ):
            (root / part).mkdir(parents=True, exist_ok=True)
            (root / part).chmod(mode)
        for link in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
            if Path("/", link).is_symlink() and not (root / link).is_symlink():
                (root / link).symlink_to(f"usr/{link}")
        self._lay_out_etc(root / "etc")
        ec2 = root / "var/lib/ec2"
        (ec2 / "dev.tar").write_bytes(_dev_tar())
        stub = (_HERE / "power.sh").read_text().replace("@POWER@", "/var/lib/ec2/power").replace("@INIT@", "1")
        for name in ("shutdown", "poweroff", "reboot", "halt"):
            _write(ec2 / "sbin" / name, stub, 0o755)
        self._lay_out_seed(ec2)

    def _lay_out_etc(self, etc: Path) -> None:
        for name, text in _ETC.items():
            _write(etc / name, text, 0o440 if name == "sudoers" else 0o600 if name == "shadow" else 0o644)
        for name in _COPIED:
            if (source := Path("/etc", name)).exists():
                (etc / name).write_bytes(source.read_bytes())
        _write(etc / "hosts", f"127.0.0.1 localhost\n{self.spec.address} {self.spec.hostname}\n", 0o644)
        _write(etc / "hostname", self.spec.hostname + "\n", 0o644)
        if not (etc / "mtab").is_symlink():
            (etc / "mtab").symlink_to("../proc/self/mounts")

    def _lay_out_seed(self, ec2: Path) -> None:
        spec, etc = self.spec, self._root / "etc"
        keys = write_host_keys(spec.seed, etc / "ssh")
        _write(etc / "ssh/sshd_config", _sshd_config(spec, keys), 0o600)
        ssh = self._root / "home/ubuntu/.ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        _write(ssh / "authorized_keys", "".join(f"{key.strip()}\n" for key in spec.authorized_keys), 0o600)
        for owned in (ssh.parent, ssh, ssh / "authorized_keys"):
            os.chown(owned, _UBUNTU, _UBUNTU)
        if spec.seed.bootcmd:
            _write(ec2 / "bootcmd", as_script(spec.seed.bootcmd), 0o700)
        if spec.seed.script or spec.seed.runcmd:
            _write(ec2 / "runcmd", spec.seed.script or as_script(spec.seed.runcmd), 0o700)
        for file in spec.seed.write_files:
            target = self._root / file.path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.data())
            target.chmod(int(file.permissions, 8))


def _sshd_config(spec: HostSpec, keys: list[Path]) -> str:
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
        f"SetEnv PATH={_PATH} LANG=C.UTF-8",
        "Subsystem sftp internal-sftp",
    ]
    return "\n".join(lines) + "\n"


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file that nobody else can read before it has its mode."""
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(text)
    path.chmod(mode)


def _only_child(pid: int) -> int:
    """Return the pid of the one child of ``pid``, or 0 while it has none."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(found[0]) if found else 0


def _dev_tar() -> bytes:
    """Return a tar archive of the device nodes that every builder has: one process unpacks them all."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("pts", "shm", "disk", "disk/by-id"):
            _add(tar, name, tarfile.DIRTYPE, 0o755)
        nodes = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
        for name, number in nodes.items():
            _add(tar, name, tarfile.CHRTYPE, 0o666, number)
        _add(tar, "loop-control", tarfile.CHRTYPE, 0o660, (10, 237))
        for index in range(_LOOP_NODES):
            _add(tar, f"loop{index}", tarfile.BLKTYPE, 0o660, (loops.LOOP_MAJOR, index))
        links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
        for name, target in links.items():
            _add(tar, name, tarfile.SYMTYPE, 0o777, target=target)
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile, name: str, kind: bytes, mode: int, number: tuple[int, int] = (0, 0), *, target: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, target
    info.devmajor, info.devminor = number
    if kind == tarfile.BLKTYPE:
        info.gid = _DISK_GROUP
    tar.addfile(info)
