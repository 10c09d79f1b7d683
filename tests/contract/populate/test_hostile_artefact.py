"""An artefact that means harm: what it holds never becomes a command, a file outside, or hours of work."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ebspub.populate import FATAL_CODES
from ebspub.remote.report import Failed
from tests.contract.populate.world import Image, World, dumpe2fs, make_image, run, sha256, tree_of

pytestmark = pytest.mark.long
MEBI = 1 << 20
#: Of a bare file system's superblock: where it begins, and its fields of free text (offset, length).
SUPER = 1024
FIELDS = {"volume name": (120, 16), "last mounted on": (136, 64), "mount options": (512, 64)}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, images: dict[str, Image]) -> Path:
    """An image of 2 MiB; asks for ``images`` because that knows what is needed."""
    file = tmp_path_factory.mktemp("small") / "s.img"
    make_image(file, "ext2", "-L", "small", size="2M", nasty=False)
    run("debugfs", "-w", "-R", "write /etc/hostname AAAAAAAAAAAAAAAA", file)
    return file


@pytest.fixture
def tiny(world: World) -> World:
    """The builder of `conftest` with a volume of 4 MiB, for which no artefact may unpack to more than 64 MiB."""
    with world.volume.open("r+b") as volume:
        volume.truncate(4 * MEBI)
    run("losetup", "-c", next((world.host.devices / "disk/by-id").iterdir()).resolve())
    return world


Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: Any) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def publish(world: World, *members: Member) -> str:
    file = world.server.folder / "hostile.tar.gz"
    with gzip.open(file, "wb", 1) as packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return file.name


def refused(world: World, name: str, code: str) -> Failed:
    report = world.fail(world.task(name, None), code)
    assert code in FATAL_CODES
    assert not any(world.volume.read_bytes())
    return report


# The archive ----------------------------------------------------------------------------------------------------------


def test_what_else_is_in_the_archive_is_never_unpacked(world: World, small: Path) -> None:
    """Names outside, names of the task's own files, links and devices: only the one image is read, by no name."""
    evil = b"touch pwned\n"
    own = ["parameters", "script", "runner", "result", "failure", "facts", "progress", "leader", "./artefact", "image"]
    outside = ["/tmp/ebspub-pwned", "../../pwned", "-pwned", "$(touch pwned)", "a\nb'\"`touch pwned`", "x/" * 50 + "y"]
    task_name = publish(
        world,
        *(member(name, evil) for name in (*own, *outside)),
        member("door", kind=tarfile.SYMTYPE, linkname="/tmp"),
        member("door/ebspub-pwned", evil),
        member("shadow", kind=tarfile.LNKTYPE, linkname="/etc/shadow"),
        member("disk", kind=tarfile.BLKTYPE, devmajor=7, devminor=0),
        member("pipe", kind=tarfile.FIFOTYPE),
        member("/tmp/ebspub-pwned/-rf $(touch pwned)\n'\".img", small.read_bytes(), mode=0o6777),
    )
    report = world.succeed(world.task(task_name, sha256(world.server.folder / task_name)))
    assert tree_of(world.volume) == tree_of(small)
    assert world.method.facts(report.facts).label == "small"
    assert not list(world.host.folder.rglob("*pwned*"))
    assert not Path("/tmp/ebspub-pwned").exists()
    assert not [path for path in world.host.home.rglob("*") if path.is_symlink() or path.is_fifo()]


def test_an_image_whose_name_leads_upwards_is_refused(world: World, small: Path) -> None:
    refused(world, publish(world, member("../a.img", small.read_bytes())), "bad-image")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        (tarfile.LNKTYPE, {"linkname": "/etc/shadow"}),
        (tarfile.SYMTYPE, {"linkname": "/etc/shadow"}),
        (tarfile.BLKTYPE, {"devmajor": 7, "devminor": 0}),
        (tarfile.CHRTYPE, {"devmajor": 1, "devminor": 5}),
        (tarfile.FIFOTYPE, {}),
        (tarfile.DIRTYPE, {}),
    ],
)
def test_an_image_that_is_no_regular_file_is_refused(world: World, kind: bytes, more: dict[str, Any]) -> None:
    report = refused(world, publish(world, member("a.img", kind=kind, **more)), "bad-image")
    assert "no regular file" in report.message


def test_an_image_that_says_any_size_is_refused_before_a_byte_is_written(tiny: World) -> None:
    """A sparse member of a few bytes stands for exbibytes of zeros."""
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a.img"}
    sparse["GNU.sparse.realsize"] = str(1 << 62)
    name = publish(tiny, member("GNUSparseFile.0/a.img", b"0\n".ljust(512, b"\0"), pax_headers=sparse))
    report = refused(tiny, name, "too-large")
    assert f"more than {64 * MEBI} bytes" in report.message


def test_an_archive_that_unpacks_to_anything_is_refused(tiny: World, small: Path) -> None:
    name = publish(tiny, member("s.img", small.read_bytes()), member("bomb", bytes(66 * MEBI)))
    assert "the archive unpacks to more than" in refused(tiny, name, "too-large").message


def test_an_image_without_an_archive_that_unpacks_to_anything_is_refused(tiny: World) -> None:
    (tiny.server.folder / "bomb.img.gz").write_bytes(gzip.compress(bytes(66 * MEBI), 1))
    assert "the artefact unpacks to more than" in refused(tiny, "bomb.img.gz", "too-large").message


# The image ------------------------------------------------------------------------------------------------------------


def patched(world: World, image: Path, *changes: tuple[int, bytes]) -> str:
    """Publish the image with other bytes in some places."""
    content = bytearray(image.read_bytes())
    for place, new in changes:
        content[place : place + len(new)] = new
    file = world.server.folder / "patched.img"
    file.write_bytes(content)
    return file.name


@pytest.fixture(params=["dash", "bash"])
def by_shell(request: pytest.FixtureRequest, world: World) -> World:
    """A builder whose sh is dash (Debian, Ubuntu), or bash (all others): that one runs commands in arithmetic."""
    if request.param == "bash":
        world.host.inside("mount --bind /bin/bash $(readlink -f /bin/sh)")
        assert "bash" in world.host.inside("sh --version")
    return world


@pytest.mark.needs_tool("bash")
def test_a_superblock_cannot_smuggle_a_command_into_arithmetic(by_shell: World, small: Path) -> None:
    text = b"/\nFree blocks: PATH[$(touch $HOME/pwned)]\n"
    report = refused(by_shell, patched(by_shell, small, (SUPER + FIELDS["last mounted on"][0], text)), "bad-image")
    assert "forged field: Free blocks" in report.message
    assert not list(by_shell.host.folder.rglob("pwned"))


@pytest.mark.parametrize("field", FIELDS)
def test_no_free_text_of_a_superblock_passes_for_another_field(world: World, small: Path, field: str) -> None:
    place, length = FIELDS[field]
    text = b"\nBlock count: 1" if length < 20 else b"\nInode count: 9\nBlock count: 1\n"
    report = refused(world, patched(world, small, (SUPER + place, text.ljust(length, b"\0"))), "bad-image")
    assert "forged field: Block count" in report.message


@pytest.mark.needs_tool("bash")
@pytest.mark.parametrize("label", ["$(id)`id`\";'", "-O -L $HOME *,=:"])
def test_a_label_is_only_a_label(by_shell: World, small: Path, label: str) -> None:
    place, length = FIELDS["volume name"]
    name = patched(by_shell, small, (SUPER + place, label.encode().ljust(length, b"\0")))
    report = by_shell.succeed(by_shell.task(name, None))
    assert dumpe2fs(by_shell.volume)["Filesystem volume name"] == label
    assert by_shell.method.facts(report.facts).label == label


@pytest.mark.parametrize("name", [b"../../../pwned", b"/tmp/pwned", b"..\0"])
def test_a_name_that_is_a_path_is_refused(world: World, small: Path, name: bytes) -> None:
    content = small.read_bytes()
    place = content.index(b"A" * 16)
    refused(world, patched(world, small, (place, name.ljust(16, b"x"))), "bad-image")


#: Places and values of superblock numbers that make careless arithmetic divide by zero, or wrap.
NUMBERS = {"no blocks": (4, "<I", 0), "no inodes": (0, "<I", 0), "huge blocks": (24, "<I", 32)}


@pytest.mark.parametrize("what", NUMBERS)
def test_absurd_numbers_are_refused_or_mended(world: World, small: Path, what: str) -> None:
    place, kind, value = NUMBERS[what]
    report = world.go(world.task(patched(world, small, (SUPER + place, struct.pack(kind, value))), None))
    if isinstance(report, Failed):
        assert report.code in ("bad-image", "unsupported-fs"), report
        assert not any(world.volume.read_bytes())
    else:  # e2fsck has counted anew
        assert tree_of(world.volume) == tree_of(small)
