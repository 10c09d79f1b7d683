"""What the tests of volumes with partitions share: tasks for them, and ways to look into them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

from ebspub.remote.detached import Task
from ebspub.spec import JobSpec
from tests.contract.populate.world import VOLUME, World, job_spec, run, tree_of

MIB = 1 << 20
SIZE = 640 * MIB
ROOT = 227328 * 512
ESP = 10240 * 512


def backed_by(device: Path) -> str:
    """Return the loop devices over parts of ``device`` that are left, after the moment that the kernel takes."""
    deadline = time.monotonic() + 15
    while (left := run("losetup", "-n", "-O", "NAME", "-j", device)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


BootMode = Literal["legacy-bios", "uefi", "uefi-preferred"] | None
Arch = Literal["amd64", "arm64", "i386"]


def hvm_spec(url: str, boot_mode: BootMode, arch: Arch) -> JobSpec:
    """Return a job for HVM."""
    spec = job_spec(url, None)
    architecture = "x86_64" if arch == "amd64" else arch
    how = {"architecture": architecture, "virtualization": "hvm", "boot_mode": boot_mode}
    registration = spec.registration.model_copy(update=how)
    return spec.model_copy(update={"registration": registration, "arch": arch})


def hvm_task(world: World, image: Path, boot_mode: BootMode = "uefi-preferred", arch: Arch = "amd64") -> Task:
    """Return the work that makes a disk of ``image``."""
    target = world.server.folder / "image.img"
    if not target.exists():
        target.symlink_to(image)
    spec = hvm_spec(world.server.url("image.img"), boot_mode, arch)
    return world.method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=1)


def partitions(volume: Path) -> dict[int, dict[str, Any]]:
    table = json.loads(run("sfdisk", "--json", volume))["partitiontable"]
    assert table["label"] == "gpt"
    return {int(one["node"].removeprefix(str(volume)).removeprefix("p")): one for one in table["partitions"]}


def start_of(volume: Path, size: int) -> bytes:
    with volume.open("rb") as file:
        return file.read(size)


def in_root(volume: Path, *command: str | Path) -> bytes:
    """Return what a command prints in the mounted root partition."""
    # Not mount's own loop: it takes no part of a file that is in use as a whole. What is mounted ends with the command.
    script = (
        'offset=$1 volume=$2 && cd "$3" && shift 3 && device=$(losetup -f --show -r -o "$offset" "$volume") || exit\n'
        'mount -o ro "$device" .; losetup -d "$device"; cd "$PWD" && exec "$@"'
    )
    folder = volume.parent / "root.mnt"
    folder.mkdir(exist_ok=True)
    words = ["unshare", "-m", "sh", "-c", script, "sh", str(ROOT), volume, folder, *command]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def readable(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree of ``tree.describe`` by names that can be read."""
    return {bytes.fromhex(name).decode("utf-8", "surrogateescape"): entry for name, entry in tree.items()}


def root_tree(volume: Path) -> dict[str, Any]:
    """Return the tree in the root partition."""
    return readable(json.loads(in_root(volume, sys.executable, Path(__file__).parent / "tree.py", "describe", ".")))


def image_tree(image: Path) -> dict[str, Any]:
    return readable(tree_of(image))


def others(tree: dict[str, Any], changed: str) -> dict[str, Any]:
    """Return what no path in ``changed`` holds; folders without their count of folders."""
    parts = [f"/{path}" for path in changed.split()]
    kept = {
        name: entry for name, entry in tree.items() if not any(name == p or name.startswith(f"{p}/") for p in parts)
    }
    return {name: [e[0], [*e[1][:2], *e[1][3:]], *e[2:]] if e[0].startswith("0o4") else e for name, e in kept.items()}


def content_of(volume: Path, path: str) -> bytes:
    """Return a file of the root partition."""
    return in_root(volume, "cat", path)


def esp_files(volume: Path, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(["mcopy", "-i", f"{volume}@@{ESP}", "-s", "-n", "::/EFI", folder], check=True, env=environment)
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace(world: World, program: str, text: str) -> None:
    """Put a script in a program's place on the builder."""
    path = shutil.which(program)
    assert path
    real, stub = world.host.home / "real" / program, world.host.home / f"{program}.stub"
    real.parent.mkdir(exist_ok=True)
    shutil.copy(path, real)
    stub.write_text(text.format(real=real, home=world.host.home))
    stub.chmod(0o755)
    world.host.inside(f"mount --bind {stub} $(readlink -f {path})")


def without(image: Path, folder: Path, *paths: str) -> Path:
    """Return a copy of an ext4 image without these files."""
    copy = folder / "less.img"
    run("cp", "--sparse=always", image, copy)
    for path in paths:
        run("debugfs", "-w", "-R", f"rm {path}", copy)
    run("e2fsck", "-fp", copy)
    return copy
