"""What a builder is launched with."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ebspub.remote.detached import Task, poll
from ebspub.remote.keys import Keyring
from ebspub.remote.userdata import LIMIT, dead_man_script, user_data
from tests.support.localshell import LocalHost
from tests.support.variants import few

RING = Keyring(bytes(32))


def config(dead_man: int = 1800) -> dict[str, Any]:
    text = user_data(RING.host_key("job", 1), RING.client_key("job", 1), dead_man)
    assert text.startswith("#cloud-config\n")
    parsed: dict[str, Any] = yaml.safe_load(text)
    assert parsed == json.loads(text.partition("\n")[2])
    return parsed


def test_it_is_the_same_text_every_time() -> None:
    """EC2 answers IdempotentParameterMismatch if a launch is repeated with another text."""
    texts = {user_data(Keyring(bytes(32)).host_key("j", 1), RING.client_key("j", 1), 60) for _ in range(3)}
    assert len(texts) == 1


def test_it_fits_into_what_ec2_takes() -> None:
    job = "x" * 250
    assert len(user_data(RING.host_key(job, 99), RING.client_key(job, 99), 86400).encode()) < LIMIT // 3


def test_the_builder_gets_our_host_key_and_no_other() -> None:
    found = config()
    host = RING.host_key("job", 1)
    assert found["ssh_keys"] == {"ecdsa_private": host.pem, "ecdsa_public": host.public_line}
    assert found["ssh_genkeytypes"] == []
    assert found["ssh_deletekeys"] is True


def test_only_our_key_logs_in_and_nobody_as_root() -> None:
    found = config()
    assert found["ssh_authorized_keys"] == [RING.client_key("job", 1).public_line]
    assert found["disable_root"] is True
    assert found["ssh_pwauth"] is False


def test_our_private_login_key_is_not_in_it() -> None:
    text = user_data(RING.host_key("job", 1), RING.client_key("job", 1), 60)
    assert "".join(RING.client_key("job", 1).pem.splitlines()[1:3]) not in text.replace("\\n", "")


@pytest.mark.needs_tool("shellcheck")
def test_the_timer_is_plain_posix_shell() -> None:
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-"], input=dead_man_script(1800), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


# The timer, on a host of its own --------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> Any:
    """A host whose uptime is a file, and on which a shutdown is written down instead of done."""
    local = LocalHost(tmp_path / "host")
    try:
        stubs = local.home / "stubs"
        stubs.mkdir()
        for name in ("shutdown", "poweroff"):
            (stubs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{local.home}/calls"\n')
            (stubs / name).chmod(0o755)
        (local.home / "uptime").write_text("1000.50 1.0\n")
        (local.home / "console").touch()
        local.inside(f"mount --bind {local.home}/uptime /proc/uptime")
        local.inside(f"mount --bind {local.home}/console /dev/console")
        local.environment["PATH"] = f"{stubs}:{local.environment['PATH']}"
        del local.environment["EBSPUB_DEVICES"]
        local.shell.environment = dict(local.environment)
        yield local
    finally:
        local.close()


def boot(host: LocalHost, seconds: int) -> None:
    # As cloud-init runs a `bootcmd` that is a list.
    command = config(seconds)["bootcmd"][0]
    (host.home / "timer").write_text(command[3])
    host.inside(f'{command[0]} {command[1]} {command[2]} "$(cat timer)"')


def at(host: LocalHost, uptime: int) -> None:
    (host.home / "uptime").write_text(f"{uptime}.99 1.0\n")


def went_down(host: LocalHost, *, wait: float = 15.0) -> bool:
    deadline = time.monotonic() + wait
    while time.monotonic() < deadline:
        if (host.home / "calls").exists():
            return True
        time.sleep(0.05)
    return False


pytestmark_root = pytest.mark.needs_loop


@pytestmark_root
def test_without_a_publisher_it_shuts_down_and_says_why(host: LocalHost) -> None:
    boot(host, 4)
    assert not went_down(host, wait=2.5)
    at(host, 1004)
    assert went_down(host)
    assert (host.home / "calls").read_text().startswith("shutdown -h now")
    assert (host.home / "console").read_text() == "ebspub: no publisher for 4 s, shutting down\n"


@pytestmark_root
def test_a_poll_keeps_it_alive(host: LocalHost) -> None:
    boot(host, 4)
    at(host, 1003)
    poll(host.shell, Task("t", ""))
    at(host, 1006)
    assert not went_down(host, wait=2.5)
    at(host, 1007)
    assert went_down(host)


@pytestmark_root
def test_a_clock_that_jumps_does_not_matter(host: LocalHost) -> None:
    """The heartbeat holds uptime: its wall time may be of another year."""
    boot(host, 4)
    poll(host.shell, Task("t", ""))
    os.utime(host.folder / "run/ebspub/alive", (0, 0))
    assert not went_down(host, wait=2.5)


@pytestmark_root
@pytest.mark.parametrize(
    "alive",
    few(
        ["", "@ -5"],
        ["", "garbage", "another-boot 99999999", "@ -5", "@ x", "@ 99999999999999999999", "@"],
        rest="long",
    ),
)
def test_a_heartbeat_that_is_none_neither_saves_nor_kills_it(host: LocalHost, alive: str) -> None:
    boot(host, 4)
    boot_id = host.inside("cat /proc/sys/kernel/random/boot_id").strip()
    (host.folder / "run/ebspub/alive").write_text(alive.replace("@", boot_id) + "\n")
    assert not went_down(host, wait=1.5)
    at(host, 1005)
    assert went_down(host)


@pytestmark_root
def test_two_in_one_boot_are_one(host: LocalHost) -> None:
    for _ in range(3):
        boot(host, 4)
    at(host, 1010)
    assert went_down(host)
    time.sleep(1)
    assert (host.home / "calls").read_text().count("shutdown") == 1
