"""Two directory trees compared entry by entry: the proof that what was published equals its source.

:func:`snapshot` reads a directory (a mounted or unpacked file system), :func:`from_ext` reads an ext2/3/4
image without being root, :func:`mounted` mounts an image read-only so that :func:`snapshot` can read it, and
:func:`differences` tells in human lines how a published tree differs from its source.

What is compared: path (bytes), type, mode, owner, group, size, modification time in nanoseconds, hard-link
groups, link targets, device numbers, all extended attributes (``security.capability``, POSIX ACLs and, for
root, ``trusted.*``), holes, and content. What is not: ctime and atime (nobody can set a ctime), the size of
directories (it depends on their history), and the directory ``lost+found`` of a file system's root.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ebspub.errors import EbspubError

Tree = Mapping[bytes, "Entry"]
"""Entries by their path relative to the root (``b"."`` is the root itself)."""

_CHUNK = 64 * 1024
_IGNORED = {b"lost+found"}  # not what is in it: nothing is, unless something was lost
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class ImageError(EbspubError):
    """A file-system image or a tree cannot be made, mounted or read."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a tree. ``mode`` has the twelve permission bits only; sizes are bytes."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    size: int | None = None  # of files and symbolic links
    allocated: int | None = None  # of files: bytes that take room on the disk
    digest: str | None = None  # of files: see _digest
    target: bytes | None = None  # of symbolic links
    device: tuple[int, int] | None = None  # of device nodes: major, minor
    links: tuple[bytes, ...] = ()  # all paths of the same inode in this tree, if there is more than one


def differences(source: Tree, published: Tree) -> list[str]:
    """Return one line for every way in which ``published`` is not ``source``; none when they are equal.

    A file may take less room than its source (holes dug where there were zeros), but more only by a
    sixteenth of the source's allocation and 64 KiB: block maps, attribute blocks and block sizes differ
    between file systems. A sparse file that was inflated by more than that is a difference.
    """
    lines = [f"{_shown(path)}: missing" for path in source.keys() - published.keys() - _IGNORED]
    lines += [f"{_shown(path)}: not in the source" for path in published.keys() - source.keys() - _IGNORED]
    for path in (source.keys() & published.keys()) - _IGNORED:
        lines += [f"{_shown(path)}: {line}" for line in _entry_differences(source[path], published[path])]
    return sorted(lines)


def _entry_differences(a: Entry, b: Entry) -> Iterator[str]:
    if a.kind != b.kind:
        yield f"is a {b.kind} instead of a {a.kind}"
        return
    for word, was, now in (
        ("mode", f"{a.mode:04o}", f"{b.mode:04o}"),
        ("owner", a.uid, b.uid),
        ("group", a.gid, b.gid),
        ("size", a.size, b.size),
        ("modification time in ns", a.mtime_ns, b.mtime_ns),
        ("link target", _shown(a.target or b""), _shown(b.target or b"")),
        ("device number", a.device, b.device),
        ("hard links", [*map(_shown, a.links)], [*map(_shown, b.links)]),
    ):
        if was != now:
            yield f"{word} is {now} instead of {was}"
    if a.digest != b.digest:
        yield "content differs"
    if a.allocated is not None and b.allocated is not None and b.allocated > a.allocated * 17 // 16 + 64 * 1024:
        yield f"holes were filled: takes {b.allocated} bytes on the disk instead of {a.allocated}"
    was_x, now_x = dict(a.xattrs), dict(b.xattrs)
    for name in sorted(was_x.keys() | now_x.keys()):
        if was_x.get(name) != now_x.get(name):
            yield f"attribute {_shown(name)} is {now_x.get(name)!r} instead of {was_x.get(name)!r}"


def _shown(name: bytes) -> str:
    """Return ``name`` on one line, whatever is in it."""
    return repr(name)[2:-1]


def snapshot(root: Path) -> Tree:
    """Read the tree below ``root``, without crossing into other file systems.

    Only root sees everything (``trusted.*``, files of others). Raises :class:`ImageError` for what cannot
    be read. Paths may be longer than PATH_MAX; some hundred levels of directories are the limit.
    """
    tree: dict[bytes, Entry] = {}
    inodes: dict[bytes, int] = {}
    try:
        top = os.stat(root)
        tree[b"."] = _entry(os.fsencode(root) + b"/.", top)
        for here, folders, files, fd in os.fwalk(os.fsencode(root), onerror=_fail):
            prefix = here[len(os.fsencode(root)) :].lstrip(b"/")
            for name in [*folders, *files]:
                path, place = (prefix + b"/" + name).lstrip(b"/"), b"/proc/self/fd/%d/%s" % (fd, name)
                status = os.lstat(place)
                tree[path] = _entry(place, status)
                if not stat.S_ISDIR(status.st_mode):
                    inodes[path] = status.st_ino
                elif status.st_dev != top.st_dev:
                    folders.remove(name)
    except OSError as error:
        raise ImageError(f"{root} cannot be read: {error}", todo="Read it as root.") from error
    return _with_links(tree, inodes)


def _fail(error: OSError) -> None:
    raise error


def _entry(path: bytes, status: os.stat_result) -> Entry:
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = sorted((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names)
    mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    common = Entry(kind, mode, status.st_uid, status.st_gid, mtime, tuple(xattrs))
    if kind == "file":
        digest = _digest_of_file(path, status.st_size)
        return replace(common, size=status.st_size, allocated=status.st_blocks * 512, digest=digest)
    if kind == "symbolic link":
        return replace(common, size=status.st_size, target=os.readlink(path))
    if kind.endswith("device"):
        return replace(common, device=(os.major(status.st_rdev), os.minor(status.st_rdev)))
    return common


def _with_links(tree: dict[bytes, Entry], inodes: Mapping[bytes, int]) -> Tree:
    groups: dict[int, list[bytes]] = {}
    for path, inode in inodes.items():
        groups.setdefault(inode, []).append(path)
    for group in groups.values():
        for path in group if len(group) > 1 else ():
            tree[path] = replace(tree[path], links=tuple(sorted(group)))
    return tree


def _digest_of_file(path: bytes, size: int) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        return _digest(size, _data_ranges(fd, size), lambda length, offset: os.pread(fd, length, offset))
    finally:
        os.close(fd)


def _data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of what is not a hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _digest(size: int, ranges: Iterable[tuple[int, int]], read: Callable[[int, int], bytes]) -> str:
    """Return the SHA-256 of the chunks that are not all zero, each with its offset.

    So a hole and written zeros have one digest, and a sparse file of gigabytes is read in no time.
    ``ranges`` ascend; ``read(length, offset)`` returns content, zeros for holes.
    """
    sha = hashlib.sha256()
    done = 0
    for start, end in ranges:
        for offset in range(max(done, start // _CHUNK * _CHUNK), min(end, size), _CHUNK):
            data = read(min(_CHUNK, size - offset), offset)
            if data.count(0) != len(data):
                sha.update(offset.to_bytes(8, "little") + data)
            done = offset + _CHUNK
    return sha.hexdigest()


_MOUNT_OPTIONS = {"ext3": ",noload", "ext4": ",noload", "xfs": ",norecovery,nouuid"}
#: A program that another thread is about to start holds, for a moment, whatever this process had open there.
_HOLD = """mount -t "$1" -o "$2" -- "$3" /media || exit; echo mounted; cat
for _ in 1 2 3 4 5 6 7 8 9; do umount /media 2>/dev/null && exit; sleep 0.1; done; umount /media"""
_HOLD_MOUNT = ("unshare", "--mount", "--propagation", "private", "sh", "-c", _HOLD, "sh")


@contextmanager
def mounted(image: Path, *, offset: int = 0) -> Iterator[Path]:
    """Mount the file system that starts at byte ``offset`` of ``image`` read-only; yield its root. Needs root.

    The mount lives in a mount namespace of its own that a child holds as long as this process lives, so
    neither an exception nor SIGKILL leaves a mount or a loop device behind. The path yielded leads through
    ``/proc/<pid>/root``: do not resolve it. A journal is not replayed; an image that needs that is refused.
    """
    kind = _run("blkid", "-p", "-O", str(offset), "-s", "TYPE", "-o", "value", str(image)).decode().strip()
    if kind in ("ext3", "ext4"):
        _ext_header(_e2fs_name(image, offset), refused="needs_recovery")
    options = f"ro,loop,offset={offset}{_MOUNT_OPTIONS.get(kind, '')}"
    command, pipe = [*_HOLD_MOUNT, kind, options, str(image.resolve())], subprocess.PIPE
    # A session of its own: Ctrl-C is for this process, which then ends the child.
    child = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
    with child:
        ready = child.stdout is not None and child.stdout.readline() == b"mounted\n"
        if ready:
            yield Path(f"/proc/{child.pid}/root/media")
        complaint = child.communicate()[1].decode(errors="replace").strip()
        if child.returncode:
            raise ImageError(f"{image} {'is still in use' if ready else 'cannot be mounted'}: {complaint}")


def _run(*command: str) -> bytes:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip() or f"exit status {done.returncode}"
        raise ImageError(f"{command[0]} failed on {command[-1]}: {reason}")
    return done.stdout


_NAME = re.compile(rb"/(\d+)/(\d+)/\d+/\d+/([^/]+)/\d*/\n")
_HEAD = re.compile(rb"Inode: .*?\nUser: +(\d+) +Group: +(\d+).*?Size: (\d+)\n.*?Blockcount: (\d+)\n", re.DOTALL)
_MTIME = re.compile(rb"\n *mtime: 0x([0-9a-f]+)(?::([0-9a-f]+))? --")
_XATTR = re.compile(rb"  (.+) \((\d+)\)(?: = (.*))?")
_DEVICE = re.compile(rb"Device major/minor number: (\d+):(\d+) ")
_EXTENT = re.compile(rb"\((\d+)(?:-(\d+))?(\[u\])?\):(\d+)")
_TABLE = re.compile(rb"\n(?:EXTENTS|BLOCKS):\n")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"v": b"\v", b"a": b"\a"}
_FAST_LINK = b'\nFast link dest: "'


def from_ext(image: Path, *, offset: int = 0) -> Tree:
    """Read the ext2/3/4 file system at byte ``offset`` of ``image`` without mounting it, as any user.

    The result is what :func:`snapshot` of the mounted image returns to root. Not understood, and refused:
    inline data and encryption (no image of ours has them).
    """
    name = _e2fs_name(image, offset)
    header = _ext_header(name, refused="needs_recovery|inline_data|encrypt")
    block_size = int(header.partition("Block size:")[2].split()[0])
    paths = ext_inodes(name)
    modes = dict(paths.values())
    with image.open("rb") as file:
        reader = _ExtReader(name, file.fileno(), offset, block_size)
        texts = zip(modes, _debugfs(name, "stat", list(modes)), strict=True)
        entries = {inode: reader.entry(inode, modes[inode], text) for inode, text in texts}
    tree = {path: entries[inode] for path, (inode, _) in paths.items()}
    return _with_links(tree, {path: inode for path, (inode, mode) in paths.items() if not stat.S_ISDIR(mode)})


def _e2fs_name(image: Path, offset: int) -> str:
    return f"{image}?offset={offset}" if offset else str(image)


def _ext_header(image: str, *, refused: str) -> str:
    header = _run("dumpe2fs", "-h", image).decode(errors="replace")
    if found := re.search(rf"features:.*\b({refused})\b", header):
        raise ImageError(f"{image} cannot be compared: its file system has '{found[1]}'", todo="Run e2fsck on a copy.")
    return header


def ext_inodes(image: str) -> dict[bytes, tuple[int, int]]:
    """Return (inode, mode with type) of each path of an ext image, named as e2fsprogs wants it."""
    inodes: dict[bytes, tuple[int, int]] = {}
    level = {2: b""}  # the root
    while level:
        deeper: dict[int, bytes] = {}
        for prefix, listing in zip(level.values(), _debugfs(image, "ls -p", list(level)), strict=True):
            for inode, mode, name in _NAME.findall(listing):
                path = prefix + name
                if path == b"." or name not in (b".", b".."):
                    inodes[path] = int(inode), int(mode, 8)
                    if stat.S_ISDIR(int(mode, 8)) and path != b".":
                        deeper[int(inode)] = path + b"/"
        level = deeper
    return inodes


def _debugfs(image: str, command: str, inodes: list[int]) -> list[bytes]:
    """Return what ``command`` prints for each of ``inodes``."""
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as script:
        script.writelines(f"{command} <{inode}>\n" for inode in inodes)
        script.flush()
        output = _run("debugfs", "-f", script.name, image)
    return re.split(rb"^debugfs: %s <\d+>\n" % command.encode(), output, flags=re.MULTILINE)[1:]


@dataclass(frozen=True, slots=True)
class _ExtReader:
    """Makes entries from what debugfs says of an inode, and reads content from the image itself."""

    image: str
    fd: int
    offset: int
    block_size: int

    def entry(self, inode: int, mode: int, text: bytes) -> Entry:
        head, mtime = _HEAD.match(text), _MTIME.search(text)
        if not (head and mtime):
            raise ImageError(f"debugfs did not understand inode {inode} of {self.image}: {text[:200]!r}")
        kind, (uid, gid, size, blocks) = _KINDS[stat.S_IFMT(mode)], map(int, head.groups())
        common = Entry(kind, stat.S_IMODE(mode), uid, gid, _ext_time(mtime), self.xattrs(inode, text))
        if kind == "file":
            maps = self.maps(text)
            digest = _digest(size, [(start, end) for start, end, _ in maps], lambda n, at: self.read(maps, n, at))
            return replace(common, size=size, allocated=blocks * 512, digest=digest)
        if kind == "symbolic link":
            _, fast, target = text.partition(_FAST_LINK)
            return replace(common, size=size, target=target[:size] if fast else self.read(self.maps(text), size, 0))
        device = _DEVICE.search(text)
        return replace(common, device=(int(device[1]), int(device[2]))) if device else common

    def xattrs(self, inode: int, text: bytes) -> tuple[tuple[bytes, bytes], ...]:
        _, found, rest = text.partition(b"\nExtended attributes:\n")
        attributes: list[tuple[bytes, bytes]] = []
        for line in rest.splitlines() if found else ():
            match = _XATTR.fullmatch(line)
            if match is None:
                break
            shown, length, value = match[1], int(match[2]), match[3] or b""
            name, data = _unescaped(shown), b""
            if value.startswith(b'"'):
                data = _unescaped(value[1:-1])
            elif length:
                data = bytes.fromhex(value.decode()) if value else self.long_xattr(inode, name)
            attributes.append((name, _kernel_acl(data) if name.startswith(b"system.posix_acl_") else data))
        return tuple(sorted(attributes))

    def long_xattr(self, inode: int, name: bytes) -> bytes:
        """Return a value that ``stat`` leaves out because it is long."""
        with tempfile.NamedTemporaryFile() as value:
            _run("debugfs", "-R", f'ea_get -f {value.name} <{inode}> "{os.fsdecode(name)}"', self.image)
            return value.read()

    def maps(self, text: bytes) -> list[tuple[int, int, int]]:
        """Return (start, end, place) in bytes for each run of blocks of a file, ascending; place is in the image."""
        size, table = self.block_size, _TABLE.split(text)[-1]
        return sorted(
            (int(first) * size, (int(last or first) + 1) * size, int(place) * size + self.offset)
            for first, last, unwritten, place in _EXTENT.findall(table)
            if not unwritten
        )

    def read(self, maps: list[tuple[int, int, int]], length: int, offset: int) -> bytes:
        data = bytearray(length)
        for start, end, place in maps[max(0, bisect_right(maps, offset, key=lambda run: run[0]) - 1) :]:
            if start >= offset + length:
                break
            first, last = max(start, offset), min(end, offset + length)
            if first < last:
                data[first - offset : last - offset] = os.pread(self.fd, last - first, place + first - start)
        return bytes(data)


def _ext_time(match: re.Match[bytes]) -> int:
    """Return nanoseconds: 32 signed bits of seconds, and 30 bits of nanoseconds above 2 more bits of seconds."""
    low, extra = int(match[1], 16), int(match[2] or b"0", 16)
    seconds = (low - 2**32 if low >= 2**31 else low) + ((extra & 3) << 32)
    return seconds * 10**9 + (extra >> 2)


def _kernel_acl(stored: bytes) -> bytes:
    """Return an ACL as the kernel shows it: version 2, and every entry has an id."""
    result, at = b"\x02\x00\x00\x00", 4
    while at < len(stored):
        named = stored[at] in (0x02, 0x08)  # a user or a group with an id
        result += stored[at : at + 4] + (stored[at + 4 : at + 8] if named else b"\xff" * 4)
        at += 8 if named else 4
    return result


def _unescaped(text: bytes) -> bytes:
    """Undo the escapes of debugfs, those of a C string."""
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 8)]) if len(m[1]) == 3 else _ESCAPED.get(m[1], m[1]), text)
