"""A real root file system becomes a disk that boots with its own boot loader, and that disk is published as a whole.

What the filesystem method made is published again as a whole, on larger volumes: what the disk method makes of it
(and has grown), and what the direct method makes of it, boots under BIOS and under UEFI, packed in a container or not.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from ebspub.demo.image import serve
from ebspub.demo.trees import Tree, differences, mounted, snapshot
from ebspub.demo.verify import tree_of
from tests.local.disks import configure
from tests.local.publisher import Publisher
from tests.local.real import publish_debian
from tests.support.images import real_image
from tests.support.qemu import boot_disk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first run makes a Debian with debootstrap; the boots are emulated
    pytest.mark.needs_loop,
    pytest.mark.needs_tool("debootstrap", "qemu-system-x86_64", "sfdisk", "mcopy", "mkfs.vfat", "zstd"),
]
#: Where root lies, in bytes (see populate/gpt.sh).
ROOT = 227328 * 512
#: How a whole disk is packed: as a container, which wants random access, or as something to be streamed.
_PACK = {
    "qcow2": ("qemu-img", "convert", "-f", "raw", "-O", "qcow2"),
    "zst": ("zstd", "-q", "-1", "-o"),
    "raw": ("cp", "--sparse=always"),
}
_HVM = ('virtualization = "paravirtual"', 'virtualization = "hvm"\namd64.boot_mode = "uefi-preferred"')


def unchanged(tree: Tree, changed: list[str]) -> Tree:
    """Return the entries that installing a boot loader must leave alone."""
    folders = tuple(f"{path}/".encode() for path in changed)
    return {path: entry for path, entry in tree.items() if not (path + b"/").startswith(folders)}


def published_again(publisher: Publisher, disk: Path, mirror: Path, method: str, form: str) -> Path:
    """Publish a disk again as a whole, on a larger volume; return that snapshot."""
    artefact = mirror / f"{method}.{form}"
    words = (artefact, disk) if form == "zst" else (disk, artefact)
    subprocess.run([*_PACK[form], *words], check=True)
    with serve(mirror) as url:
        configure(publisher, artefact, url, method, build=method, size=3)
        done = publisher.call("run", timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    job = next(job for job in publisher.status() if job["build"] == method)
    assert job["facts"]["content"] == ("qcow2" if (method, form) == ("disk", "qcow2") else "disk")
    assert job["facts"].get("grown") == {"disk": "root", "direct": None}[method]
    return publisher.cloud.snapshot_path(job["snapshot_id"])


def test_debian_is_published_for_hvm_and_boots_from_its_own_disk_under_both_firmwares(
    publisher: Publisher, tmp_path: Path
) -> None:
    real = real_image()
    mirror = tmp_path / "mirror"
    done = publish_debian(publisher, mirror, _HVM)

    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = publisher.status()
    facts = job["facts"]
    assert (facts["boot_loader"], facts["grub_cfg"]) == ("bios uefi", "own")
    published = publisher.cloud.snapshot_path(job["snapshot_id"])
    whole = published_again(publisher, published, mirror, "disk", "qcow2")
    direct = published_again(publisher, published, mirror, "direct", "zst")
    with ThreadPoolExecutor() as pool:  # two machines, emulated on a processor each
        boots = {
            "bios": pool.submit(partial(boot_disk, whole, "bios")),
            "uefi": pool.submit(partial(boot_disk, direct, "uefi")),
        }
        changed = facts["changed"].split()
        assert {"boot/grub", "boot/efi", "etc/fstab"} <= set(changed)
        source = unchanged(tree_of(real.image), changed)
        with mounted(published, offset=ROOT) as root:
            tree = unchanged(snapshot(root), changed)
        logs = {firmware: boot.result() for firmware, boot in boots.items()}
    assert len(source) > 5000
    assert differences(source, tree) == []
    for firmware, log in logs.items():
        assert "ebspub-test login:" in log
        assert ("efi: EFI v2" in log) == (firmware == "uefi")
        assert f"root=UUID={facts['uuid']}" in log
    # The image's fstab finds the EFI system partition.
    assert "Mounted" in logs["bios"].split("/boot/efi")[-2]


@pytest.mark.long
def test_each_method_boots_under_the_other_firmware_from_the_other_form(publisher: Publisher, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    done = publish_debian(publisher, mirror, _HVM)
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = publisher.status()
    published = publisher.cloud.snapshot_path(job["snapshot_id"])
    whole = published_again(publisher, published, mirror, "disk", "raw")
    direct = published_again(publisher, published, mirror, "direct", "qcow2")
    with ThreadPoolExecutor() as pool:
        logs = list(pool.map(boot_disk, (whole, direct), ("uefi", "bios")))
    for log in logs:
        assert "ebspub-test login:" in log
    assert ["efi: EFI v2" in log for log in logs] == [True, False]
