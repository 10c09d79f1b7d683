"""The disk in a container is read as it is, without its holes; what names other files is refused; no server stays."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ebspub.populate.imaging.container import Container, _Server
from ebspub.populate.imaging.nbd import Export, NbdError
from ebspub.populate.imaging.refusal import Refusal
from tests.support.disks import BLOCK

pytestmark = pytest.mark.needs_tool("qemu-img", "qemu-nbd")

#: Not a whole number of blocks, but of cylinders' sectors.
SIZE = 9 * BLOCK + 12 * 4096
KINDS = {
    "qcow2": ("qcow2", "-c"),
    "vmdk": ("vmdk", "-o", "subformat=streamOptimized"),
    "vhd": ("vpc", "-o", "force_size=on"),
}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A disk with data in its blocks 0, 4 (the last page only) and at its very end."""
    disk, rng = tmp_path / "disk.raw", random.Random(1)
    with disk.open("wb") as file:
        file.write(rng.randbytes(70_000))
        file.seek(5 * BLOCK - 4096)
        file.write(rng.randbytes(4096))
        file.seek(SIZE - 512)
        file.write(rng.randbytes(512))
    return disk


def packed(raw: Path, kind: str) -> Path:
    name, *options = KINDS[kind]
    target = raw.with_name(f"a,b {kind}")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", name, *options, raw, target], check=True)
    return target


@contextmanager
def opened(path: Path, kind: str = "qcow2", most: int = 1 << 30, folder: Path | None = None) -> Iterator[Container]:
    container = Container(str(path), kind, str(folder or path.parent), most)
    try:
        yield container
    finally:
        container.close()


def read(container: Container) -> tuple[bytes, int]:
    """Return the disk, and how much of it was a hole that nobody read."""
    found, skipped, room = bytearray(), 0, memoryview(bytearray(100_000))
    while True:
        hole = container.hole()
        container.skip(hole)
        found += bytes(hole)
        skipped += hole
        if not (count := container.readinto(room)):
            return bytes(found), skipped
        found += room[:count]


@pytest.mark.parametrize("kind", KINDS)
def test_the_disk_is_read_and_its_holes_are_not(raw: Path, kind: str) -> None:
    with opened(packed(raw, kind), kind) as container:
        assert container.size == SIZE
        found, skipped = read(container)
    assert found == raw.read_bytes()
    # What is allocated as one is 2 MiB in a VHD.
    assert skipped >= {"qcow2": 7, "vmdk": 7, "vhd": 0}[kind] * BLOCK


def test_holes_that_are_read_are_zeros(raw: Path) -> None:
    with opened(packed(raw, "qcow2")) as container:
        room = memoryview(bytearray(b"\xff") * SIZE)
        at = 0
        while count := container.readinto(room[at : at + 300_001]):
            at += count
    assert at == SIZE
    assert room == raw.read_bytes()


def test_a_folder_may_have_a_longer_name_than_a_socket(raw: Path, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 60] * 4)
    deep.mkdir(parents=True)
    with opened(packed(raw, "qcow2"), folder=deep) as container:
        assert read(container)[0] == raw.read_bytes()
    assert [*deep.iterdir()] == []


def _backed(raw: Path, target: Path) -> None:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", raw, target], check=True)


def _outside(raw: Path, target: Path) -> None:
    words = ["-o", f"data_file={raw.with_name('outside')},data_file_raw=on"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *words, target, "1M"], check=True)


def _encrypted(raw: Path, target: Path) -> None:
    packed(raw, "qcow2").rename(target)
    with target.open("r+b") as file:
        file.seek(32)  # crypt_method: AES
        file.write(struct.pack(">I", 1))


_DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW {sectors} FLAT "{path}" 0
ddb.adapterType = "ide"
"""


def _described(raw: Path, target: Path) -> None:
    target.write_text(_DESCRIPTOR.format(sectors=SIZE // 512, path=raw))


def _embedded(raw: Path, target: Path) -> None:
    """A header of no capacity: the disk is what the description in it says."""
    header = struct.pack("<4sIIQQQQI", b"KDMV", 1, 3, 0, 128, 1, 20, 512).ljust(512, b"\0")
    target.write_bytes(header + _DESCRIPTOR.format(sectors=SIZE // 512, path=raw).encode().ljust(20 * 512, b"\0"))


def _cut(raw: Path, target: Path) -> None:
    packed(raw, "qcow2").rename(target)
    os.truncate(target, target.stat().st_size - 40_000)


@pytest.mark.parametrize(
    ("make", "said"),
    [(_backed, "names other files"), (_outside, "names other files"), (_encrypted, "is encrypted"), (_cut, "qemu-")],
)
def test_what_does_not_stand_for_itself_is_refused(
    raw: Path, make: Callable[[Path, Path], None], said: str, tmp_path: Path
) -> None:
    make(raw, tmp_path / "nasty")
    with pytest.raises(Refusal, match=f"bad-image: .*{said}"), opened(tmp_path / "nasty") as container:
        read(container)


#: What is left of a container that was cut off: a share of it, or all but so many bytes.
_LEFT = {"hardly more than its header": 0.01, "half": 0.5, "nearly all": -70_000}


@pytest.mark.parametrize("left", _LEFT.values(), ids=_LEFT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_was_cut_off_is_not_read_as_zeros(raw: Path, kind: str, left: float) -> None:
    file = packed(raw, kind)
    size = file.stat().st_size
    os.truncate(file, int(size * left) if left > 0 else size + int(left))
    with pytest.raises(Refusal, match="bad-image: "):
        opened(file, kind).__enter__()


def test_a_vhd_without_the_footer_at_its_end_was_cut_off(raw: Path) -> None:
    file = packed(raw, "vhd")
    os.truncate(file, file.stat().st_size - 512)
    with pytest.raises(Refusal, match=r"bad-image: .*cut off"):
        opened(file, "vhd").__enter__()


@pytest.mark.parametrize("make", [_described, _embedded])
def test_a_vmdk_whose_bytes_lie_in_another_file_is_refused(
    raw: Path, make: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    make(raw, tmp_path / "nasty")
    info = subprocess.run(
        ["qemu-img", "info", "-f", "vmdk", tmp_path / "nasty"], capture_output=True, text=True, check=True
    )
    assert str(raw) in info.stdout  # or it would be refused for another reason
    with pytest.raises(Refusal, match=r"bad-image: .*names other files"):
        opened(tmp_path / "nasty", "vmdk").__enter__()


def test_a_disk_that_is_larger_than_the_volume_is_refused(raw: Path) -> None:
    with pytest.raises(Refusal, match=f"too-small: the volume has {SIZE - 512} bytes, the disk {SIZE}"):
        opened(packed(raw, "qcow2"), most=SIZE - 512).__enter__()


def test_a_server_that_does_not_come_up_says_why(tmp_path: Path) -> None:
    server = _Server(str(tmp_path / "absent"), "qcow2", str(tmp_path), ())
    with pytest.raises(Refusal, match=r"bad-image: qemu-nbd: .*No such file"):
        server.export()


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("stub", [False, True], ids=["served", "before it serves"])
def test_the_server_ends_with_a_process_that_is_killed(raw: Path, tmp_path: Path, stub: bool) -> None:
    container = packed(raw, "qcow2")
    path = os.environ["PATH"]
    if stub:
        (tmp_path / "qemu-nbd").write_text("#!/bin/sh\nexec sleep 600\n")
        (tmp_path / "qemu-nbd").chmod(0o755)
        path = f"{tmp_path}:{path}"
    code = (
        "import sys, time; from ebspub.populate.imaging.container import _Server; "
        "s = _Server(sys.argv[1], 'qcow2', sys.argv[2], ()); "
        f"{'' if stub else 's.export(); '}print(s._process.pid, flush=True); time.sleep(600)"
    )
    words = [sys.executable, "-c", code, str(container), str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "PATH": path}) as process:
        assert process.stdout is not None
        server = int(process.stdout.readline())
        assert not _gone(server)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not _gone(server):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Fake:
    """A server of NBD that says what it is told to."""

    def __init__(self, *, flags: int = 3, greeting: bytes = b"NBDMAGICIHAVEOPT") -> None:
        self.ours, self._theirs = socket.socketpair()
        self._greeting, self._flags = greeting, flags
        self.answer: Callable[[list[tuple[int, int, int]]], bytes] = lambda _asked: b""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._theirs as link:
            link.sendall(self._greeting + struct.pack(">H", self._flags))
            if len(link.recv(20, socket.MSG_WAITALL)) < 20:
                return
            link.sendall(struct.pack(">QH", 1 << 20, 1) + bytes(0 if self._flags & 2 else 124))
            asked = []
            for _ in range(2):
                if len(request := link.recv(28, socket.MSG_WAITALL)) < 28:
                    return
                asked.append(struct.unpack(">8xQQI", request))
            link.sendall(self.answer(asked))

    def close(self) -> None:
        self.ours.close()
        self._thread.join()


@contextmanager
def fake(**how: int | bytes) -> Iterator[Fake]:
    server = Fake(**how)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.close()


def _reply(asked: tuple[int, int, int], error: int = 0, magic: int = 0x67446698) -> bytes:
    number, at, count = asked
    return struct.pack(">IIQ", magic, error, number) + (bytes([at % 251]) * count if not error else b"")


@pytest.mark.parametrize("flags", [1, 3])
def test_answers_may_come_in_any_order(flags: int) -> None:
    with fake(flags=flags) as server:
        server.answer = lambda asked: b"".join(_reply(each) for each in reversed(asked))
        export = Export(server.ours)
        assert export.size == 1 << 20
        first, second = memoryview(bytearray(1000)), memoryview(bytearray(500))
        numbers = [export.ask(7, first), export.ask(9, second)]
        for number in numbers:
            export.settle(number)
        assert (bytes(first), bytes(second)) == (b"\7" * 1000, b"\x09" * 500)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda asked: _reply(asked[0], error=5), "cannot read: error 5"),
        (lambda asked: _reply(asked[0], magic=1), "none"),
        (lambda asked: _reply((77, 0, 10)), "none"),
        (lambda asked: _reply(asked[0])[:-1], "gone"),
    ],
)
def test_what_is_no_answer_is_an_error(answer: Callable[[list[tuple[int, int, int]]], bytes], said: str) -> None:
    with fake() as server:
        server.answer = answer
        export = Export(server.ours)
        number = export.ask(0, memoryview(bytearray(10)))
        export.ask(10, memoryview(bytearray(10)))
        with pytest.raises(NbdError, match=said):
            export.settle(number)


@pytest.mark.parametrize("how", [{"greeting": b"SSH-2.0-OpenSSH_"}, {"flags": 0}])
def test_what_does_not_greet_as_a_server_is_none(how: dict[str, int | bytes]) -> None:
    with fake(**how) as server, pytest.raises(NbdError, match="greet"):
        Export(server.ours)
