"""Hosts that take commands, without SSH: real shells in namespaces that leave nothing behind.

A :class:`LocalHost` is a process with mount and process namespaces of its own: when it is killed, or the test run that
made it is, everything that was started or mounted in it is gone. Its volumes are loop devices that the kernel detaches
when their last user has gone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ebspub.errors import RemoteError
from ebspub.remote.shell import MIB, Completed

_LOOP_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_AUTOCLEAR = 4


class LocalShell:
    """Runs commands by ``sh -c``, after ``prefix`` (which enters namespaces, or becomes another user)."""

    def __init__(self, environment: Mapping[str, str], prefix: tuple[str, ...] = ()) -> None:
        self.environment = dict(environment)
        self._prefix = prefix

    def run(self, command: str, *, stdin: bytes = b"", timeout: float, limit: int = MIB) -> Completed:
        try:
            done = subprocess.run(
                [*self._prefix, "sh", "-c", command],
                input=stdin,
                capture_output=True,
                timeout=timeout,
                check=False,
                env=self.environment,
            )
        except subprocess.TimeoutExpired as error:
            raise RemoteError(f"the command did not end within {timeout:g} s") from error
        if len(done.stdout) + len(done.stderr) > limit:
            raise RemoteError(f"the command wrote more than {limit} bytes")
        return Completed(done.returncode, done.stdout, done.stderr)

    def close(self) -> None:
        pass


class LocalHost:
    """A builder: its home, /run and devices lie in ``folder``. Making one needs root; ``user_shell`` has none.

    In its own view it also has the folder as /mnt, which every user can reach.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.devices = folder / "devices"
        self.home = folder / "home"
        for part in (self.devices / "disk/by-id", self.home, folder / "run"):
            part.mkdir(parents=True, exist_ok=True)
        setup = 'mount --bind "$0/run" /run && mount --bind "$0" /mnt && exec sleep infinity'
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL"]
        command += ["--mount-proc", "--propagation", "private", "sh", "-c", setup, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self.pid = _child(self._process.pid)
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.home),
            "EBSPUB_DEVICES": str(self.devices),
            "EBSPUB_TEST_SESSION": os.environ.get("EBSPUB_TEST_SESSION", ""),
        }
        self._enter = ("nsenter", "-t", str(self.pid), "-m", "-p", "env", "-C")
        #: Words before a command that is to run on the host.
        self.entering = (*self._enter, str(self.home))
        self.shell = LocalShell(self.environment, self.entering)
        self._await("sleep")

    def user_shell(self) -> LocalShell:
        """Return a shell of a user without rights, for whom the host's folder is /mnt."""
        for path in (self.folder, self.home):
            path.chmod(0o777)
        environment = self.environment | {"HOME": "/mnt/home", "EBSPUB_DEVICES": "/mnt/devices"}
        drop = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        return LocalShell(environment, (*self._enter, "/mnt/home", *drop))

    def work(self, task: str) -> Path:
        """Return the work folder of a task."""
        return self.home / ".ebspub" / task

    def inside(self, command: str) -> str:
        """Return what a command prints on the host; it must succeed."""
        done = self.shell.run(command, timeout=60)
        assert done.status == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode(errors="replace")

    def close(self) -> None:
        """Kill the host, and wait until all that ran in it is gone."""
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + 30
        while Path(f"/proc/{self.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _await(self, name: str) -> None:
        deadline = time.monotonic() + 10
        while Path(f"/proc/{self.pid}/comm").read_text().strip() != name:
            assert time.monotonic() < deadline, "the host did not come up"
            time.sleep(0.005)


def await_file(file: Path, patience: float = 1.0) -> None:
    """Wait until a file is there, or for so many seconds: to look costs nothing, a poll starts two dozen programs."""
    deadline = time.monotonic() + patience
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """Attach ``file`` to a loop device that detaches itself once nobody, this process included, has it open."""
    for _ in range(200):
        with open("/dev/loop-control", "rb") as control:
            number = fcntl.ioctl(control, _LOOP_GET_FREE)
        device = Path(f"/dev/loop{number}")
        try:
            handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENXIO):
                raise
            if error.errno == errno.ENOENT:
                os.mknod(device, 0o60660, os.makedev(7, number))
            continue
        backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            # struct loop_config: fd, block size, struct loop_info64 (its flags at byte 52), reserved.
            info = struct.pack("=QQQQQIIII", 0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR).ljust(232, b"\0")
            fcntl.ioctl(handle, _LOOP_CONFIGURE, struct.pack("=II", backing, 0) + info + bytes(64))
        except OSError as error:
            os.close(handle)
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.01)  # somebody else was quicker
            continue
        finally:
            os.close(backing)
        try:
            yield device
        finally:
            os.close(handle)
        return
    raise RuntimeError("no free loop device")


def _child(pid: int) -> int:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if children := path.read_text().split():
            return int(children[0])
        time.sleep(0.002)
    raise RuntimeError("the host did not come up")
