"""The small parts: user data, device names, loop devices, sparse files, addresses."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ebspub.localcloud import loops, sparse
from ebspub.localcloud.addresses import Addresses
from ebspub.localcloud.calls import read
from ebspub.localcloud.hosts.base import Attached, DeviceNames, write_host_keys, xen_name
from ebspub.localcloud.hosts.userdata import Seed, UserDataError, as_script, parse


def test_user_data_is_read_as_cloud_init_does() -> None:
    text = (
        b"#cloud-config\nbootcmd: [[echo, 'a b'], 'echo $x']\nunknown: 1\n"
        b"ssh_keys: {ecdsa_private: K, ecdsa_public: P}\n"
    )
    seed = parse(text)
    assert as_script(seed.bootcmd) == "#!/bin/sh\necho 'a b'\necho $x\n"
    assert seed.host_keys() == {"ecdsa": "K"}
    assert parse(gzip.compress(text)) == seed
    assert parse(b"#!/bin/sh\ntrue\n").script == "#!/bin/sh\ntrue\n"
    assert parse(b"something else") == Seed()


def test_bad_user_data_is_told_without_its_content() -> None:
    with pytest.raises(UserDataError) as caught:
        parse(b"#cloud-config\nssh_keys: [SECRET\n")
    assert "SECRET" not in str(caught.value)
    with pytest.raises(UserDataError):
        parse(b"#cloud-config\nbootcmd: {a: b}\n")


def test_host_keys_of_the_user_data_are_the_only_ones(tmp_path: Path) -> None:
    given = write_host_keys(Seed(ssh_keys={"ecdsa_private": "K", "ecdsa_public": "P"}), tmp_path)
    assert [(file.name, file.read_text()) for file in given] == [("ssh_host_ecdsa_key", "K\n")]
    assert given[0].stat().st_mode & 0o777 == 0o600
    assert [file.name for file in write_host_keys(Seed(), tmp_path)] == ["ssh_host_ed25519_key"]
    assert write_host_keys(Seed(ssh_genkeytypes=[]), tmp_path) == []


def test_device_names_take_the_lowest_free_number() -> None:
    names = DeviceNames(nitro=True)
    a, b, c = (Attached(f"vol-{i}", f"/dev/sd{i}", Path("x")) for i in "fgh")
    assert [names.add(a), names.add(b), names.add(a)] == ["nvme1n1", "nvme2n1", "nvme1n1"]
    names.remove(a.volume_id)
    assert names.add(c) == "nvme1n1"


@pytest.mark.parametrize(("asked", "shown"), [("/dev/sdf", "xvdf"), ("/dev/sda1", "xvda1"), ("/dev/xvdg", "xvdg")])
def test_xen_names(asked: str, shown: str) -> None:
    assert xen_name(asked) == shown


def test_a_sparse_copy_keeps_holes_and_survives_the_deletion_of_its_source(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    sparse.create(source, 1 << 30)
    with source.open("r+b") as file:
        file.seek(1 << 29)
        file.write(b"data")
        file.write(bytes(1 << 20))
    fd = os.open(source, os.O_RDONLY)
    source.unlink()
    sparse.copy(fd, target)
    os.close(fd)
    assert target.stat().st_size == 1 << 30
    assert target.stat().st_blocks * 512 <= 1 << 16
    with target.open("rb") as file:
        file.seek(1 << 29)
        assert file.read(4) == b"data"
    assert os.listdir(tmp_path) == ["target"]


@pytest.mark.needs_loop
def test_a_loop_device_knows_when_it_is_busy_and_releases_itself(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    sparse.create(file, 32 << 20)
    device = loops.attach(file)
    backing = Path(f"/sys/block/loop{device.number}/loop/backing_file")
    assert backing.read_text().strip() == str(file)
    subprocess.run(["mkfs.ext4", "-q", device.path], check=True)
    assert not device.busy()
    (tmp_path / "m").mkdir()
    subprocess.run(["mount", device.path, tmp_path / "m"], check=True)
    assert device.busy()
    subprocess.run(["umount", tmp_path / "m"], check=True)
    device.release()
    device.release()
    assert not backing.exists()


@pytest.mark.needs_loop
def test_a_sweep_finds_loop_devices_of_a_folder_and_no_others(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder in (mine, other):
        folder.mkdir()
        sparse.create(folder / "disk", 1 << 20)
    kept = loops.attach(other / "disk")
    swept = subprocess.run(
        ["losetup", "--find", "--show", str(mine / "disk")], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert loops.sweep(mine) == [int(swept.removeprefix("/dev/loop"))]
    assert not Path(f"/sys/block/{Path(swept).name}/loop").exists()
    kept.release()


@pytest.mark.needs_loop
def test_a_sweep_is_not_stopped_by_loop_devices_that_others_detach_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    sparse.create(tmp_path / "disk", 1 << 20)
    over = threading.Event()

    def come_and_go() -> int:
        turns = 0
        while not over.is_set():
            loops.attach(tmp_path / "disk").release()
            turns += 1
        return turns

    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(come_and_go) for _ in range(3)]
        try:
            swept = [number for _ in range(1500) for number in loops.sweep(tmp_path / "mine")]
        finally:
            over.set()
    assert swept == []
    assert all(other.result() for other in others)


def test_addresses_are_unique_and_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    addresses = Addresses(port)
    taken = {addresses.take() for _ in range(50)}
    assert len(taken) == 50
    assert all(address.startswith("127.") for address in taken)


def test_a_request_is_read_from_its_signature() -> None:
    header = "AWS4-HMAC-SHA256 Credential=AKIAX/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0"
    environ = {
        "HTTP_AUTHORIZATION": header,
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8",
    }
    incoming = read(environ, b"Action=RunInstances&ClientToken=t&DryRun=true")
    assert (incoming.access_key, incoming.region, incoming.service) == ("AKIAX", "eu-west-1", "ec2")
    assert (incoming.action, incoming.mutating) == ("RunInstances", False)
    assert read(environ, b"Action=RunInstances").mutating
