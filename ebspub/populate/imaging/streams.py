"""What is in an artefact: decompressed by the fastest library or program that the builder has, taken out of a tar."""

from __future__ import annotations

import fcntl
import io
import os
import queue
import shutil
import subprocess
import tarfile
import threading
from contextlib import suppress
from typing import IO, Any, Final, Protocol

from ebspub.populate.imaging import libraries
from ebspub.populate.imaging.artefact import ChangedError
from ebspub.populate.imaging.container import Container
from ebspub.populate.imaging.libraries import Engine
from ebspub.populate.imaging.refusal import Refusal
from ebspub.source import formats

#: Programs, where there is no library: the fastest first, on all processors where the format allows. What Debian calls
#: the package of the last.
_DECODERS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "xz": (("xz", "-dc", "-T0"),),
    "zstd": (("zstd", "-dcq", "--long=31"),),
    "bzip2": (("lbzip2", "-dc"), ("pbzip2", "-dc"), ("bzip2", "-dc")),
}
_PACKAGES: Final = {"xz": "xz-utils", "zstd": "zstd", "bzip2": "bzip2"}
_PIPE: Final = 1024 * 1024
#: What is taken out of a tar at a time. tarfile makes new bytes of each piece, and of large ones glibc gives the memory
#: back, page by page, only to ask for it again: that takes longer than to unpack them.
_SMALL: Final = 64 * 1024
#: Packed bytes that an engine gets at a time, and how many such pieces there are.
_PACKED: Final = 256 * 1024
_PIECES: Final = 8
_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ, which fcntl has from Python 3.10 on


class Bytes(Protocol):
    """Bytes in order."""

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes; return how many, 0 at the end."""


class Stream:
    """Bytes in order, of which the first can be looked at before they are taken."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self._ahead = b""

    def head(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer at the end, without taking them."""
        piece = memoryview(bytearray(count))
        while len(self._ahead) < count and (got := self._source.readinto(piece)):
            self._ahead += piece[:got]
        return self._ahead[:count]

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes; return how many, 0 at the end."""
        if not self._ahead:
            return self._source.readinto(view)
        count = min(len(view), len(self._ahead))
        view[:count] = self._ahead[:count]
        self._ahead = self._ahead[count:]
        return count

    def hole(self) -> int:
        """Return how many bytes are surely zeros from here on; 0 where nobody knows without taking them."""
        return self._source.hole() if isinstance(self._source, Container) and not self._ahead else 0

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes of a hole."""
        assert isinstance(self._source, Container)
        self._source.skip(count)

    def fill(self, view: memoryview) -> int:
        """Take ``len(view)`` bytes; return how many there were, fewer at the end only."""
        filled = 0
        while filled < len(view) and (got := self.readinto(view[filled:])):
            filled += got
        return filled


class Decoder:
    """A decompressor between two pipes, fed by a thread."""

    def __init__(self, source: Stream, compression: str) -> None:
        command = next((each for each in _DECODERS[compression] if shutil.which(each[0])), None)
        if command is None:
            names = " or ".join(each[0] for each in _DECODERS[compression])
            raise Refusal(
                "builder",
                f"the builder has no {names} to unpack the artefact: install {_PACKAGES[compression]} on its image",
            )
        self._source = source
        self._name = command[0]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in: IO[bytes] = self._process.stdin
        self._out: IO[bytes] = self._process.stdout
        self._error: Exception | None = None
        for pipe in (self._in, self._out):
            with suppress(OSError):  # a smaller one does, too
                fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE)
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._feeder.start()

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes; at the end see that the whole was sound."""
        count = int(self._out.readinto(view) or 0)  # type: ignore[attr-defined]
        if not count:
            self._feeder.join()
            status = self._process.wait()
            if self._error is not None:
                raise self._error
            if status:
                raise Refusal(
                    "bad-image", f"the artefact cannot be unpacked: {self._name} ended with exit status {status}"
                )
        return count

    def stop(self) -> None:
        """End the decompressor, wherever it is."""
        self._process.kill()
        self._process.wait()
        self._feeder.join()
        self._out.close()

    def _feed(self) -> None:
        piece = memoryview(bytearray(_PIPE))
        try:
            while count := self._source.readinto(piece):
                left = piece[:count]
                while left:
                    left = left[os.write(self._in.fileno(), left) :]
        except BrokenPipeError:  # it does not want more: its exit status tells whether that is right
            pass
        except (Refusal, ChangedError, OSError) as error:
            self._error = error
        finally:
            self._in.close()


class Ahead:
    """The pieces of a stream, taken by a thread that is a few ahead: neither the network nor SHA-256 is waited for."""

    def __init__(self, source: Stream) -> None:
        self._source = source
        self._free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[tuple[bytearray, int, Exception | None]] = queue.SimpleQueue()
        for _ in range(_PIECES):
            self._free.put(bytearray(_PACKED))
        self._last: bytearray | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def next(self) -> memoryview:
        """Return the next piece, empty at the end; it holds until the next call. Raises what its source has raised."""
        if self._last is not None:
            self._free.put(self._last)
        self._last, count, error = self._ready.get()
        if error is not None:
            raise error
        return memoryview(self._last)[:count]

    def stop(self) -> None:
        """Take no more; the source is the caller's again."""
        self._free.put(None)
        self._thread.join()

    def _run(self) -> None:
        count = 1
        while count and (piece := self._free.get()) is not None:
            try:
                count = self._source.fill(memoryview(piece))
            except (Refusal, ChangedError, OSError) as error:
                self._ready.put((piece, 0, error))
                return
            self._ready.put((piece, count, None))


class Unpacked:
    """What an engine makes of a stream."""

    def __init__(self, source: Stream, engine: Engine) -> None:
        self._engine = engine
        self._ahead = Ahead(source)
        self._packed = memoryview(bytearray())
        self._last = False

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes; at the end see that the whole was sound."""
        while True:
            if not self._packed and not self._last:
                self._packed = self._ahead.next()
                self._last = not self._packed
            taken, given = self._engine.step(self._packed, view, last=self._last)
            self._packed = self._packed[taken:]
            if given:
                return given
            if self._last and not taken:
                if not self._engine.whole:
                    name = self._engine.name
                    raise Refusal("bad-image", f"the artefact cannot be unpacked: its {name} data ends too early")
                return 0

    def stop(self) -> None:
        """Take no more of the source; nothing can be read any more."""
        self._ahead.stop()
        self._engine.close()


def decoder(source: Stream, compression: str) -> Decoder | Unpacked:
    """Return the fastest way that this builder has to unpack ``source``. Raises :class:`Refusal` where it has none."""
    engine = libraries.engine(compression, os.cpu_count() or 1)
    return Decoder(source, compression) if engine is None else Unpacked(source, engine)


class _File(io.RawIOBase):
    """A stream as a file that can only be read on."""

    def __init__(self, stream: Bytes) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(memoryview(buffer).cast("B"))


class _Bounded:
    """Bytes in order, and no more of them than there may be: a few packed bytes can stand for days of work."""

    def __init__(self, source: Bytes, most: int) -> None:
        self._source = source
        self._most = self._left = most

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes. Raises :class:`Refusal` where more come than there may be."""
        count = self._source.readinto(view)
        self._left -= count
        if self._left < 0:
            raise Refusal("too-large", f"the archive unpacks to more than {self._most} bytes, 16 times the volume")
        return count


class Member:
    """The image in a tar; at its end the tar is read to its own, and must hold no second image.

    ``most``: bytes to which the archive may unpack, and to which its image may.
    """

    def __init__(self, stream: Stream, most: int) -> None:
        self._stream = _Bounded(stream, most)
        try:
            self._tar = tarfile.open(  # noqa: SIM115 - a stream, and nothing to close
                fileobj=io.BufferedReader(_File(self._stream), _SMALL), mode="r|", bufsize=_SMALL
            )
            found = self._next()
            if found is None:
                names = ", ".join(f"*{end}" for end in formats.IMAGES)
                raise Refusal("bad-image", f"the archive holds no image ({names})")
            if found.size > most:  # of a sparse image: no more need be in the archive than its name
                raise Refusal("too-large", f"the archive's image has more than {most} bytes, 16 times the volume")
            self._file = self._tar.extractfile(found)
        except tarfile.TarError as error:
            raise Refusal("bad-image", f"the archive cannot be read: {error}") from error
        assert self._file is not None

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes."""
        assert self._file is not None
        try:
            count = int(self._file.readinto(view[:_SMALL]))  # type: ignore[attr-defined]
            if not count and self._next() is not None:
                raise Refusal("bad-image", "the archive holds more than one image")
        except tarfile.TarError as error:
            raise Refusal("bad-image", f"the archive cannot be read: {error}") from error
        if not count:
            rest = memoryview(bytearray(_PIPE))
            while self._stream.readinto(rest):
                pass
        return count

    def _next(self) -> tarfile.TarInfo | None:
        while (member := self._tar.next()) is not None:
            if member.isreg() and member.name.endswith(formats.IMAGES):
                return member
        return None
