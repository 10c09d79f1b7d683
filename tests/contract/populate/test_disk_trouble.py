"""The disk method where things go wrong: killed, broken off, tampered with, too large, without tools."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import shutil
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ebspub.remote.detached import poll, start
from ebspub.remote.report import Failed
from tests.contract.populate.disks import MIB, compress, data_of, disk_task, make_whole, offer, root_of, same, written
from tests.contract.populate.world import BY_ID, Body, World, run, sha256
from tests.support.variants import few

VOLUME = 160 * MIB


@pytest.fixture(scope="session")
def packed(disk: Path) -> Path:
    return compress(disk, "gzip", "-1", "-k")


def _slow(world: World, *programs: str) -> None:
    """Let programs of the builder last a while after their work."""
    for path in programs:
        name = Path(path).name
        real, stub = world.host.home / f"{name}.real", world.host.home / f"{name}.slow"
        shutil.copy(path, real)
        stub.write_text(f'#!/bin/sh\n"{real}" "$@"\nstatus=$?\nsleep "$(cat {world.host.home}/pause)"\nexit $status\n')
        stub.chmod(0o755)
        world.host.inside(f"mount --bind {stub} {path}")
    (world.host.home / "pause").write_text("0.6\n")


def _without(world: World, *programs: str) -> None:
    """Take programs from the builder's view."""
    empty = world.host.home / "absent"
    empty.write_text("")
    for path in programs:
        if Path(path).exists():
            world.host.inside(f"mount --bind {empty} {os.path.realpath(path)}")


@pytest.mark.parametrize("phase", few(["grow"], ["write", "verify", "grow", "finish"], rest="long"))
def test_killed_in_any_phase_it_starts_again_on_the_same_volume(
    disk_world: World, disk: Path, packed: Path, phase: str
) -> None:
    artefact = offer(disk_world, packed)
    _slow(disk_world, os.path.realpath("/usr/bin/python3"), "/usr/sbin/resize2fs", "/usr/sbin/blockdev")
    task = disk_task(disk_world, packed.name, artefact.sha256)
    start(disk_world.shell, task)
    disk_world.wait_for_phase(task, phase)
    time.sleep(0.2)
    disk_world.kill_all(task)
    report = poll(disk_world.shell, task)
    assert isinstance(report, Failed)
    assert (report.code, report.phase) == ("vanished", phase)
    (disk_world.host.home / "pause").write_text("0\n")
    facts = disk_world.succeed(task).facts
    assert (facts["moved"], facts["grown"]) == ("yes", "root")
    # What the first start has left beyond the disk is gone: only what growing writes is there.
    assert root_of(disk_world.volume)["size"] * 512 > data_of(disk)
    part = disk_world.volume.with_name("part")
    run("dd", f"if={disk_world.volume}", f"of={part}", "bs=1M", "skip=8", "conv=sparse", "status=none")
    os.truncate(part, root_of(disk_world.volume)["size"] * 512)
    run("e2fsck", "-fn", part)


def _half_of(file: Path, gate: threading.Event) -> Body:
    """Send half of a file, and then nothing."""

    def body(request: BaseHTTPRequestHandler) -> None:
        content = file.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[: len(content) // 2])
        request.wfile.flush()
        gate.wait(60)

    return body


def test_what_a_killed_start_has_written_is_not_seen_any_more(disk_world: World, disk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.raw"
    shutil.copy(disk, other)
    with other.open("r+b") as file:  # data where the disk has none
        file.seek(30 * MIB)
        file.write(os.urandom(4 * MIB))
    gate = threading.Event()
    disk_world.server.bodies["disk.raw"] = _half_of(other, gate)
    task = disk_task(disk_world, "disk.raw", sha256(disk), grow=False)
    begun = written(disk_world)
    start(disk_world.shell, task)
    deadline = time.monotonic() + 60
    while written(disk_world) - begun < 8 * MIB:
        disk_world.host.inside("sync")
        assert time.monotonic() < deadline, poll(disk_world.shell, task)
        time.sleep(0.1)
    disk_world.kill_all(task)
    gate.set()
    del disk_world.server.bodies["disk.raw"]
    offer(disk_world, disk)
    disk_world.succeed(task)
    assert same(disk_world.volume, disk)


def _breaking(file: Path, at: int) -> Body:
    """Break off after ``at`` bytes of each answer."""

    def body(request: BaseHTTPRequestHandler) -> None:
        content = file.read_bytes()
        wanted = request.headers.get("Range", "")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content) - begin))
        request.send_header("ETag", '"one"')
        if wanted:
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        request.wfile.write(content[begin : begin + at])
        request.close_connection = True

    return body


def test_a_download_that_breaks_off_goes_on_into_the_same_pipe(disk_world: World, disk: Path, packed: Path) -> None:
    size = packed.stat().st_size
    disk_world.server.bodies["d.gz"] = _breaking(packed, size // 3 + 1)
    disk_world.succeed(disk_task(disk_world, "d.gz", sha256(packed), grow=False))
    assert same(disk_world.volume, disk)
    asked = [where for _, name, where in disk_world.server.requests if name == "d.gz"]
    assert asked == ["", f"bytes={size // 3 + 1}-", f"bytes={2 * (size // 3 + 1)}-"]


def _growing(file: Path, contents: list[bytes]) -> Body:
    """Answer without ranges, one of ``contents`` after the other; the length promised is that of the file."""
    answers = iter(contents)

    def body(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(file.stat().st_size))
        request.end_headers()
        request.wfile.write(next(answers))
        request.close_connection = True

    return body


def test_a_server_without_ranges_must_begin_with_the_same_bytes(disk_world: World, disk: Path, packed: Path) -> None:
    content = packed.read_bytes()
    disk_world.server.bodies["d.gz"] = _growing(packed, [content[:MIB], content])
    disk_world.succeed(disk_task(disk_world, "d.gz", None, grow=False))
    assert same(disk_world.volume, disk)


def test_a_file_that_changes_while_it_is_downloaded_is_taken_from_its_beginning(
    disk_world: World, disk: Path, packed: Path
) -> None:
    content = packed.read_bytes()
    changed = content[: MIB // 2] + bytes(64) + content[MIB // 2 + 64 : MIB]
    disk_world.server.bodies["d.gz"] = _growing(packed, [changed, content, content])
    disk_world.succeed(disk_task(disk_world, "d.gz", sha256(packed), grow=False))
    assert same(disk_world.volume, disk)


@pytest.mark.parametrize("damage", ["flipped", "short", "other"])
def test_a_tampered_artefact_fails_for_its_checksum(
    disk_world: World, disk: Path, packed: Path, tmp_path: Path, damage: str
) -> None:
    content = bytearray(packed.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "short":
        del content[-1000:]
    else:  # sound in itself
        content = bytearray(gzip.compress(b"\0" * MIB))
    (disk_world.server.folder / "d.gz").write_bytes(content)
    report = disk_world.fail(disk_task(disk_world, "d.gz", sha256(packed)), "checksum")
    assert sha256(packed) in report.message


def test_an_unproved_artefact_that_is_cut_off_is_refused(disk_world: World, disk: Path, packed: Path) -> None:
    (disk_world.server.folder / "d.gz").write_bytes(packed.read_bytes()[:-1000])
    disk_world.fail(disk_task(disk_world, "d.gz", None), "bad-image")
    (disk_world.server.folder / "d.raw").write_bytes(disk.read_bytes()[: 100 * MIB])
    report = disk_world.fail(disk_task(disk_world, "d.raw", None, attempt=2, grow=False), "device")
    assert "fresh" in report.message  # it is another attempt's, which has a volume of its own
    run("blkdiscard", "-z", os.readlink(disk_world.host.devices / BY_ID))
    report = disk_world.fail(disk_task(disk_world, "d.raw", None, attempt=3, grow=False), "bad-image")
    assert "cut off" in report.message


def test_a_disk_that_is_larger_than_the_volume_is_refused(disk_world: World, tmp_path: Path) -> None:
    whole = make_whole(tmp_path / "whole.raw", "ext4", size=VOLUME + MIB)
    offer(disk_world, whole)
    disk_world.fail(disk_task(disk_world, whole.name, sha256(whole)), "too-small")
    run("qemu-img", "convert", "-O", "qcow2", whole, disk_world.server.folder / "whole.q")
    run("blkdiscard", "-z", os.readlink(disk_world.host.devices / BY_ID))
    disk_world.fail(disk_task(disk_world, "whole.q", None, attempt=2), "too-small")


def test_more_than_an_image_can_have_is_not_downloaded(disk_world: World) -> None:
    sent = []

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(20 * VOLUME))
        request.end_headers()
        sent.append(request.path)

    disk_world.server.bodies["huge"] = endless
    disk_world.fail(disk_task(disk_world, "huge", None), "too-large")
    assert sent == ["/huge"]


def test_an_image_that_says_any_size_is_refused_before_a_byte_is_written(disk_world: World) -> None:
    """A sparse member of a few bytes stands for exbibytes of zeros, which are never unpacked."""
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "disk.raw"}
    info = tarfile.TarInfo("GNUSparseFile.0/disk.raw")
    info.size, info.pax_headers = 512, sparse | {"GNU.sparse.realsize": str(1 << 62)}
    with tarfile.open(disk_world.server.folder / "vast", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"0\n".ljust(512, b"\0")))
    report = disk_world.fail(disk_task(disk_world, "vast", None), "too-large")
    assert f"more than {16 * VOLUME} bytes" in report.message
    assert disk_world.volume.stat().st_blocks == 0


def test_a_container_that_names_a_file_of_the_builder_is_refused(disk_world: World, disk: Path, tmp_path: Path) -> None:
    nasty = disk_world.server.folder / "nasty"
    run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", disk, nasty)
    report = disk_world.fail(disk_task(disk_world, "nasty", None), "bad-image")
    assert "other files" in report.message
    assert disk_world.volume.stat().st_blocks == 0


def test_other_things_than_disks_are_refused_with_what_they_are(disk_world: World, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "usr").mkdir()
    run("mksquashfs", tree, disk_world.server.folder / "s", "-quiet")
    run("tar", "-C", tree, "-czf", disk_world.server.folder / "t", ".")
    (disk_world.server.folder / "u").write_bytes(b"hello\n" * 1000)
    for attempt, (name, said) in enumerate({"s": "squashfs", "t": "no image", "u": "nothing"}.items(), start=1):
        report = disk_world.fail(disk_task(disk_world, name, None, attempt=attempt), "bad-image")
        assert said in report.message
    report = disk_world.fail(disk_task(disk_world, "absent", None, attempt=9), "gone")
    assert "404" in report.message


@pytest.mark.parametrize(
    ("programs", "name", "said"),
    [
        (("/usr/bin/qemu-img",), "d.q", "no qemu-img, which reads the artefact: install qemu-utils"),
        (("/usr/bin/qemu-nbd",), "d.q", "no qemu-nbd, which reads the artefact: install qemu-utils"),
        (("/usr/bin/lbzip2", "/usr/bin/pbzip2", "/usr/bin/bzip2"), "d.bz2", "no lbzip2 or pbzip2 or bzip2"),
        (("/usr/sbin/sfdisk",), "d.gz", "fdisk"),
        (("/usr/bin/python3",), "d.gz", "python3"),
    ],
)
def test_a_builder_without_a_tool_says_so_before_anything_is_written(
    disk_world: World, disk: Path, packed: Path, programs: tuple[str, ...], name: str, said: str
) -> None:
    folder = disk_world.server.folder
    if name == "d.q":
        run("qemu-img", "convert", "-O", "qcow2", disk, folder / name)
    elif name == "d.bz2":
        (folder / name).write_bytes(bz2.compress(disk.read_bytes(), 1))
    else:
        (folder / name).symlink_to(packed)
    _without(disk_world, *programs)
    report = disk_world.fail(disk_task(disk_world, name, sha256(folder / name)), "builder")
    assert said in report.message
    assert disk_world.volume.stat().st_blocks == 0


def test_what_is_not_on_the_volume_as_it_was_written_is_found_out(disk_world: World, disk: Path, packed: Path) -> None:
    offer(disk_world, packed)
    # Between writing and comparing, the device forgets a block.
    real, stub = disk_world.host.home / "blockdev.real", disk_world.host.home / "blockdev.bad"
    shutil.copy("/usr/sbin/blockdev", real)
    forget = 'dd if=/dev/zero of="$last" bs=4096 seek=261 count=1 conv=notrunc,fsync 2>/dev/null'
    stub.write_text(f'#!/bin/sh\nfor last; do :; done\n[ "$1" != --flushbufs ] || {forget}\nexec {real} "$@"\n')
    stub.chmod(0o755)
    disk_world.host.inside(f"mount --bind {stub} /usr/sbin/blockdev")
    report = disk_world.fail(disk_task(disk_world, packed.name, sha256(packed)), "verify")
    assert "not what was written" in report.message
