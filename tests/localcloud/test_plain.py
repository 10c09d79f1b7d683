"""Without root: builders are folders, volumes are plain files under the names of devices."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebspub.localcloud import Cloud
from tests.localcloud.conftest import SETTINGS
from tests.localcloud.lab import Lab, until

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_tool("setpriv", "unshare", "sshd"),
]

#: sshd needs an account with a shell, and no system account has one: nobody gets one, in a mount namespace of its own.
#: Python and the checkout may lie in a folder that is root's alone: nobody may read, but not write, everywhere.
ENTER = """
set -eu
sed 's|^nobody:.*|nobody:x:65534:65534:nobody:/nonexistent:/bin/sh|' /etc/passwd >"$1/passwd"
mount --bind "$1/passwd" /etc/passwd
shift
exec setpriv --reuid=65534 --regid=65534 --clear-groups --reset-env \\
    --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
"""


def as_nobody(folder: Path, *command: str) -> subprocess.Popen[str]:
    enter = ["unshare", "--mount", "sh", "-c", ENTER, "enter", str(folder)]
    return subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def plain() -> Iterator[Lab]:
    """A lab whose cloud runs as nobody."""
    program = (
        "import json, pathlib, sys; from ebspub.localcloud import Settings, running\n"
        "with running(pathlib.Path(sys.argv[1]), Settings.model_validate_json(sys.argv[2])) as cloud:\n"
        "    told = [cloud.pid, cloud.endpoint, cloud.access_key, cloud.ssh_user, cloud.ssh_port]\n"
        "    print(json.dumps(told), flush=True)\n"
        "    sys.stdin.read()\n"
    )
    # Not below pytest's own folder, which nobody may not enter.
    folder = Path(tempfile.mkdtemp(prefix="ebspub-plain-"))
    folder.chmod(0o755)
    home = folder / "nobody"
    home.mkdir()
    os.chown(home, 65534, 65534)
    settings = SETTINGS.model_copy(update={"ssh_port": 2222})
    checkout = Path(__file__).parents[2]
    environment = ["env", f"PYTHONPATH={os.pathsep.join([str(checkout), *sys.path[1:]])}", "PYTHONDONTWRITEBYTECODE=1"]
    command = [*environment, sys.executable, "-c", program, str(home / "cloud"), settings.model_dump_json()]
    process = as_nobody(folder, *command)
    assert process.stdout is not None
    try:
        pid, endpoint, key, user, port = json.loads(process.stdout.readline())
        yield Lab(Cloud(home / "cloud", pid, endpoint, key), folder, user=user, port=port)
    finally:
        process.communicate()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def builder(plain: Lab) -> Any:
    return plain.launch()


def test_a_builder_is_reached_as_the_user_of_the_cloud(plain: Lab, builder: Any) -> None:
    assert plain.user == pwd.getpwuid(65534).pw_name
    assert builder.run("id -u; pwd; sudo -n -E id -u").split() == ["65534", builder.run("echo $HOME").strip(), "65534"]
    assert str(plain.cloud.folder) in builder.run("echo $HOME")


def test_volumes_are_files_under_the_names_of_devices(plain: Lab, builder: Any) -> None:
    volume_id = plain.volume(builder.zone)
    plain.attach(builder, volume_id)
    name = f"disk/by-id/nvme-Amazon_Elastic_Block_Store_{volume_id.replace('-', '')}"
    builder.run(f'cd "$EBSPUB_DEVICES"; test -f nvme1n1; printf written | dd of={name} conv=notrunc status=none')
    with plain.cloud.volume_path(volume_id).open("rb") as file:
        assert file.read(7) == b"written"
    assert int(builder.run('stat -Lc %s "$EBSPUB_DEVICES/nvme1n1"')) == 1 << 30
    plain.detach(volume_id)
    assert builder.run('find "$EBSPUB_DEVICES" -type l') == ""


def test_xen_names_are_kept(plain: Lab) -> None:
    builder = plain.launch(InstanceType="c1.medium")
    volume_id = plain.volume(builder.zone)
    plain.attach(builder, volume_id, "/dev/sdp")
    assert builder.run('cd "$EBSPUB_DEVICES"; find . -type l') == "./xvdp\n"
    plain.terminate(builder)


def test_boot_commands_run_and_shutting_down_terminates_with_all_processes(plain: Lab) -> None:
    builder = plain.launch(UserData=plain.user_data(bootcmd=["echo booted as $(id -u)"]))
    console = plain.client("ec2").get_console_output(InstanceId=builder.instance_id)["Output"]
    assert "booted as 65534" in console
    job = int(builder.run("(setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!)"))
    assert Path(f"/proc/{job}").exists()
    builder.ssh("sudo shutdown -h now")
    until(lambda: builder.state() == "terminated")
    until(lambda: not Path(f"/proc/{job}").exists())


def test_a_reboot_keeps_the_home_folder(plain: Lab, builder: Any) -> None:
    builder.run("echo kept > kept; touch $TMPDIR/x")
    pid = builder.run("cat ../init.pid")
    plain.client("ec2").reboot_instances(InstanceIds=[builder.instance_id])
    until(lambda: builder.ssh("cat ../init.pid").stdout not in {"", pid})
    assert builder.run("cat kept") == "kept\n"
