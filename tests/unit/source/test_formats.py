"""What an artefact is, by its first bytes; which method takes it; and how those bytes are had."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import json
import lzma
import os
import re
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebspub.source import zstd
from ebspub.source.capacity import least
from ebspub.source.formats import HEAD, Format, kind, opened, recognise, refusal
from ebspub.source.head import Head, Heads, Missing, look


def _filesystem() -> bytes:
    data = bytearray(200_000)
    data[1080:1082] = b"\x53\xef"
    return bytes(data)


def _gpt() -> bytes:
    data = bytearray(200_000)
    data[510:520] = b"\x55\xaaEFI PART"
    return bytes(data)


def _mbr() -> bytes:
    data = bytearray(200_000)
    data[446:462] = bytes.fromhex("80000000830000000008000000100000")
    data[510:512] = b"\x55\xaa"
    return bytes(data)


def _tar(*members: tuple[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


PLAIN = {
    "filesystem": _filesystem(),
    "disk": _gpt(),
    "qcow2": b"QFI\xfb" + bytes(4000),
    "vmdk": b"KDMV" + bytes(4000),
    "vhd": b"conectix" + bytes(4000),
    "vhdx": b"vhdxfile" + bytes(4000),
    "vmdk descriptor": b"# Disk DescriptorFile\nversion=1\n" + bytes(4000),
    "squashfs": b"hsqs" + bytes(4000),
    "unknown": b"hello" * 1000,
    "empty": b"",
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_published_as_it_is_is_told_by_its_magic(name: str) -> None:
    assert recognise(PLAIN[name]) == Format("", "", name)


def test_a_disk_of_the_bios_is_one_and_a_boot_sector_of_fat_is_not(tmp_path: Path) -> None:
    assert kind(_mbr()) == "disk"
    fat = bytearray(4096)
    fat[:3], fat[446:510], fat[510:512] = b"\xeb\x3c\x90", b"code that is no partition table" * 2 + b"..", b"\x55\xaa"
    assert kind(bytes(fat)) == "unknown"


def test_btrfs_and_xfs_are_file_systems() -> None:
    btrfs = bytearray(70_000)
    btrfs[65600:65608] = b"_BHRfS_M"
    assert kind(bytes(btrfs)) == kind(b"XFSB" + bytes(600)) == "filesystem"


def test_what_is_compressed_is_looked_into() -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}
    for name, pack in packers.items():
        assert recognise(pack(PLAIN["disk"])[:HEAD]) == Format(name, "", "disk")
        assert recognise(pack(_tar(("x/image.img", PLAIN["filesystem"])))) == Format(name, "tar", "filesystem")
    # Only the beginning of a long one is there.
    noise = PLAIN["disk"] + os.urandom(2 * HEAD)
    assert recognise(gzip.compress(noise, 1)[:HEAD]) == Format("gzip", "", "disk")


@pytest.mark.needs_tool("zstd")
def test_zstd_is_looked_into_by_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def packed(content: bytes) -> bytes:
        return subprocess.run(["zstd", "-qc", "--long=31"], input=content, capture_output=True, check=True).stdout

    assert recognise(packed(PLAIN["disk"]), zstd.unpacked) == Format("zstd", "", "disk")
    tree = packed(_tar(("./etc/", b""), ("./etc/hosts", b"x"), ("./usr/", b"")))
    assert recognise(tree, zstd.unpacked) == Format("zstd", "tar", "tree")
    # Only the beginning of a long one is there; no more than the beginning of what it holds is read.
    noise = packed(PLAIN["disk"] + os.urandom(2 * HEAD))[:HEAD]
    assert recognise(noise, zstd.unpacked) == Format("zstd", "", "disk")
    assert len(zstd.unpacked(packed(bytes(100 * HEAD)), HEAD) or b"") == HEAD
    assert recognise(b"\x28\xb5\x2f\xfd" + os.urandom(1000), zstd.unpacked) == Format("zstd", "", "")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert recognise(tree, zstd.unpacked) == Format("zstd", "", "")


def test_what_the_first_bytes_do_not_tell_is_left_open() -> None:
    assert recognise(b"\x28\xb5\x2f\xfd" + bytes(100)) == Format("zstd", "", "")
    assert recognise(gzip.compress(PLAIN["disk"])[:12]) == Format("gzip", "", "")
    assert recognise(b"\x1f\x8b" + os.urandom(1000)).content == ""
    assert recognise(_tar(("README", b"x"), ("big", bytes(3 * HEAD)))[:HEAD]).content == ""
    assert recognise(_tar(("boot/initrd.img", b"07070" * 1000), ("README", b"x"))).content == ""
    for method in ("filesystem", "disk", "direct"):
        assert refusal(method, "hvm", Format("gzip", "", "")) is None


def test_what_surely_is_nothing_known_is_unknown() -> None:
    assert recognise(gzip.compress(gzip.compress(PLAIN["disk"]))) == Format("gzip", "", "unknown")
    assert recognise(gzip.compress(b"hello" * 100_000)) == Format("gzip", "", "unknown")


def test_a_tar_is_an_image_or_a_tree() -> None:
    tree = _tar(("./", b""), ("./bin/", b""), ("./etc/", b""), ("./etc/hosts", b"x"), ("./usr/", b""))
    assert recognise(tree) == Format("", "tar", "tree")
    assert recognise(_tar(("README", b"x" * 700), ("a.img", PLAIN["disk"]))) == Format("", "tar", "disk")
    assert recognise(_tar(("a.qcow2", PLAIN["qcow2"]))) == Format("", "tar", "qcow2")
    # A system holds files of such names, too.
    deep = _tar(("etc/", b""), ("usr/lib/x/y/boot.img", PLAIN["disk"]), ("usr/", b""))
    assert recognise(deep).content == "tree"


def test_recognising_survives_any_bytes() -> None:
    for seed in range(200):
        noise = bytearray(os.urandom(2000))
        noise[257:262] = b"ustar"
        if seed % 2:
            noise[124:136] = b"\x80" + os.urandom(11)
        for magic in (b"", b"QFI\xfb", b"KDMV", b"conectix", b"\x28\xb5\x2f\xfd"):
            noise[: len(magic)] = magic
            assert least(opened(bytes(noise[: seed * 10]), seed)) >= 0


#: What each method takes of what is recognised.
TAKES = {
    ("filesystem", "hvm"): {"filesystem", "squashfs", "tree"},
    ("filesystem", "paravirtual"): {"filesystem", "squashfs", "tree"},
    ("disk", "hvm"): {"disk", "qcow2", "vmdk", "vhd"},
    ("disk", "paravirtual"): {"disk", "qcow2", "vmdk", "vhd", "filesystem"},
    ("direct", "hvm"): {"disk", "qcow2", "vmdk", "vhd"},
    ("direct", "paravirtual"): {"disk", "qcow2", "vmdk", "vhd", "filesystem"},
}


@pytest.mark.parametrize(("method", "virtualization"), TAKES)
def test_each_method_takes_what_it_can_publish_and_names_the_other_that_does(method: str, virtualization: str) -> None:
    for content in ("disk", "filesystem", "squashfs", "tree", "qcow2", "vmdk", "vhd", "empty"):
        why = refusal(method, virtualization, Format("xz", "", content))
        if content in TAKES[method, virtualization]:
            assert why is None, (content, why)
        elif content == "empty":
            assert why == "the artefact is empty"
        else:
            assert why is not None
            assert "publish it by" in why


@pytest.mark.parametrize("method", ["filesystem", "disk", "direct"])
def test_what_no_method_takes_is_refused_by_its_name(method: str) -> None:
    for content, named in {
        "vhdx": "a VHDX disk (zstd), .*convert it",
        "vmdk descriptor": "the descriptor of a VMDK disk (zstd), .*other files",
        "unknown": "unknown data (zstd), nothing that is known",
    }.items():
        why = refusal(method, "hvm", Format("zstd", "", content))
        assert re.search(named.replace("(", r"\(").replace(")", r"\)"), why or ""), why


@pytest.mark.needs_tool("qemu-img")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("qcow2", ""),
        ("vmdk", "subformat=monolithicSparse"),
        ("vmdk", "subformat=streamOptimized"),
        ("vpc", "subformat=dynamic,force_size=on"),
        ("vpc", "subformat=dynamic"),
    ],
)
def test_a_container_says_how_large_its_disk_is(tmp_path: Path, kind: str, options: str) -> None:
    image = tmp_path / "image"
    words = ["-o", options] if options else []
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *words, image, "3G"], check=True)
    info = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", image]))
    found = opened(gzip.compress(image.read_bytes()))
    assert 3 * 1024**3 - 1024**2 <= least(found) <= info["virtual-size"]
    if "force_size" not in options:
        assert least(found) == info["virtual-size"]


def test_a_disk_is_as_large_as_its_artefact_or_as_its_gpt_says() -> None:
    size = 3 * 1024**3
    assert least(opened(_mbr(), size + 512)) == size  # at most a VHD's footer is not of it
    gpt = bytearray(_gpt())
    struct.pack_into("<Q", gpt, 512 + 32, size // 512 - 1)
    for head, said in (
        (bytes(gpt), size),
        (gzip.compress(gpt), 12345),
        (gzip.compress(_tar(("a.img", bytes(gpt)))), 12345),
    ):
        assert least(opened(head, said)) == size
    assert least(opened(gzip.compress(_filesystem()), size)) == 0
    assert least(opened(_tar(("./etc/", b""), ("./etc/hosts", b"x"), ("./usr/", b"")), size)) == 0
    for content in ("qcow2", "vmdk", "vhd"):
        assert least(opened(PLAIN[content][:10], 10)) == 0


# How the first bytes are had ------------------------------------------------------------------------------------------


class _Handler(http.server.BaseHTTPRequestHandler):
    content = bytes(range(256)) * 8192  # 2 MiB

    def do_GET(self) -> None:
        if (status := {"/absent": 404, "/gone": 410, "/hidden": 403}.get(self.path.partition("?")[0])) is not None:
            self.send_error(status)
        elif self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/ranged")
            self.end_headers()
        else:
            ranged = self.path == "/ranged"
            body = self.content[:HEAD] if ranged else self.content
            assert self.headers["Range"] == f"bytes=0-{HEAD - 1}"
            self.send_response(206 if ranged else 200)
            self.send_header("Content-Length", str(len(body)))
            if ranged:
                self.send_header("Content-Range", f"bytes 0-{HEAD - 1}/{len(self.content)}")
            self.end_headers()
            try:
                self.wfile.write(body)
            except ConnectionError:  # it has seen enough
                self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("path", ["ranged", "whole", "moved"])
def test_no_more_than_the_first_bytes_are_read_and_the_size_is_known(server: str, path: str) -> None:
    assert look(f"{server}/{path}") == Head(_Handler.content[:HEAD], len(_Handler.content))


def test_each_artefact_is_looked_at_once(server: str, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"12345")
    heads = Heads()
    assert heads(file.as_uri()) == Head(b"12345", 5)
    file.unlink()
    assert heads(file.as_uri()) == Head(b"12345", 5)
    assert isinstance(heads(f"{server}/absent"), Missing)
    assert heads.sizes() == {file.as_uri(): 5}


def test_what_is_not_there_is_told_by_whom(server: str, tmp_path: Path) -> None:
    assert look(f"{server}/absent?signature=x") == Missing(f"{server}/absent: the server answers 404")
    assert look(f"{server}/gone") == Missing(f"{server}/gone: the server answers 410")
    assert look(f"file://{tmp_path}/absent") == Missing(f"{tmp_path}/absent does not exist")


def test_what_cannot_be_had_is_nobodys_error(server: str) -> None:
    assert look(f"{server}/hidden") is None
    assert look("http://127.0.0.1:1/x") is None
    assert look("http://[::bad/x") is None


def test_a_file_of_this_machine_is_read(tmp_path: Path) -> None:
    subprocess.run(["truncate", "-s", "3M", tmp_path / "a b"], check=True)
    assert look(f"file://{tmp_path}/a%20b") == Head(bytes(HEAD), 3 * HEAD)
