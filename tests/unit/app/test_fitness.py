"""What is refused when it is planned: an artefact that is not there, or that the method or the volume cannot take."""

from __future__ import annotations

import gzip
import http.server
import io
import struct
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebspub.app.fitness import refusals
from ebspub.source.head import Heads
from ebspub.spec import Source, Volume
from ebspub.store import Store
from tests.contract.store.rows import plan, spec

GIB = 1024**3


def why(artefact: Path | str, method: Any, size: int = 1) -> str:
    """Return why a job of an artefact (a file or a URL) and a volume of ``size`` GiB is refused; empty if it is not."""
    url = artefact.as_uri() if isinstance(artefact, Path) else artefact
    job = spec(source=Source(url=url), method=method, volume=Volume(size=size))
    return refusals([job], None, Heads()).get(job.job_id, "")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Return a raw disk of 3 GiB with a GPT, all but a hole."""
    file = tmp_path / "disk.img"
    head = bytearray(2048)
    head[510:520] = b"\x55\xaaEFI PART"
    struct.pack_into("<Q", head, 512 + 32, 3 * GIB // 512 - 1)
    file.write_bytes(head)
    with file.open("r+b") as opened:
        opened.truncate(3 * GIB)
    return file


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    file = tmp_path / "tree.tar"
    with tarfile.open(file, "w") as tar:
        for name in ("./etc/hosts", "./usr/bin/true"):
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
    return file


def zstd(file: Path) -> Path:
    subprocess.run(["zstd", "-q", file], check=True)
    return file.with_name(f"{file.name}.zst")


@pytest.mark.needs_tool("zstd", "mksquashfs")
def test_what_is_packed_by_zstd_is_refused_as_what_it_is(tmp_path: Path, disk: Path, tree: Path) -> None:
    folder = tmp_path / "root"
    folder.mkdir()
    squashfs = tmp_path / "squashfs"
    subprocess.run(["mksquashfs", folder, squashfs, "-quiet", "-no-progress"], check=True, capture_output=True)
    short = tmp_path / "short"
    with disk.open("rb") as opened:
        short.write_bytes(opened.read(1 << 20))
    for file, method, named in (
        (zstd(tree), "disk", "a tree of files (zstd of tar)"),
        (tmp_path / "tree.tar.zst", "direct", "a tree of files (zstd of tar)"),
        (zstd(squashfs), "disk", "a squashfs (zstd)"),
        (zstd(short), "filesystem", "a whole disk (zstd)"),
    ):
        assert why(file, method).startswith(f"the artefact is {named}, ")
    assert why(tmp_path / "tree.tar.zst", "filesystem") == ""


@pytest.mark.needs_tool("qemu-img")
@pytest.mark.parametrize("method", ["disk", "direct"])
@pytest.mark.parametrize("form", ["raw", "gzip", "qcow2", "vmdk", "vpc"])
def test_a_disk_that_is_larger_than_the_volume_is_refused(disk: Path, tmp_path: Path, method: str, form: str) -> None:
    file = disk if form == "raw" else tmp_path / f"disk.{form}"
    if form == "gzip":  # its beginning, which is all that is looked at
        with disk.open("rb") as opened:
            file.write_bytes(gzip.compress(opened.read(1 << 20)))
    elif form != "raw":
        options = ["-o", "force_size=on"] if form == "vpc" else []
        command = ["qemu-img", "create", "-q", "-f", form, *options, str(file), "3G"]
        subprocess.run(command, check=True)
    assert why(file, method, 3) == ""
    told = why(file, method, 2)
    assert told.endswith("a volume of 2 GiB is too small; raise volume.size to 3"), told
    assert "filesystem copies trees" in why(file, "filesystem", 2)


def test_the_content_of_a_file_system_may_fit_where_its_image_does_not(tmp_path: Path) -> None:
    file = tmp_path / "image"
    file.write_bytes(bytes(1080) + b"\x53\xef" + bytes(1000))
    with file.open("r+b") as opened:
        opened.truncate(3 * GIB)
    assert why(file, "filesystem", 1) == ""


@pytest.mark.parametrize("method", ["filesystem", "disk", "direct"])
def test_what_no_builder_could_publish_either_needs_none_to_find_out(tmp_path: Path, method: str) -> None:
    file = tmp_path / "artefact"
    for content, named in {
        b"vhdxfile" + bytes(4000): "a VHDX disk",
        b"# Disk DescriptorFile\nversion=1\n": "the descriptor of a VMDK disk",
        b"<html>We have moved</html>": "unknown data",
        b"": "the artefact is empty",
    }.items():
        file.write_bytes(content)
        assert named in why(file, method)
    file.unlink()
    assert why(file, method) == f"there is no artefact: {file} does not exist; correct the source"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(int(self.path[1:4]))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("status", [404, 410])
def test_an_artefact_of_which_the_server_says_that_there_is_none_is_refused(server: str, status: int) -> None:
    url = f"{server}/{status}"
    assert why(url, "disk") == f"there is no artefact: {url}: the server answers {status}; correct the source"


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_what_may_be_hidden_from_the_publisher_only_is_the_builders_to_find_out(server: str, status: int) -> None:
    assert why(f"{server}/{status}", "disk") == ""


def test_a_job_that_is_planned_already_is_not_looked_at(tmp_path: Path) -> None:
    job = spec(source=Source(url=(tmp_path / "absent").as_uri()))
    with Store.open(f"sqlite:///{tmp_path}/ebspub.db") as store:
        assert list(refusals([job], store, Heads())) == [job.job_id]
        plan(store, job)
        assert refusals([job], store, Heads()) == {}
