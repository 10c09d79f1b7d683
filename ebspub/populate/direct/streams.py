"""Streams of bytes that are read into a caller's buffers: what was pulled, decoders' output, files with holes."""

from __future__ import annotations

import fcntl
import gzip
import io
import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, Final, Protocol

from ebspub.errors import EbspubError, JobError
from ebspub.populate.imaging import libraries
from ebspub.populate.imaging.container import Container
from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.sift import RECORD
from ebspub.populate.program import program

try:
    # ISA-L unpacks several times as fast as zlib, holes above all, and asks for no second process and no pipe.
    from isal import igzip, isal_zlib

    _GZIP: Any = igzip.GzipFile
    _DAMAGE: Any = (isal_zlib.error, zlib.error)
except ImportError:  # a processor for which there is none
    _GZIP, _DAMAGE = gzip.GzipFile, (zlib.error,)

#: Decoders by content: the fastest first, with all processors where the format allows. Not gzip's: it cannot be
#: unpacked by several processors, and in this process it takes a third of what a program and two pipes do.
DECODERS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "xz": (("xz", "-dc", "-T0"),),
    "zstd": (("zstd", "-dcq", "--long=31"),),
    "bzip2": (("lbzip2", "-dc"), ("pbzip2", "-dc"), ("bzip2", "-dc")),
}
_PIPE = 1024 * 1024
#: What is raised for what is no gzip, is damaged, or cut off.
_UNSOUND: Final[tuple[type[Exception], ...]] = (gzip.BadGzipFile, EOFError, *_DAMAGE)
_PIECE = 256 * 1024


class Stream(Protocol):
    """Bytes in order."""

    def head(self, count: int) -> bytes:
        """Return the next ``count`` bytes, fewer at the end, without taking them."""

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes; return how many, 0 at the end. Raises EbspubError."""

    def hole(self) -> int:
        """Return how many bytes are surely zeros from here on; 0 where nobody knows without reading."""

    def skip(self, count: int) -> None:
        """Pass over ``count`` bytes of a hole."""

    def finish(self) -> None:
        """Take what is left to the end and see that the whole is sound. Raises EbspubError."""

    def close(self) -> None:
        """Let go of processes and files, wherever it is."""


class _Reading:
    """What the streams have in common: a head that was looked at comes first."""

    def __init__(self) -> None:
        self._ahead = bytearray()

    def head(self, count: int) -> bytes:
        piece = bytearray(_PIECE)
        while len(self._ahead) < count and (got := self._read(memoryview(piece))):
            self._ahead += piece[:got]
        return bytes(self._ahead[:count])

    def readinto(self, view: memoryview) -> int:
        if not self._ahead:
            return self._read(view)
        count = min(len(view), len(self._ahead))
        view[:count] = self._ahead[:count]
        del self._ahead[:count]
        return count

    def hole(self) -> int:
        return 0

    def skip(self, count: int) -> None:
        raise NotImplementedError(f"no hole of {count} bytes was promised")

    def finish(self) -> None:
        self._ahead.clear()
        rest = memoryview(bytearray(_PIECE))
        while self._read(rest):
            pass

    def close(self) -> None:
        """Nothing is held."""

    def _read(self, view: memoryview) -> int:
        raise NotImplementedError


class Pulled(_Reading):
    """What an iterator yields."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = memoryview(b"")

    def _read(self, view: memoryview) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class Inflated(_Reading):
    """What is in a gzip file, of one member or several; zeros after the last one are padding."""

    def __init__(self, source: Stream) -> None:
        super().__init__()
        self._source = source
        # It unpacks into the caller's buffer, and needs none of its own.
        self._file: IO[bytes] = _GZIP(fileobj=Raw(source), mode="rb")

    def finish(self) -> None:
        super().finish()
        self._source.finish()

    def close(self) -> None:
        self._source.close()

    def _read(self, view: memoryview) -> int:
        try:
            return int(self._file.readinto(view))  # type: ignore[attr-defined]
        except _UNSOUND as error:
            raise _unsound(f"gzip data: {error}") from error


class Raw(io.RawIOBase):
    """A stream as a file that can only be read on."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(memoryview(buffer).cast("B"))


def _unsound(what: str) -> JobError:
    return JobError(
        f"the source is not sound {what}", todo="Look at the source: it is damaged or cut off.", code="bad-image"
    )


class Decoded(_Reading):
    """What a decoder makes of another stream: a process between two pipes, fed by a thread."""

    def __init__(self, source: Stream, content: str) -> None:
        super().__init__()
        self._source = source
        self._content = content
        self._error: EbspubError | None = None
        self._begin()

    def _begin(self) -> None:
        content = self._content
        command = next((each for each in DECODERS[content] if shutil.which(each[0])), None)
        if command is None:
            names = " or ".join(each[0] for each in DECODERS[content])
            raise JobError(
                f"the source is compressed ({content}), and this host has nothing to decompress it with",
                todo=f"Install {names} on this host, then `ebspub resume`.",
                code="no-decoder",
            )
        self._start(command)

    def _start(self, command: Sequence[str], passed: tuple[int, ...] = ()) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=passed,
        )
        self._in, self._out, self._err = _opened(self._process.stdin, self._process.stdout, self._process.stderr)
        for pipe in (self._in, self._out):
            with suppress(OSError):  # smaller pipes do, too
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
        self._feeder = threading.Thread(target=self._feed, name="ebspub-feed", daemon=True)
        self._feeder.start()

    def finish(self) -> None:
        super().finish()
        self._feeder.join()
        self._source.finish()
        status = self._process.wait()
        if self._error is not None:
            raise self._error
        if status != 0:
            raise self._told()

    def _told(self) -> JobError:
        """Return what the decoder, which has ended, said of what went wrong."""
        said = self._err.read(4000).decode("utf-8", "replace").strip().splitlines()
        return _unsound(
            f"{self._content} data: {said[-1][:400] if said else f'exit status {self._process.returncode}'}"
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        # The feeder's pipe is broken now; it ends unless it waits for the network, as a daemon.
        self._feeder.join(timeout=0.5)
        for pipe in (self._in, self._out, self._err):
            with suppress(OSError):  # what was not written any more goes nowhere
                pipe.close()
        self._source.close()

    def _read(self, view: memoryview) -> int:
        got = int(self._out.readinto(view) or 0)  # type: ignore[attr-defined]
        if got == 0:
            self._feeder.join()
            if self._error is not None:
                raise self._error
        return got

    def _feed(self) -> None:
        piece = memoryview(bytearray(_PIECE))
        try:
            while got := self._source.readinto(piece):
                rest = piece[:got]
                while rest:
                    rest = rest[self._in.write(rest) or 0 :]
        except EbspubError as error:
            self._error = error
        except (BrokenPipeError, ValueError):
            pass  # The decoder has ended, by itself or because the upload is over; its status tells.
        finally:
            with suppress(OSError):
                self._in.close()


class Sifted(Decoded):
    """What the builder's program makes of another stream, in a process of its own: it leaves the zeros out.

    A disk is mostly holes, which would take as long to come through a pipe as to be unpacked.
    """

    def __init__(self, source: Stream, content: str) -> None:
        self._zeros = self._data = 0
        self._ended = False
        super().__init__(source, content)

    def hole(self) -> int:
        if self._ahead:
            return 0
        self._look()
        return self._zeros

    def skip(self, count: int) -> None:
        self._zeros -= count

    def _begin(self) -> None:
        number = os.memfd_create("ebspub-sift")
        try:
            os.write(number, program())
            self._start([sys.executable, "-I", "-S", f"/dev/fd/{number}", "sift", self._content], (number,))
        finally:
            os.close(number)

    def _read(self, view: memoryview) -> int:
        self._look()
        if self._zeros:
            count = min(len(view), self._zeros)
            view[:count] = bytes(count)
            self._zeros -= count
            return count
        if self._ended:
            return 0
        count = self._taken(view[: self._data])
        self._data -= count
        return count

    def _look(self) -> None:
        """Take the next record where the last one is done."""
        if self._zeros or self._data or self._ended:
            return
        record = memoryview(bytearray(RECORD.size))
        at = 0
        while at < len(record):
            at += self._taken(record[at:])
        self._zeros, self._data = RECORD.unpack(record)
        self._ended = not self._data

    def _taken(self, view: memoryview) -> int:
        count = super()._read(view)
        if not count:
            self._process.wait()
            raise self._told()
        return count


def unpacked(source: Stream, content: str) -> Stream:
    """Return what is in a compressed stream, by the fastest way that this host has. Raises JobError."""
    if content == "gzip":
        return Inflated(source)
    engine = libraries.engine(content, 1)
    if engine is None:
        return Decoded(source, content)
    engine.close()
    return Sifted(source, content)


def _opened(*pipes: IO[bytes] | None) -> list[IO[bytes]]:
    found = [pipe for pipe in pipes if pipe is not None]
    assert len(found) == len(pipes)
    return found


class Served(_Reading):
    """The disk in a container, whose holes are passed over; the artefact it comes from is at its end."""

    def __init__(self, disk: Container, file: IO[bytes], outer: Stream) -> None:
        super().__init__()
        self._disk = disk
        self._file = file
        self._outer = outer

    def hole(self) -> int:
        return 0 if self._ahead else self._disk.hole()

    def skip(self, count: int) -> None:
        self._disk.skip(count)

    def finish(self) -> None:
        """All of it was proved before it was read."""

    def close(self) -> None:
        self._disk.close()
        self._file.close()
        self._outer.close()

    def _read(self, view: memoryview) -> int:
        try:
            return self._disk.readinto(view)
        except Refusal as error:
            raise _unsound(f"disk in a container: {error.message}") from error
