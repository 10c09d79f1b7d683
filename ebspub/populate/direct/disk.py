"""From the artefact to the disk in it: decompressed, taken out of a tar, read out of a container."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol

from ebspub.errors import EbspubError, JobError, VerificationError
from ebspub.populate.direct.download import Download
from ebspub.populate.direct.streams import Pulled, Raw, Served, Stream, unpacked
from ebspub.populate.imaging import container
from ebspub.populate.imaging.refusal import Refusal
from ebspub.source import formats
from ebspub.spec import JobSpec

_COPY: Final = 1024 * 1024
#: What is taken out of a tar at a time: see :mod:`ebspub.populate.imaging.streams`.
_SMALL: Final = 64 * 1024
#: What to do where a container is refused, by the code of the refusal.
_TODO: Final = {
    "bad-image": "Look at the source: it is damaged, or not what it begins like, or does not stand for itself.",
    "too-small": "Raise volume.size, then `ebspub run`.",
}


class Buffers(Protocol):
    """Where the buffers of blocks come from, and go back to."""

    def take(self) -> bytearray:
        """Return a buffer of a block's size."""

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""


@dataclass
class Disk:
    """A disk or a bare file system (``content``) as a stream of its bytes, and the artefact it comes from.

    ``size``: its bytes, as soon as all of it was read.
    """

    stream: Stream
    content: str
    download: Download
    size: int = 0

    def blocks(self, size: int, buffers: Buffers) -> Iterator[tuple[int, bytearray]]:
        """Yield each block of ``size`` bytes that is no hole: its index and a buffer, filled up with zeros.

        The buffers are the caller's to give back. The footer of a fixed-size VHD, not of the disk, is left out.
        """
        stream, index = self.stream, 0
        while True:
            holes = stream.hole() // size
            if holes:
                stream.skip(holes * size)
                index += holes
            buffer = buffers.take()
            try:
                filled = _fill(stream, buffer)
            except BaseException:
                buffers.give(buffer)
                raise
            if buffer[max(0, filled - 512) : filled].startswith(b"conectix") and filled < size:
                filled = max(0, filled - 512)
            self.size = index * size + filled
            buffer[filled:] = bytes(size - filled)
            if filled == 0:
                buffers.give(buffer)
                return
            yield index, buffer
            index += 1
            if filled < size:
                return

    def prove(self, spec: JobSpec) -> str:
        """Take the artefact to its end and return its SHA-256. Raises VerificationError where it is not the one."""
        self.stream.finish()
        _compare(spec, self.download)
        return self.download.sha256


def accuse(spec: JobSpec, download: Download) -> None:
    """Raise VerificationError where an artefact that cannot be used is not the one that was published."""
    try:
        download.drain()
    except (EbspubError, ValueError):  # ValueError: another thread still waits for the network in it
        return
    _compare(spec, download)


def opened(spec: JobSpec, download: Download, folder: Path, alive: Callable[[], None]) -> Disk:
    """Return the disk in the artefact. ``alive`` raises where the work is to stop. Raises EbspubError.

    ``folder``: where a format that needs random access is put meanwhile, in files without a name.
    """
    stream: Stream = Pulled(download.pieces)
    try:
        content = formats.kind(stream.head(formats.LOOK))
        if content in formats.COMPRESSED:
            stream = unpacked(stream, content)
            content = formats.kind(stream.head(formats.LOOK))
        if content == "tar":
            stream = _member(stream)
            content = formats.kind(stream.head(formats.LOOK))
        if content in formats.CONTAINERS:
            stream = _served(stream, content, spec, download, folder, alive)
            content = formats.kind(stream.head(formats.LOOK))
        _acceptable(spec, content)
    except BaseException:
        stream.close()
        raise
    return Disk(stream, content, download)


def _acceptable(spec: JobSpec, content: str) -> None:
    found = formats.Format("", "", content)
    why = formats.refusal("direct", spec.registration.virtualization, found)
    if why or content not in ("disk", "filesystem"):
        raise JobError(
            f"the source {spec.source.url}: {why or 'it holds nothing that is known as a disk'}",
            todo="Name another artefact or method, then `ebspub run`.",
            code="bad-image",
        )


def _compare(spec: JobSpec, download: Download) -> None:
    wanted = spec.source.sha256
    if wanted is not None and download.sha256 != wanted.lower():
        raise VerificationError(
            f"{spec.job_id}: the source {spec.source.url} has the SHA-256 {download.sha256}, not {wanted.lower()}",
            todo="It was tampered with, cut off, or replaced: nothing of it is registered. Look at the source.",
            code="checksum",
        )


class _Member(Pulled):
    """The image in a tar; its end is the tar's, which must hold no second image."""

    def __init__(self, tar: tarfile.TarFile, member: tarfile.TarInfo, outer: Stream) -> None:
        self._tar = tar
        self._name = member.name
        self._outer = outer
        super().__init__(self._content(member))

    def _content(self, member: tarfile.TarInfo) -> Iterator[bytes]:
        file = self._tar.extractfile(member)
        assert file is not None
        with _sound_tar():
            while piece := file.read(_SMALL):
                yield piece

    def finish(self) -> None:
        super().finish()
        with _sound_tar():
            more = _images(self._tar)
        if more is not None:
            raise JobError(
                f"the source holds more than one image: {self._name} and {more.name}",
                todo="Name an artefact with one.",
                code="bad-image",
            )
        self._outer.finish()

    def close(self) -> None:
        self._outer.close()


@contextmanager
def _sound_tar() -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        todo = "Look at the source: it is damaged or cut off."
        raise JobError(f"the source is no sound tar: {error}", todo=todo, code="bad-image") from error


def _member(stream: Stream) -> Stream:
    with _sound_tar():
        # There is nothing to close: a stream that is only read.
        tar = tarfile.open(  # noqa: SIM115
            fileobj=io.BufferedReader(Raw(stream), _SMALL), mode="r|", bufsize=_SMALL
        )
        found = _images(tar)
    if found is None:
        raise JobError(
            f"the source is a tar without an image ({' or '.join(formats.IMAGES)}) in it",
            todo='Name another artefact, or use method = "filesystem" for a tree of files.',
            code="bad-image",
        )
    return _Member(tar, found, stream)


def _images(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """Return the next member that is an image."""
    while (member := tar.next()) is not None:
        if member.isreg() and member.name.endswith(formats.IMAGES):
            return member
    return None


def _served(
    stream: Stream, content: str, spec: JobSpec, download: Download, folder: Path, alive: Callable[[], None]
) -> Stream:
    """Return the disk in a container that needs random access: the whole is kept and proved first, then read."""
    if program := container.missing():
        raise JobError(
            f"the source is {content}, and this host has no {program}",
            todo=f"Install {program} (qemu-utils) on this host, then `ebspub resume`.",
            code="no-decoder",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - the stream that is returned closes it
    try:
        _room(folder, download.total, spec)
        piece = memoryview(bytearray(_COPY))
        while got := stream.readinto(piece):
            alive()
            left = piece[:got]
            while left:
                left = left[whole.write(left) :]
        stream.finish()
        _compare(spec, download)
        return Served(_container(whole, content, spec, folder, alive), whole, stream)
    except BaseException:
        whole.close()
        raise


def _container(
    whole: IO[bytes], content: str, spec: JobSpec, folder: Path, alive: Callable[[], None]
) -> container.Container:
    # The shell that starts the server has no use for small numbers but its own.
    number = fcntl.fcntl(whole, fcntl.F_DUPFD_CLOEXEC, 10)
    try:
        volume = spec.volume.size * 1024**3
        return container.Container(f"/dev/fd/{number}", content, str(folder), volume, (number,), alive)
    except Refusal as error:
        raise JobError(
            f"the source {spec.source.url}: {error.message}", todo=_TODO[error.code], code=error.code
        ) from error
    finally:
        os.close(number)


def _room(folder: Path, needed: int, spec: JobSpec) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise JobError(
            f"{spec.job_id}: {folder} has {free} bytes free, and {needed} are needed to keep the source",
            todo="Free disk space or move the state folder, then `ebspub resume`; raw images need none.",
            code="no-room",
        )


def _fill(stream: Stream, buffer: bytearray) -> int:
    filled = 0
    with memoryview(buffer) as view:
        while filled < len(buffer) and (got := stream.readinto(view[filled:])):
            filled += got
    return filled
