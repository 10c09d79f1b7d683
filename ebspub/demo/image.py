"""A small but real image for the demo, made without network from this machine's own files, and a server for it.

:func:`make_images` lays out what Ubuntu published in the days of lucid: a folder ``<suite>/<serial>/`` with
``<suite>-server-uec-<arch>.tar.gz`` for each arch and ``SHA256SUMS``. :func:`serve` offers a folder over HTTP
on the loopback interface. Nothing here needs root: what only root may make is written into the file system by
debugfs.

Needs the Debian packages ``e2fsprogs`` and, to be quick, ``pigz``.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from ebspub.demo.trees import ImageError, ext_inodes

Style = Literal["lucid", "modern"]


@dataclass(frozen=True, slots=True)
class _FileSystem:
    kind: str
    label: str
    features: str


_STYLES: dict[Style, _FileSystem] = {
    # What mkfs of 2010 made: no extents, no checksums, no 64-bit block numbers.
    "lucid": _FileSystem(
        "ext3",
        "uec-rootfs",
        "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file",
    ),
    "modern": _FileSystem("ext4", "cloudimg-rootfs", ""),
}

_FOLDERS = ("bin", "boot", "dev", "etc", "home", "lib", "proc", "root", "sbin", "srv", "sys", "tmp", "usr", "var/log")
_ETC = ("services", "protocols", "profile", "bash.bashrc", "mime.types", "debian_version", "login.defs", "deluser.conf")
_README = "These files are a demo of {suite} for {arch}: made here, good for nothing else.\n"


def make_images(
    folder: Path,
    *,
    suite: str = "lucid",
    serial: str = "20101020",
    arches: Sequence[str] = ("amd64", "i386"),
    style: Style = "lucid",
    content_mib: int = 24,
    size_mib: int = 128,
) -> Path:
    """Make ``<folder>/<suite>/<serial>/`` with a tarball per arch and SHA256SUMS; return that folder.

    ``style`` chooses the file system: ``lucid`` is ext3 labelled uec-rootfs with the features of 2010,
    ``modern`` is ext4 labelled cloudimg-rootfs. Each holds about ``content_mib`` of this machine's
    world-readable files and is ``size_mib`` big. Raises :class:`ImageError`.
    """
    target = folder / suite / serial
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".making-") as name:
        scratch = Path(name)
        _make_tree(scratch / "tree", suite, content_mib << 20)
        (scratch / "vmlinuz").write_bytes(b"no kernel, but a file in its place\n" * 1000)

        def make(arch: str) -> Path:
            image = scratch / f"{suite}-{arch}.img"
            _make_file_system(scratch / "tree", image, arch, _STYLES[style], size_mib)
            tarball = pack_uec(target, suite=suite, arch=arch, image=image, kernel=scratch / "vmlinuz")
            image.unlink()
            return tarball

        with ThreadPoolExecutor() as pool:
            tarballs = list(pool.map(make, arches))
    write_sums(target, tarballs)
    return target


def pack_uec(folder: Path, *, suite: str, arch: str, image: Path, kernel: Path) -> Path:
    """Pack ``image`` and ``kernel`` into ``<folder>/<suite>-server-uec-<arch>.tar.gz`` (sparse) and return its path."""
    stem = f"{suite}-server-uec-{arch}"
    tarball = folder / f"{stem}.tar.gz"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".packing-") as name:
        scratch = Path(name)
        (scratch / f"{stem}.img").symlink_to(image.resolve())
        (scratch / f"{stem}-vmlinuz-virtual").symlink_to(kernel.resolve())
        (scratch / f"{stem}-loader").write_bytes(b"no boot loader, but a file in its place\n")
        (scratch / "README.files").write_text(_README.format(suite=suite, arch=arch))
        members = [f"{stem}.img", f"{stem}-vmlinuz-virtual", f"{stem}-loader", "README.files"]
        packer = "pigz -1" if shutil.which("pigz") else "gzip -1"
        options = ["--create", "--sparse", "--dereference", "--owner=root:0", "--group=root:0"]
        _run("tar", *options, "-I", packer, "-f", str(tarball), "-C", str(scratch), *members)
    return tarball


def write_sums(folder: Path, files: Sequence[Path]) -> Path:
    """Write ``SHA256SUMS`` for ``files`` of ``folder`` as Ubuntu does (``<64 hex> *<file>``); return its path."""
    lines = []
    for path in sorted(files):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()} *{path.name}\n")
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(lines))
    return sums


# --- the tree ------------------------------------------------------------------------------------------


def _make_tree(tree: Path, suite: str, budget: int) -> None:
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    (tree / "etc/hostname").write_text(f"{suite}-demo\n")
    (tree / "etc/lsb-release").write_text(f"DISTRIB_ID=Ubuntu\nDISTRIB_CODENAME={suite}\n")
    for name in _ETC:
        _copy(Path("/etc") / name, tree)
    for source, share in ((Path("/usr/bin"), 0.7), (Path("/usr/share"), 0.3)):
        room = int(budget * share)
        for path in _small_files(source):
            room -= _copy(path, tree)
            if room < 0:
                break
    _make_nasty(tree / "srv/nasty")


def _small_files(folder: Path) -> Iterator[Path]:
    """Yield files below ``folder`` in one order everywhere; not the few that would eat all the room."""
    for here, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(here, name)
            if path.is_symlink() or path.stat().st_size < 2 << 20:
                yield path


def _copy(source: Path, tree: Path) -> int:
    """Copy a link, or a file that everybody may read (so no secret gets in), and return its size."""
    target = tree / source.relative_to("/")
    try:
        status = source.lstat()
    except FileNotFoundError:
        return 0
    if not (stat.S_ISLNK(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH)):
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(stat.S_IMODE(status.st_mode))
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return status.st_size


def _make_nasty(folder: Path) -> None:
    """Fill ``folder`` with what breaks careless copying and anybody may make."""
    (folder / "deep").mkdir(parents=True)
    for name in (b"new\nline", b"'single' \"double\"", b"-rf", b"\xff not UTF-8", b"n" * 255, b" space "):
        (folder / os.fsdecode(name)).write_bytes(b"content of " + name)
    os.link(folder / "-rf", folder / "deep/hard link")
    (folder / "dangling").symlink_to("../no such\nfile")
    with (folder / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(64 << 20)
        file.write(b"end")
    shutil.copyfile("/bin/true", folder / "capable")
    shutil.copyfile("/bin/true", folder / "setuid")
    (folder / "setuid").chmod(0o4755)


# --- the file system -----------------------------------------------------------------------------------

_CAP_NET_RAW = bytes.fromhex("01000002" + "00200000" + "00" * 12)  # VFS capability, revision 2: cap_net_raw+ep
_PRIVILEGED = """\
cd /dev
mknod console c 5 1
set_inode_field console mode 0020600
mknod null c 1 3
set_inode_field null mode 0020666
mknod xvda b 202 0
set_inode_field xvda mode 0060660
set_inode_field xvda gid 6
cd /srv/nasty
mknod fifo p
set_inode_field fifo mode 0010644
ea_set -f {capability} capable security.capability
ea_set deep trusted.secret rootonly
ea_set sparse user.text text
set_inode_field sparse mtime_extra 493827156
cd /etc
write {arch} ebspub-arch
"""


def _make_file_system(tree: Path, image: Path, arch: str, style: _FileSystem, size_mib: int) -> None:
    features = ["-O", style.features] if style.features else []
    options = ["-t", style.kind, *features, "-I", "256", "-L", style.label, "-d", str(tree)]
    _run("mke2fs", "-q", "-F", *options, str(image), f"{size_mib}M")
    capability, name = image.with_suffix(".capability"), image.with_suffix(".arch")
    capability.write_bytes(_CAP_NET_RAW)
    name.write_text(f"{arch}\n")
    _debugfs(image, _PRIVILEGED.format(capability=capability, arch=name))
    if os.geteuid():  # root owns everything in every real image, whoever made this one
        inodes = {inode for inode, _ in ext_inodes(str(image)).values()}
        fields = [(inode, field) for inode in sorted(inodes) for field in ("uid", "gid")]
        _debugfs(image, "".join(f"set_inode_field <{inode}> {field} 0\n" for inode, field in fields))


def _debugfs(image: Path, script: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".debugfs") as file:
        file.write(script)
        file.flush()
        done = _run("debugfs", "-w", "-f", file.name, str(image))
    errors = re.sub(rb"^debugfs[ :].*\n", b"", done.stderr, flags=re.MULTILINE).strip()
    if errors:
        raise ImageError(f"debugfs failed on {image}: {errors.decode(errors='replace')}")


def _run(*command: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise ImageError(f"{command[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return done


# --- the server ----------------------------------------------------------------------------------------


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Offer ``folder`` over HTTP on the loopback interface; yield the base URL, without a slash at the end.

    The server understands ranges of bytes (RFC 9110, one range a request). It is a process of its own, so
    that killing threads or the publisher cannot stop it half-way, and ends when the context is left or this
    process dies, however it dies.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "ebspub.demo.image", str(folder.resolve())],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,  # its end tells the server that we are gone
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert server.stdout
    with server:
        try:
            url = server.stdout.readline().decode().strip()
            if not url:
                raise ImageError(f"the server for {folder} ended with {server.wait()}")
            yield url
        finally:
            server.kill()


class _RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, whole or one range of bytes."""

    protocol_version = "HTTP/1.1"
    _left: int | None = None  # bytes of the range asked for

    def send_head(self) -> Any:
        self._left = None
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or asked[0] == "bytes=-" or not path.is_file():
            return super().send_head()
        status = path.stat()
        changed = self.date_time_string(int(status.st_mtime))
        if self.headers.get("If-Range", changed) != changed:
            return super().send_head()
        first, last = _resolved(asked[1], asked[2], status.st_size)
        if first > last:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{status.st_size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self._left = last + 1 - first
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(path))
        self.send_header("Content-Range", f"bytes {first}-{last}/{status.st_size}")
        self.send_header("Content-Length", str(self._left))
        self.send_header("Last-Modified", changed)
        self.end_headers()
        file = path.open("rb")
        file.seek(first)
        return file

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self._left is None:
            super().copyfile(source, outputfile)
            return
        while self._left and (data := source.read(min(self._left, 1 << 18))):
            outputfile.write(data)
            self._left -= len(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
        """Say nothing: the demo has its own story to tell."""


def _resolved(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the first and last byte of a range; first > last when the file has none of it."""
    if not first:
        return (max(0, size - int(last)), size - 1)
    return (int(first), min(int(last), size - 1) if last else size - 1)


def _serve_until_end_of_input(folder: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_RangeHandler, directory=folder)) as server:
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()
        server.shutdown()


if __name__ == "__main__":
    _serve_until_end_of_input(sys.argv[1])
