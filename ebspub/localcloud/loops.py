"""Loop devices that release themselves.

A device is set up with LO_FLAGS_AUTOCLEAR while this process keeps it open: when the process dies, even by SIGKILL, and
nothing else uses the device, the kernel detaches it. See loop(4) and ``linux/loop.h``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from pathlib import Path

LOOP_MAJOR = 7
_LOOP_CLR_FD = 0x4C01
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_PARTSCAN = 8
#: struct loop_info64: device inode rdevice offset sizelimit, number encrypt key_size flags, two names, key, init[2]
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
#: struct loop_config: fd block_size, loop_info64, reserved[8]
_CONFIG_HEAD = struct.Struct("=2I")
_RESERVED = bytes(64)
_BUSY_WAIT = 5.0


class LoopDevice:
    """One attached loop device; open in this process until :meth:`release`."""

    def __init__(self, number: int, fd: int) -> None:
        self.number = number
        self._fd = fd

    @property
    def path(self) -> str:
        """The device's node in this process's own /dev."""
        return f"/dev/loop{self.number}"

    def busy(self) -> bool:
        """Tell whether a file system on it is mounted, or it is otherwise claimed exclusively."""
        try:
            os.close(os.open(self.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as error:
            if error.errno == errno.EBUSY:
                return True
            raise
        return False

    def release(self) -> None:
        """Write back what is cached and detach; waits a moment for dying users of it, then lets go all the same."""
        if self._fd < 0:
            return
        os.fsync(self._fd)
        deadline = time.monotonic() + _BUSY_WAIT
        while self.busy() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.fsync(self._fd)
        clear(self._fd)
        os.close(self._fd)
        self._fd = -1


def attach(file: Path) -> LoopDevice:
    """Attach ``file`` (its size a multiple of 512 bytes) to a free loop device.

    Raises :class:`OSError` where loop devices cannot be had.
    """
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        while True:
            device = _try_attach(backing, file)
            if device is not None:
                return device
    finally:
        os.close(backing)


def _try_attach(backing: int, file: Path) -> LoopDevice | None:
    """Return the device, or None when somebody else took the free one first."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
    finally:
        os.close(control)
    node = f"/dev/loop{number}"
    if not os.path.exists(node):  # a container's /dev does not grow by itself
        os.mknod(node, stat.S_IFBLK | 0o660, os.makedev(LOOP_MAJOR, number))
    fd = _open_unless_going(node, os.O_RDWR)
    if fd is None:
        return None
    name = os.fsencode(file)[-63:]
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_PARTSCAN, name, b"", b"", 0, 0)
    try:
        fcntl.ioctl(fd, _LOOP_CONFIGURE, _CONFIG_HEAD.pack(backing, 0) + info + _RESERVED)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EBUSY:
            return None
        raise
    return LoopDevice(number, fd)


def clear(fd: int) -> None:
    """Detach the loop device open as ``fd``; while others use it, the kernel waits for the last of them."""
    try:
        fcntl.ioctl(fd, _LOOP_CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:  # already detached
            raise


def sweep(folder: Path) -> list[int]:
    """Detach every loop device whose file lies in ``folder``; returns their numbers.

    A path alone does not find them all: a file that a builder attached itself is known to the kernel by its path inside
    the builder. So files are compared by device and inode, too.
    """
    inside = {(s.st_dev, s.st_ino) for s in (p.lstat() for p in folder.rglob("*")) if stat.S_ISREG(s.st_mode)}
    cleared = []
    for entry in Path("/sys/block").glob("loop*"):
        backing = entry / "loop" / "backing_file"
        number = int(entry.name.removeprefix("loop"))
        if not backing.exists() or not os.path.exists(f"/dev/loop{number}"):
            continue
        fd = _open_unless_going(f"/dev/loop{number}", os.O_RDONLY)
        if fd is None:
            continue
        try:
            if _backing_identity(fd) in inside or _path_within(backing, folder):
                clear(fd)
                cleared.append(number)
        finally:
            os.close(fd)
    return cleared


def _open_unless_going(node: str, mode: int) -> int | None:
    """Return the loop device opened, or None while somebody detaches or removes it: the kernel says ENXIO then."""
    try:
        return os.open(node, mode | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def _backing_identity(fd: int) -> tuple[int, int] | None:
    """Return (device, inode) of the file behind the loop device, or None when there is none any more."""
    buffer = bytearray(_INFO.size)
    try:
        fcntl.ioctl(fd, _LOOP_GET_STATUS64, buffer)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise
    device, inode, *_ = _INFO.unpack(buffer)
    # The kernel gives its new_encode_dev() form; os.stat gives the C library's.
    major = (device >> 8) & 0xFFF
    minor = (device & 0xFF) | ((device >> 12) & 0xFFF00)
    return os.makedev(major, minor), inode


def _path_within(backing: Path, folder: Path) -> bool:
    try:
        text = backing.read_text().strip()
    except OSError:  # detached between the look and the read
        return False
    return text.startswith(f"{folder}{os.sep}")
