"""Builders as root: each in mount, pid and uts namespaces of its own, with volumes as loop devices.

The network is shared: sshd listens on the builder's own loopback address.
"""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from importlib import resources
from pathlib import Path

from ebspub.localcloud import loops
from ebspub.localcloud.hosts import rootvolume
from ebspub.localcloud.hosts.base import (
    Attached,
    DeviceNames,
    ExitCallback,
    HostSpec,
    by_id_name,
    remove_tree,
    watch,
)
from ebspub.localcloud.hosts.rootfs import DISK_GROUP, ON_DISK, PATH, STATE, archive

_INIT = resources.files("ebspub.localcloud.hosts").joinpath("namespace-init.sh")
_SETUP_TIMEOUT = 20.0


class NamespaceHost:
    """One builder; see :class:`ebspub.localcloud.hosts.base.Host`."""

    def __init__(self, spec: HostSpec) -> None:
        self.spec = spec
        self._disk = spec.folder / "disk"
        self._console = spec.folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._init_pid = 0
        self._names = DeviceNames(nitro=spec.nitro)
        self._nodes: dict[str, tuple[str, loops.LoopDevice]] = {}
        self._lock = threading.RLock()

    def start(self, on_exit: ExitCallback) -> None:
        self._init_pid = 0
        process = self._spawn()
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
        if self.spec.root is not None:
            rootvolume.wait_until_free(self.spec.root)

    def reboot(self) -> None:
        if self._alive():
            self._power.write_text("reboot\n")
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
    def _power(self) -> Path:
        return self._disk / STATE / "power"

    @property
    def _ready_name(self) -> str:
        return f"ready-{self.spec.instance_id}"

    def _why(self) -> str:
        return self._power.read_text().strip() if self._power.exists() else "gone"

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the builder's first process, and give it its root file system."""
        root = self.spec.folder / "root"
        for folder in (root, *(self._disk / name for name in ON_DISK)):
            folder.mkdir(parents=True, exist_ok=True)
        # The death signal comes when the forking thread ends: callers run in threads that live as long as the cloud.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--uts"]
        command += ["--kill-child=KILL", "--propagation", "private", "sh", str(_INIT), str(root), str(self._disk)]
        command += [self.spec.hostname, self._ready_name, *ON_DISK]
        environment = {"PATH": PATH, "LANG": "C.UTF-8"}
        if self.spec.root is not None:
            environment |= {"EC2_ROOT": str(self.spec.root), "EC2_ROOT_OFFSET": str(rootvolume.offset(self.spec.root))}
        # EC2 shows the console of the last boot; a builder boots once, and its reboots are of interest, too.
        with self._console.open("ab" if self.spec.root is None else "wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        assert process.stdin is not None
        try:
            with process.stdin as pipe:
                pipe.write(archive(self.spec))
        except BrokenPipeError:
            # It ended early; what it said is on the console, and is told by who waits for it.
            process.wait()
        return process

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
        os.chown(node, 0, DISK_GROUP)
        if self.spec.nitro:
            link = self._dev() / "disk/by-id" / by_id_name(volume_id)
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../{name}")


def _only_child(pid: int) -> int:
    """Return the pid of the one child of ``pid``, or 0 while it has none."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(found[0]) if found else 0
