"""Published trees without a file system of their own: root tarballs and squashfs, by the method `filesystem`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.populate.hvm import hvm_task, others, readable, root_tree
from tests.contract.populate.world import World, dumpe2fs, run, tree_of
from tests.support.variants import few

_TREE = Path(__file__).parent / "tree.py"
_PACK = ("tar", "-C", "{tree}", "--format=posix", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-cf")


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory, small_tree: Path) -> Path:
    """A folder with a whole small system and hard cases; not to be changed."""
    folder = tmp_path_factory.mktemp("planted") / "tree"
    run("cp", "-a", small_tree, folder)
    (folder / "srv").mkdir()
    run(sys.executable, _TREE, "plant", folder / "srv")
    (folder / "srv/socket").unlink()  # no archive keeps those
    return folder


def described(tree: Path) -> dict[str, Any]:
    return readable(json.loads(run(sys.executable, _TREE, "describe", tree)))


def packed(tree: Path, file: Path, *compress: str) -> Path:
    command = [word.format(tree=tree) for word in _PACK]
    run(*command, file, *compress, ".")
    return file


@pytest.mark.parametrize(
    ("suffix", "option"),
    few([("zst", "--zstd")], [("gz", "--gzip"), ("xz", "--use-compress-program=xz -0"), ("zst", "--zstd")]),
)
def test_a_root_tarball_becomes_the_file_system_that_its_fstab_names(
    hvm_world: World,
    planted: Path,
    suffix: str,
    option: str,
) -> None:
    packed(planted, hvm_world.server.folder / f"root.tar.{suffix}", option)
    report = hvm_world.succeed(hvm_world.task(f"root.tar.{suffix}", None))
    facts = hvm_world.method.facts(report.facts)
    assert (facts.fs_type, facts.label, facts.way) == ("ext4", "cloudimg-rootfs", "mounted")
    assert readable(tree_of(hvm_world.volume)) == described(planted)
    assert dumpe2fs(hvm_world.volume)["Filesystem UUID"] == facts.uuid
    run("e2fsck", "-fn", hvm_world.volume)
    hvm_world.assert_clean()


@pytest.mark.needs_tool("mksquashfs")
def test_a_squashfs_becomes_a_disk_that_boots(hvm_world: World, planted: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    run("cp", "-a", planted, tree)
    (tree / "etc/fstab").write_text("UUID=0A1B2C3D-1111-2222-3333-444455556666 / ext3 defaults 0 1\n")
    image = tmp_path / "root.squashfs"
    run("mksquashfs", tree, image, "-quiet", "-no-progress", "-comp", "gzip", "-Xcompression-level", "1")
    report = hvm_world.succeed(hvm_task(hvm_world, image))
    facts = hvm_world.method.facts(report.facts)
    assert (facts.fs_type, facts.label, facts.grub_cfg) == ("ext3", "cloudimg-rootfs", "own")
    assert facts.uuid == "0a1b2c3d-1111-2222-3333-444455556666"
    wanted = readable(tree_of(image))
    assert others(root_tree(hvm_world.volume), facts.changed) == others(wanted, facts.changed)
    hvm_world.assert_clean()


def test_an_archive_that_holds_no_system_is_refused(hvm_world: World, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    shutil.copy(__file__, tmp_path / "tree/some-file")
    packed(tmp_path / "tree", hvm_world.server.folder / "x.tar.gz", "--gzip")
    report = hvm_world.fail(hvm_world.task("x.tar.gz", None), "bad-image")
    assert "no root file system" in report.message
    assert hvm_world.volume.stat().st_blocks == 0


def test_a_tarball_that_is_cut_short_is_refused(hvm_world: World, planted: Path) -> None:
    file = packed(planted, hvm_world.server.folder / "root.tar.gz", "--gzip")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    hvm_world.fail(hvm_world.task("root.tar.gz", None), "bad-image")
    assert hvm_world.volume.stat().st_blocks == 0
