"""SSH to real sshd processes, and to servers that do what no honest one does."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import paramiko
import pytest

from ebspub.errors import HostKeyError, RemoteError
from ebspub.remote.keys import Key, Keyring
from ebspub.remote.ssh import SshShell, connect

RING = Keyring(bytes(range(32)))
HOST, CLIENT = RING.host_key("job", 1), RING.client_key("job", 1)
USER = pwd.getpwuid(os.geteuid()).pw_name


def dial(port: int, *, host: Key = HOST, client: Key = CLIENT, timeout: float = 10.0) -> SshShell:
    return connect("127.0.0.1", port, USER, client, host, timeout)


# A real sshd ----------------------------------------------------------------------------------------------------------


class Sshd:
    """sshd on a loopback port, with files of its own; ends with this process."""

    def __init__(self, folder: Path, *, host_key: str = HOST.pem, options: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        for name, text in (("host_key", host_key), ("authorized_keys", CLIENT.public_line + "\n")):
            (folder / name).touch(0o600)
            (folder / name).write_text(text)
        lines = [f"ListenAddress 127.0.0.1:{self.port}", f"HostKey {folder}/host_key", "PidFile none", "UsePAM no"]
        lines += [f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "PasswordAuthentication no"]
        lines += ["KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "LogLevel DEBUG1", options]
        lines += [f"SetEnv HOME={folder}"]  # not what this machine's user has in a .bashrc
        (folder / "config").write_text("\n".join(lines) + "\n")
        self.log = folder / "log"
        sshd = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/bin") or "sshd"
        # With -e it would write its log into the sessions' stderr, too.
        run = f"exec {sshd} -D -E {self.log} -f {folder}/config"
        command = ["sh", "-c", run]
        if os.geteuid() == 0:  # the folder that sshd wants below /run is nobody else's business
            setup = f"mount -t tmpfs tmpfs /run && mkdir -p /run/sshd && {run.removeprefix('exec ')}; exit 1"
            command = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", "-c", setup]
        self.log.touch()
        self._process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL)
        self._await()

    def _await(self) -> None:
        deadline = time.monotonic() + 20
        while "Server listening" not in self.log.read_text():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self._process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def said(self, what: str, *, wait: float = 3.0) -> bool:
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if what in self.log.read_text(errors="replace"):
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    running: list[Sshd] = []

    def start(**options: str) -> Sshd:
        running.append(Sshd(tmp_path / f"sshd{len(running)}", **options))
        return running[-1]

    yield start
    for one in running:
        one.close()


pytestmark = pytest.mark.needs_tool("sshd", "ssh-keygen", "setpriv", "unshare")


def test_a_command_runs_and_all_of_its_streams_and_its_status_come_back(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    done = shell.run("cat; echo oops >&2; exit 3", stdin=b"in\0put", timeout=10)
    assert (done.status, done.stdout, done.stderr) == (3, b"in\0put", b"oops\n")
    assert shell.run("true", timeout=10).status == 0
    shell.close()
    shell.close()


def test_much_input_and_output_at_once_do_not_block_each_other(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    data = os.urandom(3 << 20)
    done = shell.run("tee /dev/stderr", stdin=data, timeout=60, limit=8 << 20)
    assert done.stdout == data
    assert done.stderr == data
    shell.close()


def test_a_command_that_does_not_read_its_input_is_judged_by_its_status(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    assert shell.run("exec <&-; exit 4", stdin=bytes(4 << 20), timeout=20).status == 4
    shell.close()


def test_another_host_key_gets_neither_our_name_nor_a_command(sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    impostor = sshd(host_key=RING.host_key("job", 2).pem, options=f"ForceCommand touch {ran}")
    with pytest.raises(HostKeyError) as caught:
        dial(impostor.port)
    assert RING.host_key("job", 2).fingerprint in str(caught.value)
    assert HOST.fingerprint in str(caught.value)
    assert impostor.said("Connection closed") or impostor.said("Connection reset")
    log = impostor.log.read_text()
    assert "userauth-request" not in log
    assert USER not in log.partition("Connection from")[2]
    assert not ran.exists()


def test_a_host_without_a_key_of_our_type_gets_nothing(sshd: Callable[..., Sshd], tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "k"], check=True)
    impostor = sshd(host_key=(tmp_path / "k").read_text())
    with pytest.raises(HostKeyError):
        dial(impostor.port)
    assert "userauth-request" not in impostor.log.read_text()


def test_keys_of_the_users_own_agent_and_folder_are_not_offered(
    sshd: Callable[..., Sshd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = sshd()
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    key = home / ".ssh" / "id_ecdsa"
    key.touch(0o600)
    key.write_text(CLIENT.pem)
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(RemoteError, match="does not accept our key"):
        dial(server.port, client=RING.client_key("job", 2))
    assert server.said("Connection closed") or server.said("Connection reset") or server.said("Disconnected")
    assert server.log.read_text().count("userauth-request for user") <= 2  # "none" or our one key
    assert CLIENT.fingerprint not in server.log.read_text()


def test_nobody_there_is_told(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RemoteError, match="no SSH connection"):
        dial(port, timeout=3)


def test_a_command_that_takes_too_long_ends_the_wait_and_the_connection(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    began = time.monotonic()
    with pytest.raises(RemoteError, match=r"within 0\.5 s"):
        shell.run("sleep 20", timeout=0.5)
    assert time.monotonic() - began < 5
    with pytest.raises(RemoteError):
        shell.run("true", timeout=5)


def test_output_that_drips_does_not_stretch_the_deadline(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    began = time.monotonic()
    with pytest.raises(RemoteError):
        shell.run("while :; do echo x; sleep 0.05; done", timeout=1)
    assert time.monotonic() - began < 5


def test_more_output_than_the_limit_is_an_error(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    assert shell.run("head -c 1000 /dev/zero", timeout=10, limit=1000).stdout == bytes(1000)
    with pytest.raises(RemoteError, match="more than 1000 bytes"):
        shell.run("head -c 600 /dev/zero; head -c 600 /dev/zero >&2; sleep 1", timeout=10, limit=1000)


def test_endless_output_ends_at_the_limit(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    with pytest.raises(RemoteError, match="more than"):
        shell.run("cat /dev/zero", timeout=30)


def test_a_command_that_is_killed_has_no_status_and_that_is_an_error(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    with pytest.raises(RemoteError, match="without an exit status"):
        shell.run("kill -KILL $$", timeout=10)


def test_a_server_that_dies_in_the_middle_is_an_error(sshd: Callable[..., Sshd]) -> None:
    server = sshd()
    shell = dial(server.port)
    threading.Timer(0.5, server.close).start()
    with pytest.raises(RemoteError):
        shell.run("sleep 30", timeout=20)


def test_threads_take_turns(sshd: Callable[..., Sshd]) -> None:
    shell = dial(sshd().port)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(shell.run(f"echo {n}; sleep 0.1", timeout=20).stdout))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [b"%d\n" % n for n in range(6)]
    shell.close()


# Servers that misbehave -----------------------------------------------------------------------------------------------


class Hostile(paramiko.ServerInterface):
    """Holds the right host key, lets anybody in, and then does as it was told."""

    def __init__(self, act: Callable[[paramiko.Channel], None], *, answer: bool = True) -> None:
        self._act = act
        self._answer = answer

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return 0  # paramiko's OPEN_SUCCEEDED, which its types do not know

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return 0  # AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if not self._answer:
            time.sleep(15)
        threading.Thread(target=self._go, args=(channel,), daemon=True).start()
        return True

    def _go(self, channel: paramiko.Channel) -> None:
        with suppress(OSError, EOFError, paramiko.SSHException):  # the client may go at any moment
            self._act(channel)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def serve(listener: socket.socket, interface: Hostile) -> int:
    def go() -> None:
        sock, _ = listener.accept()
        transport = paramiko.Transport(sock)
        transport.daemon = True
        transport.add_server_key(HOST.paramiko)
        transport.start_server(server=interface)

    threading.Thread(target=go, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def test_a_channel_that_closes_without_a_status_is_no_success(listener: socket.socket) -> None:
    def act(channel: paramiko.Channel) -> None:
        time.sleep(0.3)  # the command itself is accepted first
        channel.sendall(b"all is well\n")
        channel.close()

    shell = dial(serve(listener, Hostile(act)))
    with pytest.raises(RemoteError, match="without an exit status"):
        shell.run("true", timeout=10)
    shell.close()


def test_a_status_without_an_end_does_not_hold_us_beyond_the_deadline(listener: socket.socket) -> None:
    def act(channel: paramiko.Channel) -> None:
        channel.send_exit_status(0)
        while not channel.closed:
            channel.sendall(b"x")
            time.sleep(0.05)

    shell = dial(serve(listener, Hostile(act)))
    began = time.monotonic()
    with pytest.raises(RemoteError):
        shell.run("true", timeout=1)
    assert time.monotonic() - began < 5


def test_a_server_that_never_answers_a_command_does_not_hold_us_beyond_the_deadline(listener: socket.socket) -> None:
    shell = dial(serve(listener, Hostile(lambda channel: None, answer=False)))
    began = time.monotonic()
    with pytest.raises(RemoteError, match="within 1 s"):
        shell.run("true", timeout=1)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_server_that_stalls_in_the_handshake_does_not_hold_us(listener: socket.socket, greeting: bytes) -> None:
    held: list[socket.socket] = []

    def go() -> None:
        sock, _ = listener.accept()
        sock.sendall(greeting)
        held.append(sock)

    threading.Thread(target=go, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(RemoteError):
        dial(listener.getsockname()[1], timeout=1)
    assert time.monotonic() - began < 5
    for sock in held:
        sock.close()


def test_a_handshake_that_drips_does_not_hold_us(listener: socket.socket) -> None:
    def go() -> None:
        sock, _ = listener.accept()
        try:
            while True:
                sock.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            sock.close()

    threading.Thread(target=go, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(RemoteError):
        dial(listener.getsockname()[1], timeout=1)
    assert time.monotonic() - began < 5
