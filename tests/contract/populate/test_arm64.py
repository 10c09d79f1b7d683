"""A real Debian for arm64 is made bootable by its own programs, and boots.

Its builder runs them by emulation: that is a builder for arm64 but for its speed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Need
from tests.contract.populate.hvm import backed_by, hvm_task, image_tree, others, partitions, root_tree
from tests.contract.populate.world import BY_ID, Server, World, left_loops
from tests.support.foreign import BINFMT, EMULATOR, running_arm64
from tests.support.images import RealImage, real_image
from tests.support.localshell import LocalHost, loop_device
from tests.support.qemu import AAVMF_CODE, boot_arm64

pytestmark = [
    pytest.mark.long,
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # the first run makes a Debian with debootstrap, and all of it is emulated
    pytest.mark.needs_loop,
    pytest.mark.needs_tool("debootstrap", EMULATOR, "qemu-system-aarch64", "sfdisk", "mcopy", "mkfs.vfat"),
]


@pytest.fixture(scope="module")
def image(need: Need) -> RealImage:
    need.that(BINFMT.is_dir(), "binfmt_misc")
    need.that(AAVMF_CODE.exists(), "UEFI for arm64 (qemu-efi-aarch64)")
    return real_image("arm64")


@pytest.fixture
def arm64_world(image: RealImage, host: LocalHost, tmp_path: Path, server: Server) -> Iterator[World]:
    """A builder as root that runs programs of arm64, with a volume on which the image has room."""
    volume = tmp_path / "volume"
    volume.touch()
    os.truncate(volume, 2 << 30)
    with running_arm64(), loop_device(volume) as device:
        (host.devices / BY_ID).symlink_to(device)
        yield World(host, host.shell, volume, server)
        host.close()
        assert not left_loops(host.home)
        assert not backed_by(device)


def test_debian_for_arm64_boots_by_what_its_own_programs_made_of_it(arm64_world: World, image: RealImage) -> None:
    volume = arm64_world.volume
    task = hvm_task(arm64_world, image.tarball, "uefi", "arm64")
    facts = arm64_world.method.facts(arm64_world.succeed(task, limit=600).facts)

    assert (facts.boot_loader, facts.grub_cfg) == ("uefi", "own")
    assert sorted(partitions(volume)) == [1, 15]
    log = boot_arm64(volume)
    assert "ebspub-test login:" in log
    firmware, _, kernel = log.partition("Linux version")
    assert "Welcome to GRUB" in firmware
    assert "error:" not in firmware
    assert "efi: EFI v2" in kernel
    assert f"root=UUID={facts.uuid}" in kernel
    assert "console [ttyS0] enabled" in kernel  # what EC2 shows

    source = others(image_tree(image.image), facts.changed)
    assert len(source) > 5000
    assert others(root_tree(volume), facts.changed) == source
