"""From the artefact to the disk in it: decompressed, taken out of a tar, turned into a raw disk where it must be."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

from ebspub.errors import EbspubError, JobError, VerificationError
from ebspub.populate.direct.download import Download
from ebspub.populate.direct.streams import Decoded, File, Inflated, Pulled, Stream
from ebspub.source import formats
from ebspub.spec import JobSpec

_COPY: Final = 1024 * 1024


@dataclass
class Disk:
    """A disk or a bare file system (``content``) as a stream of its bytes, and the artefact it comes from."""

    stream: Stream
    content: str
    download: Download

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
            stream = Inflated(stream) if content == "gzip" else Decoded(stream, content)
            content = formats.kind(stream.head(formats.LOOK))
        if content == "tar":
            stream = _member(stream)
            content = formats.kind(stream.head(formats.LOOK))
        if content in formats.CONTAINERS:
            stream = _converted(stream, content, spec, download, folder, alive)
            content = formats.kind(stream.head(formats.LOOK))
        _acceptable(spec, content)
    except BaseException:
        stream.close()
        raise
    return Disk(stream, content, download)


def _acceptable(spec: JobSpec, content: str) -> None:
    if content == "disk" or (content == "filesystem" and spec.registration.virtualization == "paravirtual"):
        return
    found = {
        "filesystem": "a bare file system, which an hvm instance cannot boot",
        "unknown": "nothing that is known as a disk",
    }.get(content, f"{content} data")
    raise JobError(
        f"the source {spec.source.url} holds {found}; the direct method takes whole disks "
        "(and bare file systems for paravirtual)",
        todo='Name another artefact, or use method = "filesystem".',
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


class _Bytes(io.RawIOBase):
    """A stream as a file that can only be read on."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.readinto(memoryview(buffer).cast("B"))


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
            while piece := file.read(_COPY):
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
            fileobj=io.BufferedReader(_Bytes(stream), _COPY), mode="r|", bufsize=_COPY
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


def _converted(
    stream: Stream, content: str, spec: JobSpec, download: Download, folder: Path, alive: Callable[[], None]
) -> Stream:
    """Return the raw disk in a container that needs random access: the whole is copied, proved and converted first."""
    if shutil.which("qemu-img") is None:
        raise JobError(
            f"the source is {content}, and this host has no qemu-img",
            todo="Install qemu-img (qemu-utils) on this host, then `ebspub resume`.",
            code="no-decoder",
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as whole:
        _room(folder, download.total, spec)
        piece = memoryview(bytearray(_COPY))
        while got := stream.readinto(piece):
            alive()
            whole.write(piece[:got])
        whole.flush()
        stream.finish()
        _compare(spec, download)
        size = _looked(whole, formats.CONTAINERS[content], spec, alive)
        _room(folder, size.allocated, spec)
        raw = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the stream that is returned closes it
        try:
            os.truncate(raw.fileno(), size.virtual)
            _qemu_img(
                [whole, raw], alive,
                "convert", "-n", "--target-is-zero", "-S", "64k", "-f", formats.CONTAINERS[content], "-O", "raw",
            )  # fmt: skip
            return _Raw(raw, stream)
        except BaseException:
            raw.close()
            raise


class _Raw(File):
    """A converted disk; the stream that it came from is at its end."""

    def __init__(self, file: IO[bytes], outer: Stream) -> None:
        super().__init__(file)
        self._outer = outer

    def finish(self) -> None:
        """All of it was proved before it was converted."""

    def close(self) -> None:
        super().close()
        self._outer.close()


@dataclass(frozen=True)
class _Size:
    virtual: int
    allocated: int


def _looked(whole: IO[bytes], kind: str, spec: JobSpec, alive: Callable[[], None]) -> _Size:
    """Return the sizes of the disk in a container that stands for itself: it must not name other files of this host."""
    info = json.loads(_qemu_img([whole], alive, "info", "--output=json", "-f", kind))
    # A container can name any file of this host as its backing or data file, and would publish it.
    format_specific = info.get("format-specific", {}).get("data", {})
    if info.get("backing-filename") or format_specific.get("data-file") or len(format_specific.get("extents", ())) > 1:
        raise JobError(f"the source names other files beside itself ({kind})", code="bad-image")
    volume = spec.volume.size * 1024**3
    if info["virtual-size"] > volume:
        raise JobError(
            f"the disk of {info['virtual-size']} bytes does not fit a volume of {volume} bytes",
            todo="Raise volume.size, then `ebspub run`.",
            code="too-small",
        )
    measured = json.loads(_qemu_img([whole], alive, "measure", "--output=json", "-O", "raw", "-f", kind))
    return _Size(info["virtual-size"], min(measured["required"], info["virtual-size"]))


def _room(folder: Path, needed: int, spec: JobSpec) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise JobError(
            f"{spec.job_id}: {folder} has {free} bytes free, and {needed} are needed to convert the source",
            todo="Free disk space or move the state folder, then `ebspub resume`; raw images need none.",
            code="no-room",
        )


def _qemu_img(files: list[IO[bytes]], alive: Callable[[], None], *words: str) -> bytes:
    numbers = [file.fileno() for file in files]
    command = ["qemu-img", *words, *(f"/dev/fd/{number}" for number in numbers)]
    with subprocess.Popen(command, pass_fds=numbers, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            told, said = _waited(process, alive)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        lines = said.decode("utf-8", "replace").strip().splitlines()
        raise JobError(
            f"qemu-img {words[0]}: {lines[-1] if lines else f'exit status {process.returncode}'}",
            todo="Look at the source: it is damaged, or not what it begins like.",
            code="bad-image",
        )
    return told


def _waited(process: subprocess.Popen[bytes], alive: Callable[[], None]) -> tuple[bytes, bytes]:
    while True:
        try:
            return process.communicate(timeout=0.2)
        except subprocess.TimeoutExpired:
            alive()


class Buffers(Protocol):
    """Where the buffers of blocks come from, and go back to."""

    def take(self) -> bytearray:
        """Return a buffer of a block's size."""

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""


def blocks(stream: Stream, size: int, buffers: Buffers) -> Iterator[tuple[int, bytearray]]:
    """Yield each block of ``size`` bytes that is no hole: its index and a buffer, filled up with zeros.

    The buffers are the caller's to give back. The footer of a fixed-size VHD, which is not of the disk, is left out.
    """
    index = 0
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
        buffer[filled:] = bytes(size - filled)
        if filled == 0:
            buffers.give(buffer)
            return
        yield index, buffer
        index += 1
        if filled < size:
            return


def _fill(stream: Stream, buffer: bytearray) -> int:
    filled = 0
    with memoryview(buffer) as view:
        while filled < len(buffer) and (got := stream.readinto(view[filled:])):
            filled += got
    return filled
