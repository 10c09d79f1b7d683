"""Run as a program on a mounted tree: plant hard cases into it, or describe all of it as JSON.

Names are bytes, because not all of them are text; that is why this works with `os` and not with paths.
"""

# ruff: noqa: PTH102, PTH103, PTH101, PTH109

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

#: cap_net_raw=ep, as VFS_CAP_REVISION_2.
_CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
_NAMES = [
    b"new\nline",
    b"-rf",
    b"--help",
    b"'single' \"double\" `tick` $(id) $HOME ; & | * ?",
    b"back\\slash\\n",
    b"\xff\xfe not utf-8 \x80",
    "grüße-日本".encode(),
    b" leading and trailing ",
    b"x" * 255,
    b"tab\tand\x01control\x7f",
]


def plant(root: bytes) -> None:
    """Make one of everything that a careless copy loses."""
    for number, name in enumerate(_NAMES):
        path = os.path.join(root, name)
        Path(os.fsdecode(path)).write_bytes(name * 10)
        os.utime(path, ns=(1_000_000_000_000_000_000 + number, 1_100_000_000_123_456_789 + number))
    os.mkdir(os.path.join(root, b"dir\nwith -rf"))
    os.mkdir(os.path.join(root, b"empty"), 0o700)
    deep = os.path.join(root, *[b"deep" * 20] * 8)
    os.makedirs(deep)
    _links(root)
    _special(root)
    _attributes(root)
    with open(os.path.join(root, b"sparse"), "wb") as file:
        file.truncate(20 << 20)
        file.seek(10 << 20)
        file.write(b"in the middle" * 1000)
    for number in range(300):
        with open(os.path.join(deep, b"%d" % number), "wb") as file:
            file.write(os.urandom(number * 20))
    big = os.path.join(root, b"big")
    with open(big, "wb") as file:
        file.write(os.urandom(6 << 20))
    os.chown(root, 0, 7)
    os.chmod(root, 0o751)
    os.utime(os.path.join(root, b"empty"), ns=(1, 946_684_800_000_000_001))
    os.utime(root, ns=(1, 1_287_532_800_987_654_321))


def _links(root: bytes) -> None:
    first = os.path.join(root, b"first")
    Path(os.fsdecode(first)).write_bytes(b"two names")
    os.link(first, os.path.join(root, b"dir\nwith -rf", b"second"))
    os.link(first, os.path.join(root, b"-third"))
    os.symlink(b"/nowhere/\xff\nelse -> x", os.path.join(root, b"dangling"))
    os.symlink(b"first", os.path.join(root, b"-link"))
    os.link(os.path.join(root, b"-link"), os.path.join(root, b"link twice"), follow_symlinks=False)
    os.utime(os.path.join(root, b"dangling"), ns=(5, 1_234_567_890_000_000_007), follow_symlinks=False)


def _special(root: bytes) -> None:
    os.mkfifo(os.path.join(root, b"fifo"), 0o622)
    os.mknod(os.path.join(root, b"char"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(os.path.join(root, b"block"), stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.chown(os.path.join(root, b"block"), 0, 6)
    with socket.socket(socket.AF_UNIX) as bound:
        here = os.getcwd()
        os.chdir(root)
        bound.bind("socket")
        os.chdir(here)
    for name, mode, owner in ((b"setuid", 0o4755, 0), (b"setgid", 0o2751, 12), (b"sticky", 0o1777, 70000)):
        path = os.path.join(root, name)
        Path(os.fsdecode(path)).write_bytes(b"#!/bin/sh\n")
        os.chown(path, owner, owner)
        os.chmod(path, mode)
    path = os.path.join(root, b"huge-ids")
    Path(os.fsdecode(path)).write_bytes(b"")
    os.chown(path, 4_000_000_000, 4_000_000_001)
    os.chmod(path, 0)


def _attributes(root: bytes) -> None:
    first = os.path.join(root, b"first")
    os.setxattr(first, b"user.comment", b"\x00binary\n\xff")
    os.setxattr(first, b"trusted.secret", b"only root")
    os.setxattr(os.path.join(root, b"setuid"), b"security.capability", _CAPABILITY)
    os.setxattr(os.path.join(root, b"new\nline"), b"user.x", b"y")
    listed = os.path.join(root, b"with-acl")
    Path(os.fsdecode(listed)).write_bytes(b"acl")
    subprocess.run([b"setfacl", b"-m", b"u:1234:rw,g:99:r", listed], check=True)
    subprocess.run([b"setfacl", b"-d", b"-m", b"u:77:rwx", os.path.join(root, b"empty")], check=True)


def describe(root: bytes) -> dict[str, list[object]]:
    """Return for every path what can be said of it; hard links as the first of their names."""
    names: dict[int, str] = {}
    tree: dict[str, list[object]] = {}
    for path in sorted(_walk(root)):
        found = os.lstat(path)
        name = os.fsdecode(path[len(root) :]).encode("utf-8", "surrogateescape").hex()
        first = names.setdefault(found.st_ino, name)
        is_dir, is_file = stat.S_ISDIR(found.st_mode), stat.S_ISREG(found.st_mode)
        content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest() if is_file else ""
        attributes = {
            key: os.getxattr(path, key, follow_symlinks=False).hex()
            for key in sorted(os.listxattr(path, follow_symlinks=False))
        }
        tree[name] = [
            oct(found.st_mode),
            [found.st_uid, found.st_gid, found.st_nlink, 0 if is_dir else found.st_size, found.st_mtime_ns],
            [os.major(found.st_rdev), os.minor(found.st_rdev)],
            os.readlink(path).hex() if stat.S_ISLNK(found.st_mode) else "",
            attributes,
            first,
            content,
        ]
        if is_file and found.st_size > 16 << 20:
            tree[name].append("sparse" if found.st_blocks * 512 < found.st_size // 4 else "full")
    return tree


def _walk(root: bytes) -> list[bytes]:
    return [root, *(os.path.join(at, name) for at, dirs, files in os.walk(root) for name in (*dirs, *files))]


if __name__ == "__main__":
    action, mountpoint = sys.argv[1], os.fsencode(sys.argv[2])
    if action == "plant":
        plant(mountpoint)
    else:
        sys.stdout.write(json.dumps(describe(mountpoint)))
