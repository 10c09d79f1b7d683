"""Blocks of a disk on a volume: written where they hold data, read back, and made zeros again."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import queue
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ebspub.populate.imaging.refusal import Refusal

if TYPE_CHECKING:
    from ebspub.populate.imaging.streams import Stream

#: Bytes of a block: that of EBS snapshots, so that all methods' digests are of the same.
BLOCK: Final = 512 * 1024
#: Bytes that are written or left out as one.
PAGE: Final = 4096
_ZEROS: Final = bytes(BLOCK)
_ZERO_SHA256: Final = hashlib.sha256(_ZEROS).digest()
_PAGE: Final = bytes(PAGE)
_WORKERS: Final = 3
_BUFFERS: Final = 12
#: By how much they stand back: what they do must not keep waiting the thread that unpacks, which all wait for.
_NICE: Final = 10
#: Bytes from which on a range is written past the kernel's cache.
_LARGE: Final = 64 * 1024
#: Blocks in the kernel's cache after which it is told to begin writing, and batches of them after which the volume is
#: flushed, while more is unpacked: there is little to wait for at the end then.
_BATCH: Final = 32
_FLUSHED: Final = 4
#: Bytes by which the record of how far was written runs ahead.
_AHEAD: Final = 256 * 1024 * 1024


def digest(found: dict[int, bytes]) -> str:
    """Return the digest of a disk: SHA-256 over each block that is not all zeros, its number and its SHA-256."""
    return hashlib.sha256(b"".join(struct.pack(">Q32s", index, found[index]) for index in sorted(found))).hexdigest()


def runs(block: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the ranges of a block's pages that hold data: first byte and end."""
    start = -1
    for at in range(0, BLOCK, PAGE):
        # No copy: startswith compares in place.
        if _PAGE.startswith(block[at : at + PAGE]):
            if start >= 0:
                yield start, at
            start = -1
        elif start < 0:
            start = at
    if start >= 0:
        yield start, BLOCK


class Volume:
    """A volume that is open for reading and writing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._past = self._direct(os.O_WRONLY)
        self.size = os.lseek(self._fd, 0, os.SEEK_END)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)
        if self._past is not None:
            os.close(self._past)

    def read(self, count: int, at: int) -> bytes:
        """Return ``count`` bytes, fewer at the end."""
        return os.pread(self._fd, count, at)

    def write(self, data: bytes | memoryview, at: int) -> None:
        """Write all of ``data``."""
        left = memoryview(data)
        while left:
            count = os.pwrite(self._fd, left, at)
            left, at = left[count:], at + count

    def store(self, data: memoryview, at: int) -> bool:
        """Write all of ``data``, which is aligned to pages; return whether some of it may still be in the cache.

        What is large goes straight to the device: the kernel need not copy it, keep it and bring it there later. What
        is small is left to the kernel, which puts many of them together.
        """
        left = data
        try:
            while self._past is not None and len(left) >= _LARGE:
                count = os.pwrite(self._past, left, at)
                left, at = left[count:], at + count
        except OSError as error:
            if error.errno != errno.EINVAL:  # which is said of a device that wants another alignment
                raise
        self.write(left, at)
        return bool(left)

    def flush(self) -> None:
        """Bring what was written to the volume, and forget it: what is read from now on comes from there."""
        os.fsync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def begin(self, at: int, count: int) -> None:
        """Let the kernel begin to write a range."""
        os.posix_fadvise(self._fd, at, count, os.POSIX_FADV_DONTNEED)

    def settle(self) -> None:
        """Wait until what was written so far is on the volume."""
        os.fdatasync(self._fd)

    def scour(self, reach: int, count: Callable[[int], None]) -> int:
        """Make zeros of the first ``reach`` bytes where they are not; return how many bytes were written."""
        written = 0
        for at in range(0, min(reach, self.size), BLOCK):
            block = self.read(BLOCK, at)
            for start, end in runs(memoryview(block.ljust(BLOCK, b"\0"))):
                length = min(end, self.size - at) - start
                self.write(_ZEROS[:length], at + start)
                written += length
            count(at + BLOCK)
        return written

    def digests(self, indexes: Iterable[int], count: Callable[[int], None]) -> dict[int, bytes]:
        """Return the SHA-256 of those of the blocks ``indexes`` that are not all zeros."""
        found: dict[int, bytes] = {}
        direct = self._direct(os.O_RDONLY)
        number = self._fd if direct is None else direct

        def work(index: int, block: mmap.mmap) -> None:
            filled = os.preadv(number, [block], index * BLOCK)
            if filled < BLOCK:
                block[filled:] = bytes(BLOCK - filled)
            digest = hashlib.sha256(block).digest()
            if digest != _ZERO_SHA256:
                found[index] = digest

        crew = _Crew(work)
        try:
            for done, index in enumerate(indexes):
                crew.put(index, crew.take())
                count(done * BLOCK)
            crew.finish()
        finally:
            crew.stop()
            if direct is not None:
                os.close(direct)
        return found

    def _direct(self, way: int) -> int | None:
        """Return a number under which the volume is read or written past the cache; None where it cannot be."""
        try:
            return os.open(self._path, way | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:  # not every file system can
            return None


class _Crew:
    """Threads that do one thing with blocks, in buffers of which there are so many and no more."""

    def __init__(self, work: Callable[[int, mmap.mmap], None]) -> None:
        self._work = work
        self._free: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
        self._todo: queue.SimpleQueue[tuple[int, mmap.mmap] | None] = queue.SimpleQueue()
        self._error: Exception | None = None
        for _ in range(_BUFFERS):
            self._free.put(mmap.mmap(-1, BLOCK))  # aligned, as reading and writing past the cache want it
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(_WORKERS)]
        for thread in self._threads:
            thread.start()

    def take(self) -> mmap.mmap:
        """Return a free buffer; raise what went wrong in a thread."""
        buffer = self._free.get()
        if self._error is not None:
            raise self._error
        return buffer

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back."""
        self._free.put(buffer)

    def put(self, index: int, buffer: mmap.mmap) -> None:
        """Have the block ``index`` done."""
        self._todo.put((index, buffer))

    def finish(self) -> None:
        """Wait until all is done; raise what went wrong."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Wait until the threads have ended."""
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with suppress(OSError):  # it is quicker so; where it may not be, it goes without
            # On Linux it is this thread's priority, and nobody else's.
            os.setpriority(os.PRIO_PROCESS, 0, min(19, os.getpriority(os.PRIO_PROCESS, 0) + _NICE))
        while (task := self._todo.get()) is not None:
            try:
                if self._error is None:
                    self._work(*task)
            except OSError as error:
                self._error = Refusal("io", f"the volume: {error.strerror}")
            self._free.put(task[1])


class Pouring:
    """A disk that is being written. ``reach(bytes)`` is told how far, before anything is written there."""

    def __init__(self, volume: Volume, reach: Callable[[int], None]) -> None:
        self._volume = volume
        self._reach = reach
        self._reached = 0
        self._crew = _Crew(self._write)
        self.found: dict[int, bytes] = {}
        self.size = 0
        self.written = 0
        self._lock = threading.Lock()
        self._fresh: list[int] = []
        self._batches = 0
        self._settling = threading.Thread()
        self._failed: OSError | None = None

    def pour(self, stream: Stream) -> None:
        """Write the disk that ``stream`` is. Raises :class:`Refusal`."""
        index = 0
        buffer = self._crew.take()
        try:
            while True:
                holes = stream.hole() // BLOCK
                if holes:
                    stream.skip(holes * BLOCK)
                    index += holes
                filled = self._filled(stream, buffer)
                self.size = index * BLOCK + filled
                if self.size > self._volume.size:
                    raise Refusal("too-small", f"the volume has {self._volume.size} bytes, the disk has more")
                # Zeros are told here, where they are still in the processor's cache, and nobody else hears of them.
                if not _ZEROS.startswith(buffer):
                    self._announce()
                    self._crew.put(index, buffer)
                    buffer = self._crew.take()
                if filled < BLOCK:
                    break
                index += 1
            self._crew.finish()
        finally:
            self._crew.stop()
        if self._settling.is_alive():
            self._settling.join()
        if self._failed is not None:
            raise Refusal("io", f"the volume: {self._failed.strerror}")

    def _filled(self, stream: Stream, buffer: mmap.mmap) -> int:
        """Fill a buffer, with zeros behind the end; return the bytes that are the disk's."""
        with memoryview(buffer) as view:
            filled = stream.fill(view)
        # The footer of a VHD of fixed size is not of the disk.
        if filled < BLOCK and filled >= 512 and buffer[filled - 512 : filled - 504] == b"conectix":
            filled -= 512
        if filled < BLOCK:
            buffer[filled:] = bytes(BLOCK - filled)
        return filled

    def _announce(self) -> None:
        if self.size > self._reached:
            self._reached = self.size + _AHEAD
            self._reach(self._reached)

    def _write(self, index: int, block: mmap.mmap) -> None:
        at = index * BLOCK
        self.found[index] = hashlib.sha256(block).digest()
        count, cached = 0, False
        with memoryview(block) as view:
            for start, page_end in runs(view):
                end = min(page_end, self._volume.size - at)
                with view[start:end] as part:
                    cached |= self._volume.store(part, at + start)
                count += end - start
        with self._lock:
            self.written += count
            if not cached:
                return
            self._fresh.append(index)
            fresh = self._fresh
            if len(fresh) < _BATCH:
                return
            self._fresh = []
            self._batches += 1
            if self._batches % _FLUSHED == 0 and not self._settling.is_alive():
                self._settling = threading.Thread(target=self._settle, daemon=True)
                self._settling.start()
        self._volume.begin(min(fresh) * BLOCK, (max(fresh) + 1 - min(fresh)) * BLOCK)

    def _settle(self) -> None:
        try:
            self._volume.settle()
        except OSError as error:  # the kernel tells it once
            self._failed = error
