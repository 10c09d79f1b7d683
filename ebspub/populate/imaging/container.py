"""Disks in containers that need random access (qcow2, VMDK, VHD): kept in a file, and read through qemu-nbd.

Nothing is converted: what qemu-nbd reads out of the container goes to the volume, as if it came from a decoder.
Runs on builders and, for the direct method, on the publisher.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final

from ebspub.populate.imaging.nbd import Export, NbdError
from ebspub.populate.imaging.refusal import Refusal
from ebspub.source import formats

if TYPE_CHECKING:
    from ebspub.populate.imaging.streams import Stream

_PIECE: Final = 1024 * 1024
#: Bytes that are asked for as one, and how many such reads are under way at a time.
_READ: Final = 512 * 1024
_UNDER_WAY: Final = 6
_FORBIDDEN: Final = ("backing-filename", "full-backing-filename")
_LOOK: Final = 0.2
#: Seconds that a server which broke off gets to say why.
_PATIENCE: Final = 2.0
#: The listening socket comes as stdin and becomes the one that systemd would hand over. As stdout comes a pipe, of
#: which this process holds the other end: the server ends when this process does, however that is.
_SERVE: Final = """exec 3<&0 4<&1 </dev/null >/dev/null
{ read -r _ || kill -KILL $$; } <&4 2>/dev/null 3<&- 4<&- &
exec 4<&-
export LISTEN_FDS=1 LISTEN_PID=$$
exec "$@"
"""


def missing() -> str:
    """Return the name of a program that is needed and not there; empty where both are."""
    return next((name for name in ("qemu-img", "qemu-nbd") if shutil.which(name) is None), "")


def keep(stream: Stream, path: str, most: int) -> int:
    """Copy a container to a file; return its bytes. Pages of zeros become holes."""
    piece = memoryview(bytearray(_PIECE))
    zeros = bytes(_PIECE)
    size = 0
    try:
        with open(path, "wb", buffering=0) as file:
            while count := stream.fill(piece):
                size += count
                if size > most:
                    raise Refusal("too-large", f"the artefact unpacks to more than {most} bytes, 16 times the volume")
                if zeros.startswith(piece[:count]):
                    file.seek(count, os.SEEK_CUR)
                    continue
                left = piece[:count]
                while left:
                    left = left[file.write(left) :]
            file.truncate(size)
    except OSError as error:
        raise Refusal("disk-full", f"the artefact cannot be kept on the builder's disk: {error.strerror}") from error
    return size


class Container:
    """The disk in a container, in order: where it surely has zeros, they can be passed over.

    ``path``: the file (``/dev/fd/N`` for one of ``passed``, which are no less than 10), ``content``: of
    :data:`formats.CONTAINERS`, ``folder``: one that nobody else can enter, ``most``: bytes of the volume. ``alive``
    raises where the work is to stop.

    The container must stand for itself: one that names other files of this host would publish them.
    Raises :class:`Refusal`: bad-image, too-small.
    """

    def __init__(
        self,
        path: str,
        content: str,
        folder: str,
        most: int,
        passed: tuple[int, ...] = (),
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._tool = _Tool(path, formats.CONTAINERS[content], passed, alive)
        info = self._tool.run("info")
        details = info.get("format-specific", {}).get("data", {})
        # A VMDK may be no more than the description of a disk whose bytes lie in one other file.
        elsewhere = any(each.get("filename") != path for each in details.get("extents", ()))
        if any(info.get(key) for key in _FORBIDDEN) or details.get("data-file") or elsewhere:
            raise Refusal("bad-image", f"the artefact ({content}) names other files beside itself")
        if info.get("encrypted"):
            raise Refusal("bad-image", f"the artefact ({content}) is encrypted")
        #: Bytes of the disk.
        self.size = int(info["virtual-size"])
        if self.size > most:
            raise Refusal("too-small", f"the volume has {most} bytes, the disk {self.size}")
        # What lies behind the end of the file would be read as zeros, by qemu-img as well.
        self._tool.check()
        if content == "vhd" and not _ends_with_footer(path):
            raise Refusal("bad-image", "the artefact (vhd) is cut off: its last sector is no footer")
        self._server = _Server(path, formats.CONTAINERS[content], folder, passed)
        try:
            # The server comes up meanwhile.
            self._todo = deque(self._pieces(self._tool.run("map")))
            self._export = self._server.export()
            if self._export.size < self.size:
                raise Refusal("bad-image", f"qemu-nbd reads {self._export.size} of {self.size} bytes")
        except BaseException:
            self._server.stop()
            raise
        #: Bytes that were taken or passed over.
        self.here = 0
        self._reads: deque[tuple[int, int, memoryview]] = deque()
        self._free = [memoryview(bytearray(_READ)) for _ in range(_UNDER_WAY)]

    def hole(self) -> int:
        """Return how many bytes are surely zeros from here on; 0 where there may be data."""
        start = self._todo[0] if self._todo else self.size
        if self._reads:
            start = self._reads[0][0]
        return max(0, start - self.here)

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes of a hole."""
        self.here += count

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes; return how many, 0 at the end."""
        hole = min(self.hole(), len(view))
        if hole:
            view[:hole] = bytes(hole)
            self.here += hole
            return hole
        if self.here >= self.size:
            return 0
        self._look_ahead()
        start, number, buffer = self._reads[0]
        try:
            self._export.settle(number)
        except NbdError as error:
            raise self._server.refusal(error) from error
        at = self.here - start
        count = min(len(view), len(buffer) - at)
        view[:count] = buffer[at : at + count]
        self.here += count
        if at + count == len(buffer):
            self._reads.popleft()
            self._free.append(buffer if len(buffer) == _READ else memoryview(bytearray(_READ)))
        return count

    def close(self) -> None:
        """End the server, wherever it is."""
        self._server.stop()

    def _look_ahead(self) -> None:
        """See that as much is under way as may be."""
        while self._todo and self._free:
            start = self._todo.popleft()
            buffer = self._free.pop()[: self.size - start]
            try:
                self._reads.append((start, self._export.ask(start, buffer), buffer))
            except NbdError as error:
                raise self._server.refusal(error) from error

    def _pieces(self, mapped: Sequence[dict[str, Any]]) -> Iterator[int]:
        """Yield where the pieces begin, of :data:`_READ` bytes and aligned to them, that may hold data."""
        following = 0
        for extent in mapped:
            if extent["data"] and not extent["zero"]:
                first = extent["start"] // _READ * _READ
                for start in range(max(first, following), min(extent["start"] + extent["length"], self.size), _READ):
                    yield start
                    following = start + _READ


class _Tool:
    """qemu-img, asked about a container."""

    def __init__(self, path: str, kind: str, passed: tuple[int, ...], alive: Callable[[], None]) -> None:
        self._words = ("--output=json", "-f", kind, path)
        self._passed = passed
        self._alive = alive

    def run(self, word: str) -> Any:
        """Return what the command ``word`` says, which is JSON."""
        status, told, said = self._finish(word)
        if status:
            raise Refusal("bad-image", f"qemu-img {word}: {_last(said)}")
        return json.loads(told)

    def check(self) -> None:
        """Raise :class:`Refusal` where what the container says of itself leads nowhere, as in one that was cut off."""
        status, told, said = self._finish("check")
        # 3: room that nothing leads to, which costs nothing but the room; 63: the format has no checks.
        if status not in (0, 3, 63):
            found = json.loads(told) if told.startswith(b"{") else {}
            count = found.get("corruptions", 0)
            why = f"{count} of its entries lead nowhere" if count else _last(said)
            raise Refusal("bad-image", f"the artefact is damaged or cut off: qemu-img check: {why}")

    def _finish(self, word: str) -> tuple[int, bytes, bytes]:
        """Run the command ``word``; return its exit status, and what it wrote to stdout and stderr."""
        command = ["qemu-img", word, *self._words]
        with subprocess.Popen(
            command, pass_fds=self._passed, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                told, said = self._waited(process)
            except BaseException:
                process.kill()
                raise
        return process.returncode, told, said

    def _waited(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        while True:
            try:
                return process.communicate(timeout=_LOOK)
            except subprocess.TimeoutExpired:
                self._alive()


class _Server:
    """A qemu-nbd that serves one connection, which is there before it is: nobody else can take its place."""

    def __init__(self, path: str, kind: str, folder: str, passed: tuple[int, ...]) -> None:
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        ours, self._alive = os.pipe()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                # The name of the folder itself may be longer than the address of a socket can be.
                address = f"/proc/self/fd/{place}/nbd-{os.getpid()}-{threading.get_ident():x}"
                with suppress(FileNotFoundError):
                    os.unlink(address)  # noqa: PTH108 - no path, but a name in an open folder
                listener.bind(address)
                listener.listen(1)
                self._link.connect(address)
                os.unlink(address)  # noqa: PTH108
                image = f"driver={kind},file.driver=file,file.filename={path.replace(',', ',,')}"
                self._process = subprocess.Popen(
                    ["sh", "-c", _SERVE, "sh", "qemu-nbd", "--read-only", "--image-opts", image],
                    stdin=listener.fileno(), stdout=ours, stderr=subprocess.PIPE, pass_fds=passed,
                )  # fmt: skip
        except BaseException:
            self._link.close()
            os.close(self._alive)
            raise
        finally:
            os.close(place)
            os.close(ours)
        assert self._process.stderr is not None
        self._said: IO[bytes] = self._process.stderr
        self._words = b""

    def export(self) -> Export:
        """Return what it serves, as soon as it does. Raises :class:`Refusal`."""
        try:
            return Export(self._link)
        except NbdError as error:
            raise self.refusal(error) from error

    def refusal(self, error: NbdError) -> Refusal:
        """End it, and return what it says of an ``error``."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)  # one that fails is about to say why
        self.stop()
        return Refusal("bad-image", f"qemu-nbd: {_last(self._words) if self._words else error}")

    def stop(self) -> None:
        """End it."""
        if self._said.closed:
            return
        self._link.close()
        self._process.kill()
        self._words = self._said.read()
        with suppress(BrokenPipeError):
            os.write(self._alive, b"\n")  # who waits for our end need not kill it any more
        os.close(self._alive)
        self._process.wait()
        self._said.close()


def _ends_with_footer(path: str) -> bool:
    """Whether the last sector (of 511 bytes, as old programs made it) of a VHD is its footer."""
    with open(path, "rb", buffering=0) as file:
        file.seek(-512, os.SEEK_END)
        return b"conectix" in file.read(9)


def _last(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it did not say why"
