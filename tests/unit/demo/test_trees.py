"""A difference of every kind is planted in a copy of a tree, and found: alone, and in words."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ebspub.demo.trees import ImageError, differences, from_ext, mounted, snapshot

TIME = 1_287_532_800_123_456_789
#: Version; then user, a named user, group, a named group, mask, others.
KERNEL_ACL = bytes.fromhex(
    "02000000 01000700ffffffff 02000700e8030000 04000500ffffffff 0800050046000000 10000700ffffffff 20000500ffffffff"
)
CAPABILITY = bytes.fromhex("0100000200200000" + "00" * 12)
is_root = os.geteuid() == 0


def make_tree(root: Path) -> Path:
    """Make a tree with one entry of every kind that this user may make."""
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "file").write_bytes(b"content\n" * 1000)
    (root / "same").write_bytes(b"same")
    os.link(root / "same", root / "folder" / "linked")
    (root / os.fsdecode(b"n\xff\n'\"")).write_bytes(b"nasty")
    (root / ("n" * 255)).write_bytes(b"long")
    (root / "link").symlink_to("folder/inner")
    (root / "slow").symlink_to("s" * 200)
    os.mkfifo(root / "fifo")
    with (root / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(8 << 20)
        file.write(b"end")
    os.setxattr(root / "file", "user.note", b'quo"ted')
    os.setxattr(root / "file", "user.long", bytes(range(256)) * 2)
    if is_root:
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
        os.setxattr(root / "folder", "trusted.secret", b"root only")
        os.setxattr(root / "folder", "system.posix_acl_access", KERNEL_ACL)
        os.setxattr(root / "folder", "system.posix_acl_default", KERNEL_ACL)
        os.setxattr(root / "same", "security.capability", CAPABILITY)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)
    os.utime(root, ns=(TIME, TIME))
    return root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source")


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-a", "--", source, tmp_path / "copy"], check=True)
    return tmp_path / "copy"


def touch_back(path: Path) -> None:
    os.utime(path, ns=(TIME, TIME), follow_symlinks=False)


def test_a_faithful_copy_has_no_differences(source: Path, copy: Path) -> None:
    assert differences(snapshot(source), snapshot(copy)) == []


def remove(path: Path) -> None:
    path.unlink()
    touch_back(path.parent)


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4000)
        file.write(b"X")
    touch_back(path)


def grow(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1)
    touch_back(path)


def fill_holes(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    touch_back(path)


def break_link(path: Path) -> None:
    data, status = path.read_bytes(), path.stat()
    attributes = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    path.unlink()
    path.write_bytes(data)
    path.chmod(status.st_mode & 0o7777)
    for name, value in attributes.items():
        os.setxattr(path, name, value)
    touch_back(path)
    touch_back(path.parent)


def retarget(path: Path) -> None:
    path.unlink()
    path.symlink_to("folder/other")
    touch_back(path)
    touch_back(path.parent)


def become_a_file(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"")
    touch_back(path)
    touch_back(path.parent)


def another_device(path: Path) -> None:
    path.unlink()
    os.mknod(path, 0o20666, os.makedev(1, 5))
    path.chmod(0o644)
    touch_back(path)
    touch_back(path.parent)


ANYBODY: list[tuple[str, Callable[[Path], object], str]] = [
    ("file", remove, "file: missing"),
    ("n" * 255, remove, "n" * 255 + ": missing"),
    ("file", flip_a_byte, "file: content differs"),
    ("file", lambda path: path.chmod(0o4755), "file: mode is 4755 instead of 0644"),
    ("folder/inner", lambda path: path.chmod(0o1777), "folder/inner: mode is 1777 instead of 0755"),
    (
        "file",
        lambda path: os.utime(path, ns=(1, TIME + 1)),
        f"file: modification time in ns is {TIME + 1} instead of {TIME}",
    ),
    (
        "link",
        lambda path: os.utime(path, ns=(1, 1), follow_symlinks=False),
        f"link: modification time in ns is 1 instead of {TIME}",
    ),
    (".", lambda path: os.utime(path, ns=(1, 1)), f".: modification time in ns is 1 instead of {TIME}"),
    ("link", retarget, "link: link target is folder/other instead of folder/inner"),
    ("fifo", become_a_file, "fifo: is a file instead of a fifo"),
    ("sparse", fill_holes, "sparse: holes were filled: takes 8392704 bytes on the disk instead of 8192"),
    (
        "file",
        lambda path: os.removexattr(path, "user.note"),
        "file: attribute user.note is None instead of b'quo\"ted'",
    ),
    ("file", lambda path: os.setxattr(path, "user.new", b"1"), "file: attribute user.new is b'1' instead of None"),
]
"""What is done to which entry of the copy, and the one line that tells so."""

ROOT: list[tuple[str, Callable[[Path], object], str]] = [
    ("file", lambda path: os.chown(path, 7, -1), "file: owner is 7 instead of 0"),
    ("link", lambda path: os.lchown(path, -1, 70000), "link: group is 70000 instead of 0"),
    ("null", another_device, "null: device number is (1, 5) instead of (1, 3)"),
    ("same", lambda path: os.removexattr(path, "security.capability"), "same: attribute security.capability is None"),
    ("folder", lambda path: os.removexattr(path, "trusted.secret"), "folder: attribute trusted.secret is None"),
    (
        "folder",
        lambda path: os.removexattr(path, "system.posix_acl_default"),
        "folder: attribute system.posix_acl_default is",
    ),
]
"""The same, for what only root can do; the line may be cut short."""


@pytest.mark.parametrize(("name", "plant", "line"), ANYBODY, ids=[line[:40] for _, _, line in ANYBODY])
def test_a_planted_change_is_found_alone(
    source: Path, copy: Path, name: str, plant: Callable[[Path], object], line: str
) -> None:
    plant(copy / name)
    found = differences(snapshot(source), snapshot(copy))
    if "holes" in line:  # how much the disk takes depends on its file system
        line, found = line.partition(":")[0], [one.partition(":")[0] for one in found]
    assert found == [line]


@pytest.mark.needs_root
@pytest.mark.parametrize(("name", "plant", "line"), ROOT, ids=[line[:40] for _, _, line in ROOT])
def test_a_change_that_only_root_can_plant_is_found(
    source: Path, copy: Path, name: str, plant: Callable[[Path], object], line: str
) -> None:
    plant(copy / name)
    found = differences(snapshot(source), snapshot(copy))
    assert {one[: len(line)] for one in found} in ({line}, {line, line.replace("same:", "folder/linked:")[: len(line)]})


def test_a_file_that_is_too_many_is_found(source: Path, copy: Path) -> None:
    (copy / "folder" / "extra\n").write_bytes(b"")
    touch_back(copy / "folder")
    assert differences(snapshot(source), snapshot(copy)) == ["folder/extra\\n: not in the source"]


def test_a_size_that_changed_is_found(source: Path, copy: Path) -> None:
    grow(copy / "file")
    found = differences(snapshot(source), snapshot(copy))
    assert found == ["file: content differs", "file: size is 8001 instead of 8000"]


def test_a_broken_hard_link_is_found_on_every_name_of_it(source: Path, copy: Path) -> None:
    break_link(copy / "same")
    assert differences(snapshot(source), snapshot(copy)) == [
        "folder/linked: hard links is [] instead of ['folder/linked', 'same']",
        "same: hard links is [] instead of ['folder/linked', 'same']",
    ]


def test_holes_that_were_dug_are_no_difference(source: Path, copy: Path) -> None:
    fill_holes(source / "sparse")
    assert differences(snapshot(source), snapshot(copy)) == []


def test_lost_and_found_is_ignored_but_not_what_is_in_it(source: Path, copy: Path) -> None:
    (copy / "lost+found").mkdir()
    touch_back(copy)
    assert differences(snapshot(source), snapshot(copy)) == []
    (copy / "lost+found" / "#12").write_bytes(b"lost")
    assert differences(snapshot(source), snapshot(copy)) == ["lost+found/#12: not in the source"]


def test_paths_longer_than_the_kernel_takes_are_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 255, dir_fd=fd)
        deeper = os.open("d" * 255, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open("last", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    assert b"/".join([b"d" * 255] * 20 + [b"last"]) in snapshot(tmp_path)
    shutil.rmtree(tmp_path)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        snapshot(tmp_path / "nothing")


def make_image(tree: Path, image: Path, *options: str) -> Path:
    """Make an image whose free blocks are full of rubbish, as those of a disk that was in use are."""
    image.write_bytes(b"rubbish!" * (8 << 20))
    subprocess.run(["mke2fs", "-q", "-F", "-E", "nodiscard", *options, "-d", tree, image], check=True)
    debugfs(image, f"set_inode_field <2> mtime @{TIME // 10**9}")  # mke2fs says now, of the root
    return image


def debugfs(image: Path, command: str) -> None:
    done = subprocess.run(["debugfs", "-w", "-R", command, image], check=True, capture_output=True, text=True)
    assert done.stderr.count("\n") == 1, done.stderr


FILE_SYSTEMS = {
    "ext4": ("-t", "ext4"),
    "ext4 of 1 KiB blocks": ("-t", "ext4", "-b", "1024"),
    "ext3 of 2010": ("-t", "ext3", "-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super"),
    "ext2": ("-t", "ext2", "-I", "256"),
}


@pytest.mark.needs_tool("mke2fs", "debugfs")
@pytest.mark.needs_loop
@pytest.mark.parametrize("options", FILE_SYSTEMS.values(), ids=FILE_SYSTEMS)
@pytest.mark.parametrize("offset", [0, 1 << 20])
def test_debugfs_and_the_kernel_see_the_same_image(
    source: Path, tmp_path: Path, options: tuple[str, ...], offset: int
) -> None:
    (source / "long-file").write_bytes(os.urandom(3_000_000))
    (source / "hole").touch()
    os.truncate(source / "hole", 40_000)
    image = make_image(source, tmp_path / "image", *options)
    debugfs(image, "set_inode_field link mtime 0xfffffff0")  # before the epoch
    if "-I" in options or "ext4" in options:
        debugfs(image, "set_inode_field fifo mtime_extra 0x1d6f3455")  # after 2038
    if "ext4" in options:
        debugfs(image, "fallocate hole 0 9")  # blocks that were never written
    if offset:
        image.write_bytes(bytes(offset) + image.read_bytes())
    with mounted(image, offset=offset) as root:
        seen = snapshot(root)
    read = from_ext(image, offset=offset)
    assert dict(read) == dict(seen)
    changed = [line for line in differences(snapshot(source), read) if "time in ns" not in line]
    assert changed == [], "mke2fs -d keeps all but nanoseconds"


@pytest.mark.needs_tool("mke2fs", "debugfs")
def test_an_image_is_compared_without_root(source: Path, copy: Path, tmp_path: Path) -> None:
    flip_a_byte(copy / "file")
    found = differences(
        from_ext(make_image(source, tmp_path / "a")), from_ext(make_image(copy, tmp_path / "b", "-t", "ext4"))
    )
    assert found == ["file: content differs"]


@pytest.mark.needs_tool("mke2fs", "debugfs")
def test_an_image_whose_journal_is_not_empty_is_refused(source: Path, tmp_path: Path) -> None:
    image = make_image(source, tmp_path / "image", "-t", "ext4")
    subprocess.run(["debugfs", "-w", "-R", "feature needs_recovery", image], check=True, capture_output=True)
    with pytest.raises(ImageError, match="needs_recovery"):
        from_ext(image)


def loops_of(image: Path) -> str:
    return subprocess.run(["losetup", "-j", image], check=True, capture_output=True, text=True).stdout


@pytest.mark.needs_loop
def test_a_mount_ends_with_its_context_even_by_an_error(source: Path, tmp_path: Path) -> None:
    image = make_image(source, tmp_path / "image")
    with pytest.raises(KeyError, match=r"same .*image"), mounted(image) as root:
        raise KeyError(f"{(root / 'same').read_text()} {loops_of(image)}")
    assert loops_of(image) == ""


@pytest.mark.needs_loop
def test_a_mount_is_seen_by_nobody_else_and_ends_with_its_holder(source: Path, tmp_path: Path) -> None:
    image = make_image(source, tmp_path / "image")
    holding = mounted(image)
    holder = int(holding.__enter__().parts[2])
    loop = loops_of(image).partition(":")[0]
    assert loop.startswith("/dev/loop")
    assert f"{loop} " not in Path("/proc/self/mounts").read_text()
    os.kill(holder, signal.SIGKILL)
    with pytest.raises(ImageError):
        holding.__exit__(None, None, None)
    wait_until(lambda: not loops_of(image))


@pytest.mark.needs_loop
def test_a_mount_ends_when_its_process_is_killed(source: Path, tmp_path: Path) -> None:
    image = make_image(source, tmp_path / "image")
    script = (
        "import os, pathlib, signal, sys\nfrom ebspub.demo.trees import mounted\n"
        "with mounted(pathlib.Path(sys.argv[1])) as root:\n"
        "    print((root / 'same').read_text(), root.parts[2], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, image], capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    assert killed.stdout.startswith("same ")
    holder = Path("/proc", killed.stdout.split()[1])
    wait_until(lambda: not holder.exists() and not loops_of(image))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
