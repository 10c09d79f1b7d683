"""The method `filesystem` against its promises, with real file systems on real devices."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from ebspub.populate import FATAL_CODES
from ebspub.remote.report import Succeeded
from tests.contract.populate.world import Image, World, dumpe2fs, features, make_image, pack, run, sha256, tree_of
from tests.support.variants import few

KINDS = ["lucid", "ext2", "precise", "ext4"]


def publish(world: World, image: Image, name: str = "image.tar.gz") -> str:
    shutil.copy(image.tarball, world.server.folder / name)
    return name


@pytest.mark.parametrize("kind", few(["lucid", "ext4"], KINDS, rest="long"))
def test_everything_in_the_tree_arrives_as_it_is(world: World, images: dict[str, Image], kind: str) -> None:
    image = images[kind]
    report = world.succeed(world.task(publish(world, image), image.sha256))
    wanted, found = tree_of(image.file), tree_of(world.volume)
    assert found == wanted
    facts = world.method.facts(report.facts)
    assert facts.files == len(wanted) - 1
    assert (facts.sha256, facts.xattrs, facts.way) == (image.sha256, "compared", "mounted")
    world.assert_clean()


@pytest.mark.parametrize("kind", few(["lucid", "ext4"], KINDS, rest="long"))
def test_the_file_system_is_the_images_own_and_fills_the_volume(
    world: World, images: dict[str, Image], kind: str
) -> None:
    image = images[kind]
    report = world.succeed(world.task(publish(world, image), image.sha256))
    source, made = dumpe2fs(image.file), dumpe2fs(world.volume)
    same = ["Filesystem volume name", "Filesystem UUID", "Block size", "Inode size", "Default mount options"]
    same += ["Default directory hash", "Errors behavior"]
    assert {key: made.get(key) for key in same} == {key: source.get(key) for key in same}
    assert features(world.volume) == features(image.file)
    assert int(made["Block count"]) * int(made["Block size"]) == 128 << 20
    assert made["Filesystem state"] == "clean"
    run("e2fsck", "-fn", world.volume)
    facts = world.method.facts(report.facts)
    assert (facts.label, facts.uuid, facts.size) == (
        source["Filesystem volume name"],
        source["Filesystem UUID"],
        128 << 20,
    )


@pytest.mark.parametrize(
    ("kind", "fs_type"),
    few([("lucid", "ext3")], [("lucid", "ext3"), ("precise", "ext4"), ("ext2", "ext2")], rest="long"),
)
def test_an_old_image_gets_no_feature_of_today(world: World, images: dict[str, Image], kind: str, fs_type: str) -> None:
    image = images[kind]
    world.succeed(world.task(publish(world, image), image.sha256))
    assert not features(world.volume) & {"64bit", "metadata_csum", "huge_file", "orphan_file", "metadata_csum_seed"}
    assert features(world.volume) == features(image.file)
    assert run("blkid", "-p", "-o", "value", "-s", "TYPE", world.volume).strip() == fs_type


def test_the_digest_is_the_trees_alone_whatever_reads_its_attributes(world: World, images: dict[str, Image]) -> None:
    image = images["ext4"]
    first = world.succeed(world.task(publish(world, image), image.sha256, attempt=1))
    with world.volume.open("r+b") as volume:
        volume.truncate(0)
        volume.truncate(128 << 20)
    without(world, "getfattr")
    second = world.succeed(world.task("image.tar.gz", image.sha256, attempt=2))
    assert first.facts["digest"] == second.facts["digest"]


@pytest.mark.long
def test_what_unpacks_the_image_does_not_change_it(world: World, images: dict[str, Image]) -> None:
    image = images["ext4"]
    without(world, "tar")
    first = world.succeed(world.task(publish(world, image), image.sha256, attempt=1))
    with world.volume.open("r+b") as volume:
        volume.truncate(0)
        volume.truncate(128 << 20)
    world.host.inside("umount $(readlink -f /usr/bin/tar)")
    without(world, "python3")
    second = world.succeed(world.task("image.tar.gz", image.sha256, attempt=2))
    assert first.facts["digest"] == second.facts["digest"]


@pytest.mark.parametrize("suffix", few([".img.gz"], [".img", ".img.gz"], rest="long"))
def test_an_image_without_an_archive_is_taken_too(world: World, images: dict[str, Image], suffix: str) -> None:
    file = world.server.folder / f"plain{suffix}"
    raw = images["lucid"].file.read_bytes()
    file.write_bytes(gzip.compress(raw, 1) if suffix.endswith("gz") else raw)
    world.succeed(world.task(file.name, sha256(file)))
    assert tree_of(world.volume) == tree_of(images["lucid"].file)


def test_a_journal_that_was_not_replayed_is_replayed_before_the_copy(world: World, tmp_path: Path) -> None:
    file = tmp_path / "dirty.img"
    make_image(file, "ext4", "-L", "dirty", nasty=False)
    freeze = 'mount -o loop "$0" "$1" && echo late >"$1/late" && sync -f "$1" && cp --sparse=always "$0" "$0.crashed"'
    (tmp_path / "mnt").mkdir()
    run("unshare", "-m", "sh", "-c", freeze, file, tmp_path / "mnt")
    crashed = tmp_path / "dirty.img.crashed"
    assert "needs_recovery" in features(crashed)
    pack(world.server.folder / "dirty.tar.gz", ("a.img", crashed))
    world.succeed(world.task("dirty.tar.gz", None))
    assert b"late".hex() in "".join(tree_of(world.volume))
    assert "needs_recovery" not in features(world.volume)


@pytest.mark.long
@pytest.mark.needs_tool("mkfs.xfs", "xfs_info")
def test_xfs_keeps_its_flags_and_its_tree(world: World, tmp_path: Path) -> None:
    file = tmp_path / "x.img"
    make_image(file, "xfs", "-L", "xroot", "-m", "crc=1,finobt=0,reflink=0,bigtime=0,inobtcount=0", size="320M")
    with world.volume.open("r+b") as volume:
        volume.truncate(400 << 20)
    run("losetup", "-c", (world.host.devices / "disk/by-id").glob("*").__next__().resolve())
    pack(world.server.folder / "x.tar.gz", ("x.img", file))
    report = world.succeed(world.task("x.tar.gz", None))
    assert tree_of(world.volume) == tree_of(file)
    assert (report.facts["fs_type"], report.facts["label"]) == ("xfs", "xroot")
    assert "bigtime=0" in run("xfs_info", world.volume)


# Without root ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", few(["lucid", "ext4"], KINDS, rest="long"))
def test_without_root_the_file_system_itself_is_carried_over(
    plain_world: World, images: dict[str, Image], kind: str
) -> None:
    image = images[kind]
    report = plain_world.succeed(plain_world.task(publish(plain_world, image), image.sha256))
    assert tree_of(plain_world.volume) == tree_of(image.file)
    source, made = dumpe2fs(image.file), dumpe2fs(plain_world.volume)
    assert features(plain_world.volume) <= features(image.file)
    assert made["Filesystem UUID"] == source["Filesystem UUID"]
    assert int(made["Block count"]) * int(made["Block size"]) == 128 << 20
    run("e2fsck", "-fn", plain_world.volume)
    assert plain_world.method.facts(report.facts).way == "blocks"
    assert plain_world.volume.stat().st_size == 128 << 20


def test_without_root_what_was_written_is_read_back(plain_world: World, images: dict[str, Image]) -> None:
    stub, real = plain_world.host.home / "dd", plain_world.host.home / "dd.real"
    shutil.copy("/usr/bin/dd", real)
    spoil = "*if=packed*) printf x | /mnt/home/dd.real of=/mnt/volume bs=1 seek=1024000 conv=notrunc ;;"
    stub.write_text(f'#!/bin/sh\n/mnt/home/dd.real "$@" || exit\ncase $* in {spoil} esac\n')
    stub.chmod(0o755)
    plain_world.host.inside(f"mount --bind {stub} /usr/bin/dd")
    report = plain_world.fail(plain_world.task(publish(plain_world, images["ext4"]), None), "verify")
    assert "not what was written" in report.message


def test_without_root_a_volume_that_is_too_small_is_told(plain_world: World, images: dict[str, Image]) -> None:
    with plain_world.volume.open("r+b") as volume:
        volume.truncate(4 << 20)
    plain_world.fail(plain_world.task(publish(plain_world, images["ext4"]), None), "too-small")


# What can be wrong with an image --------------------------------------------------------------------------------------


def bad(world: World, file: Path, code: str) -> str:
    pack(world.server.folder / "bad.tar.gz", ("a.img", file))
    report = world.fail(world.task("bad.tar.gz", None), code)
    assert code in FATAL_CODES
    world.assert_clean()
    return report.message


def test_a_disk_with_a_partition_table_is_refused(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    run("truncate", "-s", "16M", disk)
    run("sh", "-c", 'echo "label: gpt\n,8M" | sfdisk -q "$0"', disk)
    assert "partition table (gpt)" in bad(world, disk, "bad-image")


@pytest.mark.parametrize(
    ("begin", "named"),
    [
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"vhdxfile", "VHDX"),
        (b"KDMV\1\0\0\0", "VMDK"),
        (b"# Disk DescriptorFile\n", "descriptor"),
    ],
)
def test_a_disk_in_a_container_is_refused_by_its_name(world: World, tmp_path: Path, begin: bytes, named: str) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(begin + bytes(1000))
    assert named in bad(world, disk, "bad-image")


def test_an_image_of_nothing_is_refused(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    assert "no file system" in bad(world, disk, "bad-image")


def test_a_file_system_that_cannot_be_copied_is_refused(world: World, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    run("mkswap", disk)
    bad(world, disk, "unsupported-fs")


def test_a_damaged_file_system_is_refused(world: World, images: dict[str, Image], tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    shutil.copy(images["ext4"].file, disk)
    run("debugfs", "-w", "-R", "clri <2>", disk)
    assert "e2fsck" in bad(world, disk, "bad-image")


def test_a_damaged_archive_is_refused(world: World, images: dict[str, Image]) -> None:
    raw = images["lucid"].tarball.read_bytes()
    (world.server.folder / "cut.tar.gz").write_bytes(raw[: len(raw) // 2])
    world.fail(world.task("cut.tar.gz", None), "bad-image")


def test_a_damaged_image_without_an_archive_is_refused(world: World, images: dict[str, Image]) -> None:
    """The right side of the pipe that writes the image does not notice that the left one failed."""
    packed = gzip.compress(images["lucid"].file.read_bytes(), 1)
    (world.server.folder / "cut.img.gz").write_bytes(packed[:-100_000])
    assert "cannot be unpacked" in world.fail(world.task("cut.img.gz", None), "bad-image").message


def test_an_archive_without_an_image_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("nothing here")
    pack(world.server.folder / "none.tar.gz", ("README.files", tmp_path / "readme"))
    assert "no *.img" in world.fail(world.task("none.tar.gz", None), "bad-image").message


def test_an_archive_with_two_images_is_refused(world: World, images: dict[str, Image]) -> None:
    file = images["lucid"].file
    pack(world.server.folder / "two.tar.gz", ("a.img", file), ("sub/a.img", file))
    assert "2 members" in world.fail(world.task("two.tar.gz", None), "bad-image").message


def test_an_image_that_is_a_link_is_refused(world: World, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/shadow")
    pack(world.server.folder / "link.tar.gz", ("a.img", tmp_path / "link"))
    assert "no regular file" in world.fail(world.task("link.tar.gz", None), "bad-image").message


@pytest.mark.parametrize(
    "name", ["--checkpoint-action=exec=sh.img", "$(touch pwned)\n`touch pwned`.img", "-x'\"; touch pwned;.img"]
)
def test_hostile_member_names_are_only_names(world: World, images: dict[str, Image], name: str) -> None:
    pack(world.server.folder / "hostile.tar.gz", (name, images["lucid"].file))
    task = world.task("hostile.tar.gz", None)
    report = world.go(task)
    assert isinstance(report, Succeeded), report
    assert not list(world.host.folder.rglob("pwned"))
    assert tree_of(world.volume) == tree_of(images["lucid"].file)


def test_a_volume_that_is_too_small_is_told_before_it_is_touched(world: World, images: dict[str, Image]) -> None:
    with world.volume.open("r+b") as volume:
        volume.truncate(4 << 20)
    run("losetup", "-c", next((world.host.devices / "disk/by-id").iterdir()).resolve())
    report = world.fail(world.task(publish(world, images["ext4"]), None), "too-small")
    assert report.phase == "mkfs"
    assert world.volume.read_bytes() == bytes(4 << 20)


def test_a_volume_into_which_the_content_almost_fits_is_told(world: World, images: dict[str, Image]) -> None:
    with world.volume.open("r+b") as volume:
        volume.truncate(11 << 20)
    run("losetup", "-c", next((world.host.devices / "disk/by-id").iterdir()).resolve())
    world.fail(world.task(publish(world, images["lucid"]), None), "too-small")
    world.assert_clean()


def test_a_feature_that_mke2fs_does_not_know_fails_the_task(world: World, images: dict[str, Image]) -> None:
    """A builder whose mke2fs is older than the image: no file system with less than the image has is made."""
    stub = world.host.home / "mke2fs"
    stub.write_text("#!/bin/sh\necho 'Invalid filesystem option set' >&2\nexit 1\n")
    stub.chmod(0o755)
    world.host.inside(f"mount --bind {stub} /usr/sbin/mke2fs")
    world.fail(world.task(publish(world, images["ext4"]), None), "mkfs")


def test_a_feature_too_many_fails_the_task(world: World, images: dict[str, Image]) -> None:
    stub = world.host.home / "mke2fs"
    real = world.host.home / "mke2fs.real"
    shutil.copy("/usr/sbin/mke2fs", real)
    stub.write_text(f'#!/bin/sh\nfor last; do :; done\n"{real}" "$@" && tune2fs -O large_dir "$last"\n')
    stub.chmod(0o755)
    world.host.inside(f"mount --bind {stub} /usr/sbin/mke2fs")
    report = world.fail(world.task(publish(world, images["ext4"]), None), "mkfs")
    assert "large_dir" in report.message


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ('printf x >>"$tree/first"', "entries"),
        ('printf x | dd of="$tree/big" conv=notrunc bs=1 seek=1000000; touch -d @1 "$tree/big"', "entries"),
        ('setfattr -x user.comment "$tree/first"', "xattrs"),
        ('setcap -r "$tree/setuid"; setfattr -n user.x -v z "$tree/first"', "xattrs"),
        ('f=$tree/big; t=$(stat -c %y $f); echo | dd of=$f conv=notrunc bs=1 seek=9; touch -d "$t" $f', "sums"),
        ('rm "$tree/char"; mknod -m 666 "$tree/char" c 1 5; touch -r /proc/self/exe "$tree"', "entries"),
        ('mv "$tree/-rf" "$tree/-rg"', "entries"),
    ],
)  # fmt: skip
def test_a_copy_that_is_not_faithful_is_found(world: World, images: dict[str, Image], damage: str, what: str) -> None:
    spoil(world, damage)
    report = world.fail(world.task(publish(world, images["ext4"]), None), "verify")
    assert f"({what})" in report.message
    world.assert_clean()


def test_without_getfattr_an_attribute_that_is_not_kept_is_found(world: World, images: dict[str, Image]) -> None:
    without(world, "getfattr")
    spoil(world, 'setcap -r "$tree/setuid"')
    report = world.fail(world.task(publish(world, images["ext4"]), None), "verify")
    assert "(xattrs)" in report.message


def test_a_builder_that_cannot_read_attributes_says_so_before_anything_is_written(
    world: World, images: dict[str, Image]
) -> None:
    without(world, "getfattr", "python3")
    report = world.fail(world.task(publish(world, images["ext4"]), None), "builder")
    assert "install attr on its image" in report.message
    assert world.volume.stat().st_blocks == 0


def without(world: World, *programs: str) -> None:
    """Take programs from the builder's view."""
    empty = world.host.home / "absent"
    empty.write_text("")
    for name in programs:
        world.host.inside(f"mount --bind {empty} $(readlink -f /usr/bin/{name})")


def spoil(world: World, damage: str) -> None:
    """Replace cp by one that then spoils a single thing."""
    real = world.host.home / "cp.real"
    shutil.copy("/bin/cp", real)
    stub = world.host.home / "cp"
    stub.write_text(
        f'#!/bin/sh\n"{real}" "$@" || exit\n'
        f"case $* in *target/*) tree=target; {{ {damage}; }} >/dev/null 2>&1 ;; esac\nexit 0\n"
    )
    stub.chmod(0o755)
    world.host.inside(f"mount --bind {stub} /usr/bin/cp")


def test_a_cp_that_fails_fails_the_task(world: World, images: dict[str, Image]) -> None:
    stub = world.host.home / "cp"
    stub.write_text(
        '#!/bin/sh\ncase $* in *target/*) echo "cp: cannot read" >&2; exit 1 ;; esac\nexec /bin/cp.real "$@"\n'
    )
    real = world.host.home / "cp.real"
    shutil.copy("/bin/cp", real)
    stub.write_text(stub.read_text().replace("/bin/cp.real", str(real)))
    stub.chmod(0o755)
    world.host.inside(f"mount --bind {stub} /usr/bin/cp")
    report = world.fail(world.task(publish(world, images["ext4"]), None), "copy")
    assert "cannot read" in report.message
