"""Finding a volume on its builder, and refusing what is not a fresh one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ebspub.populate import DeviceError, find_device
from tests.contract.populate.world import BY_ID, VOLUME, Image, World, run


def device_of(world: World) -> str:
    return str((world.host.devices / BY_ID).readlink())


def relink(world: World, name: str) -> None:
    target = (world.host.devices / BY_ID).readlink()
    (world.host.devices / BY_ID).unlink()
    (world.host.devices / name).symlink_to(target)


def test_a_fresh_volume_is_found_by_its_id(world: World) -> None:
    assert find_device(world.shell, VOLUME, "/dev/sdf") == device_of(world)


def test_a_volume_that_is_not_there_yet_is_none(world: World) -> None:
    assert find_device(world.shell, "vol-0fedcba9876543210", "/dev/sdf") is None


def test_the_id_of_another_volume_is_no_match(world: World) -> None:
    """Ids of 8 and of 17 digits exist: one may begin like another."""
    assert find_device(world.shell, VOLUME[:12], "/dev/sdf") is None


@pytest.mark.parametrize("name", ["xvdf", "sdf"])
def test_on_xen_the_requested_name_is_the_volume(world: World, name: str) -> None:
    device = device_of(world)
    relink(world, name)
    assert find_device(world.shell, VOLUME, "/dev/sdf") == device
    assert find_device(world.shell, VOLUME, "/dev/sdg") is None


def test_a_volume_that_says_another_id_is_not_taken_by_its_name(plain_world: World) -> None:
    """On Nitro a distribution's udev rule may make /dev/sdf, for a volume whose id we would then not have checked."""
    (plain_world.host.devices / BY_ID).unlink()
    plain_world.volume.rename(plain_world.host.devices / "nvme1n1")
    (plain_world.host.devices / "sdf").symlink_to("nvme1n1")
    assert find_device(plain_world.shell, VOLUME, "/dev/sdf") is None


def test_without_root_a_plain_file_is_found(plain_world: World) -> None:
    assert find_device(plain_world.shell, VOLUME, "/dev/sdf") == "/mnt/volume"


@pytest.mark.parametrize("place", [0, 700_000, -1])
def test_a_volume_with_something_on_it_is_refused(world: World, place: int) -> None:
    with world.volume.open("r+b") as volume:
        volume.seek(place, 2 if place < 0 else 0)
        volume.write(b"\x01")
    run("blockdev", "--flushbufs", device_of(world))
    with pytest.raises(DeviceError, match="not empty"):
        find_device(world.shell, VOLUME, "/dev/sdf")
    world.fail(world.task("none.tar.gz", None), "device")


def test_a_mounted_volume_is_refused(world: World) -> None:
    device = device_of(world)
    run("mke2fs", "-q", "-F", device)
    world.host.inside(f"mkdir -p {world.host.home}/m && mount {device} {world.host.home}/m")
    with pytest.raises(DeviceError, match="is mounted"):
        find_device(world.shell, VOLUME, "/dev/sdf")
    world.fail(world.task("none.tar.gz", None), "device")


def test_what_the_task_itself_wrote_is_no_surprise_when_it_starts_again(world: World, images: dict[str, Image]) -> None:
    image = images["lucid"]
    shutil.copy(image.tarball, world.server.folder / "i.tar.gz")
    task = world.task("i.tar.gz", image.sha256)
    world.succeed(task)
    (world.host.work(task.name) / "result").unlink()
    world.succeed(task)
    # But it is one for another task.
    world.fail(world.task("i.tar.gz", image.sha256, attempt=2), "device")


@pytest.mark.parametrize("volume_id", ["", "vol-", "vol-$(id)", "vol-1/../x", "snap-1", "vol-1\n"])
def test_what_is_no_volume_id_never_reaches_a_builder(volume_id: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="volume id"):
        find_device(None, volume_id, "/dev/sdf")  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["sdf", "/dev/../x", "/dev/sdf;id", "/dev/"])
def test_what_is_no_device_name_never_reaches_a_builder(device: str) -> None:
    with pytest.raises(ValueError, match="device name"):
        find_device(None, VOLUME, device)  # type: ignore[arg-type]
