"""Builders: real hosts that see the volumes attached to them, and nothing else."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ebspub.localcloud import Settings
from tests.localcloud.lab import Builder, Lab, code_of, keygen, until

pytestmark = [pytest.mark.needs_loop, pytest.mark.needs_tool("sshd", "unshare", "setpriv", "sudo", "mkfs.ext4")]


def test_a_nitro_builder_shows_volumes_as_nvme_devices_by_id(lab: Lab, nitro: Builder) -> None:
    first, second = lab.volume(nitro.zone, 1), lab.volume(nitro.zone, 2)
    lab.attach(nitro, first, "/dev/sdp")
    lab.attach(nitro, second, "/dev/sdf")
    for volume_id, size, node in ((first, 1, "nvme1n1"), (second, 2, "nvme2n1")):
        link = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"
        assert nitro.run(f"readlink -f {link}").strip() == f"/dev/{node}"
        assert int(nitro.run(f"sudo blockdev --getsize64 {link}")) == size << 30
    lab.detach(first)
    assert nitro.run("cd /dev; ls -d nvme*; ls disk/by-id | wc -l").split() == ["nvme2n1", "1"]
    lab.detach(second)


def test_a_xen_builder_shows_the_name_that_was_asked_for(lab: Lab) -> None:
    builder = lab.launch(InstanceType="m1.small")
    volume_id = lab.volume(builder.zone)
    lab.attach(builder, volume_id, "/dev/sdf")
    assert builder.run("cd /dev; ls -d xvd* nvme* 2>/dev/null || true").split() == ["xvdf"]
    lab.terminate(builder)
    until(lambda: lab.volume_state(volume_id) == "available")


def test_a_builder_does_not_see_the_volume_of_another(lab: Lab, nitro: Builder) -> None:
    other = lab.launch(InstanceType="t3.micro")
    volume_id = lab.volume(other.zone)
    lab.attach(other, volume_id)
    assert nitro.ssh("ls /dev/nvme1n1").returncode != 0
    assert nitro.run("ls /dev/disk/by-id").strip() == ""
    assert other.run("hostname") != nitro.run("hostname")
    assert int(other.run("ps -e -o pid= | wc -l")) < 15, "only its own processes"
    lab.terminate(other)


def test_what_a_builder_writes_is_in_the_snapshot_and_holes_stay_holes(
    lab: Lab, nitro: Builder, tmp_path: Path
) -> None:
    volume_id = lab.volume(nitro.zone)
    lab.attach(nitro, volume_id)
    nitro.run(
        "set -e; sudo mkfs.ext4 -q /dev/nvme1n1; sudo mount -o discard /dev/nvme1n1 /mnt;"
        " sudo dd if=/dev/urandom of=/mnt/big bs=1M count=64 status=none; sync;"
        " echo kept | sudo tee /mnt/small >/dev/null; sudo rm /mnt/big; sync; sudo umount /mnt"
    )
    lab.detach(volume_id)
    snapshot = lab.cloud.snapshot_path(lab.snapshot(volume_id))
    shown = subprocess.run(["debugfs", "-R", "cat /small", str(snapshot)], capture_output=True, text=True, check=True)
    assert shown.stdout == "kept\n"
    assert snapshot.stat().st_blocks * 512 < 48 << 20
    assert lab.cloud.volume_path(volume_id).stat().st_blocks * 512 < 60 << 20, "discard gives blocks back"


def test_a_mounted_volume_is_busy_until_it_is_unmounted(lab: Lab, ec2: Any, nitro: Builder) -> None:
    volume_id = lab.volume(nitro.zone)
    lab.attach(nitro, volume_id)
    nitro.run("sudo mkfs.ext4 -q /dev/nvme1n1 && sudo mount /dev/nvme1n1 /mnt")
    ec2.detach_volume(VolumeId=volume_id)
    until(lambda: lab.attachment(volume_id) == "busy")
    nitro.run("sudo umount /mnt")
    until(lambda: lab.attachment(volume_id) == "detached")
    assert nitro.ssh("ls /dev/nvme1n1").returncode != 0


def test_loop_mounts_work_inside(nitro: Builder) -> None:
    nitro.run(
        "set -e; cd /var/tmp; truncate -s 16M disk; mkfs.ext4 -q disk; mkdir m; sudo mount -o loop disk m;"
        " df --output=target m | tail -1; sudo umount m; rm -r m disk"
    )


def test_scratch_space_lies_on_disk(lab: Lab, nitro: Builder) -> None:
    nitro.run("for d in /tmp /var/tmp /home/ubuntu; do echo x > $d/on-disk; done")
    root = lab.cloud.folder / "hosts" / nitro.instance_id / "disk"
    assert all((root / part / "on-disk").exists() for part in ("tmp", "var/tmp", "home/ubuntu"))


def test_attaching_is_refused_where_it_cannot_be(lab: Lab, ec2: Any, nitro: Builder) -> None:
    volume_id = lab.volume(nitro.zone)
    attach = {"VolumeId": volume_id, "InstanceId": nitro.instance_id, "Device": "/dev/sdf"}
    elsewhere = lab.volume("us-east-1b" if nitro.zone == "us-east-1a" else "us-east-1a")
    assert code_of(ec2.attach_volume, **{**attach, "VolumeId": elsewhere}) == "InvalidVolume.ZoneMismatch"
    fresh = ec2.create_volume(AvailabilityZone=nitro.zone, Size=1)["VolumeId"]
    assert code_of(ec2.attach_volume, **{**attach, "VolumeId": fresh}) == "IncorrectState"
    pending = lab.run_instances(Placement={"AvailabilityZone": nitro.zone})
    assert code_of(ec2.attach_volume, **{**attach, "InstanceId": pending}) == "IncorrectState"
    assert ec2.attach_volume(**attach)["State"] == "attaching"
    assert code_of(ec2.attach_volume, **attach) == "VolumeInUse"
    assert code_of(ec2.delete_volume, VolumeId=volume_id) == "VolumeInUse"
    assert lab.volume_state(volume_id) == "in-use"
    until(lambda: lab.attachment(volume_id) == "attached")
    until(lambda: lab.volume_state(fresh) == "available")
    assert code_of(ec2.attach_volume, **{**attach, "VolumeId": fresh}) == "InvalidParameterValue"
    lab.detach(volume_id)
    assert code_of(ec2.detach_volume, VolumeId=volume_id) == "IncorrectState"
    ec2.terminate_instances(InstanceIds=[pending])


def test_only_the_host_keys_of_the_user_data_are_offered(lab: Lab, nitro: Builder) -> None:
    scan = subprocess.run(
        ["ssh-keyscan", "-p", str(lab.port), nitro.address], capture_output=True, text=True, check=True
    ).stdout
    offered = [line.split()[1:3] for line in scan.splitlines() if not line.startswith("#")]
    assert offered == [lab.host_public.split()[:2]]


def test_without_host_keys_a_random_one_is_made(lab: Lab, ec2: Any) -> None:
    instance_id = lab.run_instances(UserData="#cloud-config\n{}")
    instance = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    builder = Builder(lab, instance_id, instance["PublicIpAddress"], "")
    until(lambda: "verification failed" in builder.ssh("true").stderr)
    ec2.terminate_instances(InstanceIds=[instance_id])


def test_key_pairs_let_their_owner_in(lab: Lab, ec2: Any) -> None:
    login = lab.folder / "pair"
    ec2.import_key_pair(KeyName="pair", PublicKeyMaterial=keygen(login).encode())
    builder = lab.launch(KeyName="pair")
    assert login.with_suffix(".pub").read_text().strip() in builder.run("cat .ssh/authorized_keys")
    assert code_of(lab.run_instances, KeyName="missing") == "InvalidKeyPair.NotFound"
    lab.terminate(builder)


def test_boot_commands_run_as_root_and_show_on_the_console(lab: Lab, ec2: Any) -> None:
    data = lab.user_data(
        bootcmd=[["sh", "-c", 'echo "list: $(id -un) $1"', "-", "a b"], "echo string: $((40+2))", ["false"]],
        runcmd=["touch /root/ran"],
        write_files=[{"path": "/etc/written", "content": "by user data\n", "permissions": "0600"}],
    )
    builder = lab.launch(UserData=data)
    console = ec2.get_console_output(InstanceId=builder.instance_id)["Output"]
    assert "list: root a b" in console
    assert "string: 42" in console
    builder.run("echo last words | sudo tee /dev/console")
    until(lambda: "last words" in ec2.get_console_output(InstanceId=builder.instance_id)["Output"])
    assert builder.run("sudo cat /etc/written; sudo stat -c %a /etc/written") == "by user data\n600\n"
    until(lambda: builder.ssh("sudo test -e /root/ran").returncode == 0)
    lab.terminate(builder)
    assert "string: 42" in ec2.get_console_output(InstanceId=builder.instance_id)["Output"]


def test_a_script_as_user_data_runs(lab: Lab, ec2: Any) -> None:
    instance_id = lab.run_instances(UserData="#!/bin/sh\necho script of $(id -un)\n")
    until(lambda: "script of root" in ec2.get_console_output(InstanceId=instance_id).get("Output", ""))
    ec2.terminate_instances(InstanceIds=[instance_id])


@pytest.mark.parametrize("command", ["sudo shutdown -h now", "sudo poweroff", "sudo halt"])
def test_shutting_down_inside_terminates(lab: Lab, command: str) -> None:
    builder = lab.launch()
    builder.ssh(command)
    until(lambda: builder.state() == "terminated")
    assert builder.describe()["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_dead_man_timer_in_bootcmd_terminates(lab: Lab) -> None:
    builder = lab.launch(UserData=lab.user_data(bootcmd=[["sh", "-c", "(sleep 1.5; shutdown -h now) &"]]))
    until(lambda: builder.state() == "terminated")


def test_shutting_down_stops_where_that_is_the_behaviour_and_it_starts_again(lab: Lab, ec2: Any) -> None:
    builder = lab.launch(InstanceInitiatedShutdownBehavior="stop")
    volume_id = lab.volume(builder.zone)
    lab.attach(builder, volume_id)
    builder.run("echo kept > kept")
    builder.ssh("sudo poweroff")
    until(lambda: builder.state() == "stopped")
    assert lab.attachment(volume_id) == "attached"
    ec2.start_instances(InstanceIds=[builder.instance_id])
    until(lambda: builder.ssh("true").returncode == 0)
    until(lambda: builder.ssh("ls /dev/nvme1n1").returncode == 0)
    assert builder.run("cat kept") == "kept\n"
    lab.terminate(builder)


def test_a_reboot_keeps_disks_and_runs_boot_commands_again(lab: Lab, ec2: Any) -> None:
    builder = lab.launch(UserData=lab.user_data(bootcmd=["echo boot >> /root/boots"]))
    volume_id = lab.volume(builder.zone)
    lab.attach(builder, volume_id)
    boot = builder.run("echo kept > kept; sudo mkfs.ext4 -q /dev/nvme1n1; cat /proc/sys/kernel/random/boot_id")
    ec2.reboot_instances(InstanceIds=[builder.instance_id])
    until(lambda: builder.ssh("sudo grep -c boot /root/boots").stdout.strip() == "2")
    assert builder.run("cat kept; sudo blkid -o value -s TYPE /dev/nvme1n1") == "kept\next4\n"
    assert builder.run("readlink /dev/disk/by-id/*") == "../../nvme1n1\n"
    assert builder.run("cat /proc/sys/kernel/random/boot_id") != boot
    lab.terminate(builder)


def test_termination_takes_time_and_frees_what_was_used(lab: Lab, ec2: Any) -> None:
    group = ec2.create_security_group(GroupName="of a builder", Description="-")["GroupId"]
    tags = [{"Key": "job", "Value": "7"}]
    builder = lab.launch(
        SecurityGroupIds=[group],
        TagSpecifications=[{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    )
    root = builder.describe()["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    assert builder.describe()["Tags"] == tags
    assert ec2.describe_volumes(VolumeIds=[root])["Volumes"][0]["Tags"] == tags
    volume_id = lab.volume(builder.zone)
    lab.attach(builder, volume_id)
    builder.run("sudo mkfs.ext4 -q /dev/nvme1n1 && sudo mount /dev/nvme1n1 /mnt")
    assert code_of(ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    answer = ec2.terminate_instances(InstanceIds=[builder.instance_id])["TerminatingInstances"][0]
    assert answer["CurrentState"]["Name"] == "shutting-down"
    assert code_of(ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    until(lambda: builder.state() == "terminated")
    assert lab.volume_state(volume_id) == "available"
    assert code_of(ec2.describe_volumes, VolumeIds=[root]) == "InvalidVolume.NotFound"
    assert code_of(ec2.delete_security_group, GroupId=group) == "ok"
    assert ec2.describe_instances(InstanceIds=[builder.instance_id])["Reservations"], "still listed"
    lab.cloud.configure(Settings(terminated_visible=0))
    assert code_of(ec2.describe_instances, InstanceIds=[builder.instance_id]) == "InvalidInstanceID.NotFound"


def test_a_killed_host_terminates_its_instance(lab: Lab) -> None:
    builder = lab.launch()
    lab.cloud.kill_host(builder.instance_id)
    until(lambda: builder.state() == "terminated")
    assert builder.describe()["StateReason"]["Code"] == "Server.InternalError"
    assert builder.ssh("true").returncode == 255


def test_sixteen_builders_at_once(lab: Lab, ec2: Any) -> None:
    begin = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        builders = list(pool.map(lambda _: lab.launch(), range(16)))
    taken = time.monotonic() - begin
    assert len({b.address for b in builders}) == 16
    ec2.terminate_instances(InstanceIds=[b.instance_id for b in builders])
    for builder in builders:
        until(lambda b=builder: b.state() == "terminated")  # type: ignore[misc]
    assert taken < 20


def test_instance_types_fit_their_image(lab: Lab) -> None:
    assert code_of(lab.run_instances, InstanceType="t4g.small") == "InvalidParameterValue"
    assert code_of(lab.run_instances, InstanceType="t3.micro", ImageId=lab.image("arm64")) == "InvalidParameterValue"
    assert code_of(lab.run_instances, InstanceType="zz9.huge") == "InvalidParameterValue"
    assert code_of(lab.run_instances, ImageId="ami-0123456789abcdef0") == "InvalidAMIID.NotFound"
