"""Whatever a disk is packed in, its blocks come out; what is no disk, or not the artefact, is refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import importlib.util
import lzma
import random
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ebspub.errors import EbspubError, JobError, RemoteError, SourceError, VerificationError
from ebspub.populate.direct import disk, streams
from ebspub.populate.direct.download import Download
from ebspub.populate.imaging import libraries
from ebspub.spec import Builder, JobSpec, Registration, Source, Volume
from tests.conftest import Need
from tests.support.disks import BLOCK, data_blocks, make_disk
from tests.support.variants import few


def spec(url: str, *, sha256: str | None = None, virtualization: Any = "hvm") -> JobSpec:
    return JobSpec(
        suite="noble",
        build="server",
        label="daily",
        serial="20240101",
        version="24.04",
        arch="amd64",
        region="us-east-1",
        source=Source(url=url, sha256=sha256),
        builder=Builder(image="", instance_types=("none",), ssh_cidr="127.0.0.1/32"),
        volume=Volume(size=1),
        registration=Registration(name="image", architecture="x86_64", virtualization=virtualization),
        method="direct",
        tags={},
    )


class Buffers:
    """Counts what is out."""

    def __init__(self) -> None:
        self.out = 0

    def take(self) -> bytearray:
        self.out += 1
        return bytearray(b"\xff" * BLOCK)

    def give(self, buffer: bytearray) -> None:
        assert len(buffer) == BLOCK
        self.out -= 1


def read(job: JobSpec, folder: Path) -> tuple[dict[int, bytes], str]:
    """Return the blocks with data of a job's source, which must be proved."""
    download = Download(job.source.url, lambda _seconds: None)
    found = disk.opened(job, download, folder, lambda: None)
    buffers = Buffers()
    try:
        held = {}
        for index, buffer in found.blocks(BLOCK, buffers):
            if any(buffer):
                held[index] = bytes(buffer)
            buffers.give(buffer)
        assert buffers.out == 0
        assert found.prove(job) == job.source.sha256
    finally:
        found.stream.close()
    return held, found.content


@pytest.fixture
def image(tmp_path: Path, need: Need) -> Path:
    need.tool("sgdisk", "qemu-img", "xz", "zstd", "bzip2")
    return make_disk(tmp_path / "disk.raw", mib=8, data=(2, 5))


def packed(image: Path, how: str) -> Path:
    target = image.with_name(f"packed.{how}")
    if how == "raw":
        shutil.copy(image, target)
    elif how in ("gzip", "xz", "zstd", "bzip2"):
        with target.open("wb") as file:
            subprocess.run([how, "-c", str(image)], stdout=file, check=True)
    elif how in ("tar", "tar.xz"):
        with tarfile.open(target, "w:xz" if how == "tar.xz" else "w:") as tar:
            tar.add(__file__, "README")
            tar.add(image, "disk.raw")
            tar.add(__file__, "vmlinuz")
    else:
        kind = {"vhd": "vpc", "vhd-fixed": "vpc"}.get(how, how)
        more = (
            ["-o", f"force_size=on,subformat={'fixed' if how == 'vhd-fixed' else 'dynamic'}"] if kind == "vpc" else []
        )
        subprocess.run(["qemu-img", "convert", "-O", kind, *more, str(image), str(target)], check=True)
    return target


def job_of(path: Path, **how: Any) -> JobSpec:
    return spec(path.as_uri(), sha256=hashlib.sha256(path.read_bytes()).hexdigest(), **how)


HOW = ["raw", "gzip", "xz", "zstd", "bzip2", "tar", "tar.xz", "qcow2", "vmdk", "vhd", "vhd-fixed"]


@pytest.mark.parametrize("how", few(["gzip", "tar.xz", "qcow2", "raw"], HOW, rest="long"))
def test_the_blocks_of_a_disk_come_out_of_whatever_it_is_packed_in(image: Path, how: str, tmp_path: Path) -> None:
    held, content = read(job_of(packed(image, how)), tmp_path / "work")
    assert content == "disk"
    assert held == data_blocks(image)
    assert [*(tmp_path / "work").glob("*")] == []


def test_a_qcow2_within_gzip_comes_out(image: Path, tmp_path: Path) -> None:
    inner = packed(image, "qcow2")
    held, _ = read(job_of(packed(inner, "gzip")), tmp_path / "work")
    assert held == data_blocks(image)


@pytest.fixture(params=["isal", "zlib"])
def unpacker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, need: Need) -> None:
    """ISA-L, and what is there where it is not."""
    if request.param == "zlib":
        monkeypatch.setattr(streams, "_GZIP", gzip.GzipFile)
    else:
        need.that(importlib.util.find_spec("isal") is not None, "the module isal")


@pytest.mark.usefixtures("unpacker")
def test_gzip_of_several_members_with_padding_comes_out_and_nothing_less(image: Path, tmp_path: Path) -> None:
    content = image.read_bytes()
    half = len(content) // 2 + 1
    file = tmp_path / "members.gz"
    whole = gzip.compress(content[:half], 1) + gzip.compress(b"") + gzip.compress(content[half:], 9)
    file.write_bytes(whole + bytes(1000))
    assert read(job_of(file), tmp_path)[0] == data_blocks(image)
    middle = len(whole) // 3
    damages = {
        "cut": whole[:-1],
        "cut more": whole[:-9],
        "followed": whole + b"more",
        "changed": whole[:middle] + bytes(100) + whole[middle + 100 :],
    }
    for how, damaged in damages.items():
        file.write_bytes(damaged)
        with pytest.raises(JobError, match="gzip data"):
            pytest.fail(f"{how}: {len(read(job_of(file), tmp_path)[0])} blocks")


@pytest.mark.parametrize("how", ["gzip", "xz", "zstd", "tar", "qcow2", "raw"])
def test_half_of_an_artefact_is_told_by_its_checksum(image: Path, how: str, tmp_path: Path) -> None:
    whole = packed(image, how)
    job = job_of(whole)
    content = whole.read_bytes()
    whole.write_bytes(content[: len(content) // 2])
    with pytest.raises(EbspubError) as caught:
        read(job, tmp_path)
    if not isinstance(caught.value, VerificationError):  # as the upload does
        with pytest.raises(VerificationError):
            disk.accuse(job, again(job))


def again(job: JobSpec) -> Download:
    return Download(job.source.url, lambda _seconds: None)


def test_what_is_no_disk_is_refused_with_what_it_is(image: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.img"
    with bare.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mke2fs", "-q", "-F", str(bare)], check=True)
    with pytest.raises(JobError, match="a bare file system, which an hvm instance cannot boot"):
        read(job_of(bare), tmp_path)
    assert read(job_of(bare, virtualization="paravirtual"), tmp_path)[1] == "filesystem"
    text = tmp_path / "text"
    text.write_text("no disk " * 100)
    with pytest.raises(JobError, match="nothing that is known as a disk"):
        read(job_of(text), tmp_path)
    tree = tmp_path / "tree.tar"
    with tarfile.open(tree, "w") as tar:
        tar.add(text, "etc/motd")
    with pytest.raises(JobError, match="a tar without an image"):
        read(job_of(tree), tmp_path)


def test_a_tar_with_two_images_is_refused(image: Path, tmp_path: Path) -> None:
    both = tmp_path / "both.tar"
    with tarfile.open(both, "w") as tar:
        tar.add(image, "a.img")
        tar.add(image, "b.img")
    with pytest.raises(JobError, match=r"more than one image: a\.img and b\.img"):
        read(job_of(both), tmp_path)


def test_a_container_that_names_other_files_is_refused(image: Path, tmp_path: Path) -> None:
    child = tmp_path / "child.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "raw", str(child)], check=True)
    with pytest.raises(JobError, match="names other files"):
        read(job_of(child), tmp_path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read(spec((tmp_path / "absent").as_uri()), tmp_path)


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; breaks off as often as it is told to, after so many bytes."""

    content = b""
    breaks = 0
    after = 100_000
    ranges = True
    etag = '"one"'
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range", "")
        server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        data = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", server.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            self.wfile.write(data[: server.after])
            self.close_connection = True
        else:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the library
        pass


@contextmanager
def serving(content: bytes) -> Iterator[tuple[Server, str]]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.content, server.asked = content, []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}/disk.raw"
        finally:
            server.shutdown()
            thread.join()


def test_a_download_goes_on_where_it_broke() -> None:
    content = bytes(range(256)) * 2000
    with serving(content) as (server, url):
        server.breaks = 3
        paused: list[float] = []
        download = Download(url, paused.append)
        assert b"".join(download.pieces) == content
        assert download.sha256 == hashlib.sha256(content).hexdigest()
        assert server.asked == ["", "bytes=100000-", "bytes=200000-", "bytes=300000-"]
        assert len(paused) == 3


def test_a_server_without_ranges_is_read_anew_from_its_beginning() -> None:
    content = bytes(range(256)) * 2000
    with serving(content) as (server, url):
        server.breaks, server.ranges, server.after = 2, False, 300_000
        download = Download(url, lambda _seconds: None)
        assert b"".join(download.pieces) == content
        assert download.sha256 == hashlib.sha256(content).hexdigest()


def test_a_file_that_changes_meanwhile_is_told() -> None:
    with serving(bytes(500_000)) as (server, url):
        server.breaks = 1

        def change(_seconds: float) -> None:
            server.etag = '"two"'

        with pytest.raises(SourceError, match="changed while it was downloaded"):
            b"".join(Download(url, change).pieces)


def test_a_server_that_stays_away_is_given_up_for_now() -> None:
    with serving(b"") as (_, url):
        pass
    with pytest.raises(RemoteError, match="Connection refused"):
        b"".join(Download(url, lambda _seconds: None).pieces)


@pytest.mark.parametrize("how", ["xz", "zstd"])
def test_without_the_libraries_there_are_programs(
    image: Path, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "engine", lambda _content, _threads: None)
    stream = streams.unpacked(streams.Pulled(iter([packed(image, how).read_bytes()])), how)
    try:
        assert type(stream) is streams.Decoded
    finally:
        stream.close()
    assert read(job_of(packed(image, how)), tmp_path)[0] == data_blocks(image)


def sifted(packed: bytes, how: str = "xz") -> streams.Sifted:
    stream = streams.unpacked(streams.Pulled(iter([packed])), how)
    if isinstance(stream, streams.Sifted):
        return stream
    stream.close()
    Need().that(False, f"a library for {how}")
    raise AssertionError


def test_zeros_that_were_packed_are_holes(image: Path) -> None:
    stream = sifted(lzma.compress(bytes(3 * BLOCK) + b"x" * BLOCK + bytes(2 * BLOCK + 5)))
    room = memoryview(bytearray(2 * BLOCK))
    try:
        assert stream.head(10) == bytes(10)
        assert stream.hole() == 0  # what was looked at comes first
        looked = stream.readinto(room)
        assert stream.hole() == 3 * BLOCK - looked
        stream.skip(BLOCK)
        assert stream.readinto(room) == 2 * BLOCK - looked
        assert stream.hole() == 0
        assert [stream.readinto(room[at : at + 1]) for at in range(3)] == [1, 1, 1]
        assert bytes(room[:3]) == b"xxx"
        while (hole := stream.hole()) == 0:
            assert stream.readinto(room) > 0
        assert hole == 2 * BLOCK + 5
        stream.finish()
    finally:
        stream.close()


def test_a_decoder_that_fails_or_is_killed_is_no_end(image: Path) -> None:
    whole = lzma.compress(random.Random(2).randbytes(3 * BLOCK), preset=0)
    for damaged in (whole[:-20], whole[: len(whole) // 2] + bytes(99) + whole[len(whole) // 2 + 99 :]):
        stream = sifted(damaged)
        with pytest.raises(JobError, match="not sound xz data: the artefact cannot be unpacked: "):
            stream.finish()
        stream.close()
    stream = sifted(whole)
    try:
        assert stream.head(1000)
        stream._process.kill()
        with pytest.raises(JobError, match="xz data: exit status -9"):
            stream.finish()
    finally:
        stream.close()
