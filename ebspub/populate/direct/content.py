"""What bytes are, by what they begin with."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Content(StrEnum):
    """What the direct method finds; what it cannot take is UNKNOWN."""

    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    TAR = "tar"
    QCOW2 = "qcow2"
    VMDK = "vmdk"
    VHD = "vhd"
    DISK = "disk"
    FILESYSTEM = "filesystem"
    SQUASHFS = "squashfs"
    UNKNOWN = "unknown"


COMPRESSED: Final = frozenset({Content.GZIP, Content.XZ, Content.ZSTD, Content.BZIP2})
#: What qemu-img must turn into a raw disk, by its names of them.
CONTAINERS: Final = {Content.QCOW2: "qcow2", Content.VMDK: "vmdk", Content.VHD: "vpc"}
#: Bytes that tell: btrfs has its superblock at 64 KiB.
HEAD: Final = 66 * 1024

_MAGIC: Final[tuple[tuple[int, bytes, Content], ...]] = (
    (0, b"\x1f\x8b", Content.GZIP),
    (0, b"\xfd7zXZ\0", Content.XZ),
    (0, b"\x28\xb5\x2f\xfd", Content.ZSTD),
    (0, b"BZh", Content.BZIP2),
    (0, b"QFI\xfb", Content.QCOW2),
    (0, b"KDMV", Content.VMDK),
    (0, b"conectix", Content.VHD),
    (0, b"hsqs", Content.SQUASHFS),
    # A file system may begin with a boot sector's mark (extlinux), so that it comes before the disk.
    (1080, b"\x53\xef", Content.FILESYSTEM),
    (0, b"XFSB", Content.FILESYSTEM),
    (65600, b"_BHRfS_M", Content.FILESYSTEM),
    (257, b"ustar", Content.TAR),
    (510, b"\x55\xaa", Content.DISK),
)


def recognise(head: bytes) -> Content:
    """Return what begins with ``head`` (:data:`HEAD` bytes, or all there are)."""
    return next((kind for at, magic, kind in _MAGIC if head[at : at + len(magic)] == magic), Content.UNKNOWN)
