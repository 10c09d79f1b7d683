"""What an artefact is, by its first bytes and never by its name; and which method takes what.

Runs on the publisher when a job is planned, and on builders: nothing but Python 3.8's own library is used here.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Final, NamedTuple

#: Bytes of an artefact that are looked at: enough for a tar's first names, and for btrfs (64 KiB) after decompression.
HEAD: Final = 1024 * 1024
#: Bytes of what is inside that tell: btrfs has its superblock at 64 KiB.
LOOK: Final = 66 * 1024
COMPRESSED: Final = ("gzip", "xz", "zstd", "bzip2")
#: What takes QEMU's tools to be read as a raw disk, by their names of them.
CONTAINERS: Final[dict[str, str]] = {"qcow2": "qcow2", "vmdk": "vmdk", "vhd": "vpc"}
#: Names of images in a tar.
IMAGES: Final = (".img", ".raw", ".qcow2", ".vmdk", ".vhd")

_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"BZh", "bzip2"),
    (0, b"QFI\xfb", "qcow2"),
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk descriptor"),
    (0, b"conectix", "vhd"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"hsqs", "squashfs"),
    # A file system may begin with a boot sector's mark (extlinux), so that it comes before the disk.
    (1080, b"\x53\xef", "filesystem"),
    (0, b"XFSB", "filesystem"),
    (65600, b"_BHRfS_M", "filesystem"),
    (512, b"EFI PART", "disk"),
    (257, b"ustar", "tar"),
)
_NAMES: Final = {
    "disk": "a whole disk",
    "filesystem": "a bare file system",
    "squashfs": "a squashfs",
    "tree": "a tree of files",
    "qcow2": "a qcow2 disk",
    "vmdk": "a VMDK disk",
    "vhd": "a VHD disk",
    "vhdx": "a VHDX disk",
    "vmdk descriptor": "the descriptor of a VMDK disk",
    "unknown": "unknown data",
    "empty": "nothing",
}
#: What no method takes, and why or what to do.
_NEVER: Final = {
    "vhdx": "which no method takes; convert it: qemu-img convert -O qcow2",
    "vmdk descriptor": (
        "which holds no data: that lies in other files; make one of them: qemu-img convert -O vmdk (or -O qcow2)"
    ),
    "unknown": "nothing that is known as a disk, a file system, or an archive of one",
}
_DISKS: Final = ("disk", "qcow2", "vmdk", "vhd")
_TREES: Final = ("filesystem", "squashfs", "tree")


class Format(NamedTuple):
    """What an artefact is. ``content``: of :data:`_NAMES`; empty where its first bytes do not tell."""

    compression: str
    archive: str
    content: str

    def __str__(self) -> str:
        wrapped = [word for word in (self.compression, self.archive) if word]
        name = _NAMES.get(self.content) or "unknown data"
        return f"{name} ({' of '.join(wrapped)})" if wrapped else name


def kind(head: bytes) -> str:
    """Return what data is that begins with ``head``, by itself: what is in a compressed file is not looked at."""
    if not head:
        return "empty"
    for at, magic, name in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return name
    return "disk" if _has_mbr(head) else "unknown"


class Inside(NamedTuple):
    """What is in an artefact, out of all that is around it: its first bytes, and how many it has, None if untold."""

    format: Format
    begin: bytes
    size: int | None


def recognise(head: bytes, unzstd: Callable[[bytes, int], bytes | None] | None = None) -> Format:
    """Return what an artefact is that begins with ``head``, as :func:`opened`."""
    return opened(head, unzstd=unzstd).format


def opened(head: bytes, size: int | None = None, unzstd: Callable[[bytes, int], bytes | None] | None = None) -> Inside:
    """Return what is in an artefact of ``size`` bytes that begins with ``head`` (:data:`HEAD` bytes, or all there are).

    ``unzstd`` looks into zstd, which no library of Python 3.8's does: of the first bytes it returns what they hold, at
    most so many bytes, or None where nothing here unpacks it.
    """
    compression = archive = ""
    content = kind(head)
    if content in COMPRESSED:
        compression, size = content, None
        head = _opened(head, compression, unzstd) or b""
        content = kind(head)
        if content in COMPRESSED:  # twice is not meant
            content = "unknown"
        elif content == "empty" or (content == "unknown" and len(head) < LOOK):
            content = ""
    if content == "tar":
        archive = content
        content, head, size = _in_tar(head)
    return Inside(Format(compression, archive, content), head, size)


def refusal(method: str, virtualization: str, found: Format) -> str | None:
    """Return why ``method`` cannot publish what was found, and what can; None where it can, or nobody knows yet.

    ``unknown`` is what is known to nobody: builders look for nothing else than is looked for here.

    ``filesystem`` copies a tree, ``disk`` and ``direct`` write a disk as it is. A bare file system is a disk to
    paravirtual instances, whose kernel comes from outside; an hvm instance finds no boot loader in it.
    """
    if found.content in _NEVER:
        return f"the artefact is {found}, {_NEVER[found.content]}"
    if method == "filesystem":
        if found.content in _DISKS:
            return f'the artefact is {found}, and filesystem copies trees; publish it by "disk" or "direct"'
    elif found.content == "filesystem" and virtualization == "hvm":
        return f'the artefact is {found}, which an hvm instance cannot boot; publish it by "filesystem"'
    elif found.content in ("squashfs", "tree"):
        return f'the artefact is {found}, and {method} writes whole disks; publish it by "filesystem"'
    return "the artefact is empty" if found.content == "empty" else None


def _has_mbr(head: bytes) -> bool:
    """Return whether there is a partition table of the BIOS; a boot sector of FAT carries the same mark."""
    if head[510:512] != b"\x55\xaa":
        return False
    entries = [struct.unpack_from("<B3xB3xII", head, 446 + 16 * number) for number in range(4)]
    return all(status in (0, 0x80) for status, *_ in entries) and any(
        type_ and start and sectors for _, type_, start, sectors in entries
    )


def _opened(head: bytes, compression: str, unzstd: Callable[[bytes, int], bytes | None] | None) -> bytes | None:
    """Return what the first bytes of compressed data hold, at most :data:`HEAD` bytes; None where that is not known."""
    try:
        if compression == "gzip":
            return zlib.decompressobj(31).decompress(head, HEAD)
        if compression == "xz":
            return lzma.LZMADecompressor().decompress(head, HEAD)
        if compression == "bzip2":
            return bz2.BZ2Decompressor().decompress(head, HEAD)
        if unzstd is not None:
            return unzstd(head, HEAD)
    except (zlib.error, lzma.LZMAError, OSError):
        pass
    return None


def _in_tar(head: bytes) -> tuple[str, bytes, int | None]:
    """Return what a tar is for: an image's content, its first bytes and its size; ``tree``; or that it is not told."""
    at, tops = 0, set()
    while at + 512 <= len(head) and head[at] != 0:
        size, name, type_ = (
            _size(head[at + 124 : at + 136]),
            head[at : at + 100].rstrip(b"\0"),
            head[at + 156 : at + 157],
        )
        if size is None:
            return "", b"", None
        path = name.decode("utf-8", "replace")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if type_ in b"0\0" and path.endswith(IMAGES) and len(parts) <= 2:
            inner = head[at + 512 : at + 512 + size]
            content = kind(inner) if len(inner) >= min(size, LOOK) else ""
            # A tree may hold files of such names, too: what is not known as a disk is not known to be meant.
            told = content in _NAMES and content not in ("unknown", "empty")
            return content if told else "", inner, size
        if parts and type_ in b"0125\0":
            tops.add(parts[0])
        if len(tops & {"etc", "usr", "var", "bin", "boot", "lib", "sbin"}) >= 2:
            return "tree", b"", None
        at += 512 + -(-size // 512) * 512
    return "", b"", None


def _size(field: bytes) -> int | None:
    """Return a member's size: octal digits, or base 256 where they would not do."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return None
