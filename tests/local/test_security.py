"""Secrets and impostors, end to end: what nobody may read is nowhere to be read, and a stranger gets no command."""

from __future__ import annotations

import base64
import http.server
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from ebspub.remote.keys import Key, Keyring
from ebspub.remote.userdata import user_data
from tests.local.publisher import Publisher

# A stranger at the builder's address ----------------------------------------------------------------------------------


def builder_pid(address: str) -> int:
    """Return the pid of the sshd that serves ``address`` in a builder's namespaces; waits for it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for proc in Path("/proc").glob("[0-9]*"):
            try:
                if not (proc / "cmdline").read_bytes().startswith(b"sshd: /usr/sbin/sshd"):
                    continue
                if f"ListenAddress {address}:" in (proc / "root/etc/ssh/sshd_config").read_text():
                    return int(proc.name)
            except OSError:
                continue
        time.sleep(0.05)
    raise AssertionError(f"no sshd at {address}")


def impersonate(address: str, key: Key) -> Path:
    """Let the host at ``address`` show another host key, and tell of all that it is told; return a builder's root."""
    pid = builder_pid(address)
    root = Path(f"/proc/{pid}/root")
    (root / "etc/ssh/ssh_host_ecdsa_key").write_text(key.pem)
    with (root / "etc/ssh/sshd_config").open("a") as config:
        config.write("LogLevel DEBUG1\nForceCommand touch /tmp/ran-a-command\n")
    os.kill(pid, signal.SIGHUP)  # reads its files anew
    return root


def console(publisher: Publisher, instance: str) -> IO[str]:
    """Open the boot log of a builder, which also has what its sshd says; it stays readable when the builder is gone."""
    (log,) = publisher.cloud.folder.glob(f"**/{instance}/console.log")
    return log.open(errors="replace")


def age(database: Path, seconds: float) -> None:
    """Let the builders in the database be older by some seconds."""
    with closing(sqlite3.connect(database)) as conn, conn:
        conn.execute("UPDATE resources SET made_at = made_at - ? WHERE kind = 'instance'", (seconds,))


def test_a_host_with_another_key_gets_no_command_and_nothing_is_registered(publisher: Publisher) -> None:
    before = len(publisher.cloud.calls())
    first = publisher.start("run", "--arch", "amd64")
    rule = publisher.cloud.kill_at(first.pid, 1, when="after", actions=["RunInstances"])
    assert first.wait(60) == -signal.SIGKILL, (publisher.folder / "err").read_text()
    publisher.cloud.remove_fault(rule)
    (builder,) = publisher.mine(publisher.cloud.inventory().instances)
    stranger = Keyring(bytes(32)).host_key("stranger", 1)
    root = impersonate(builder.address, stranger)

    # cloud-init may not have put our key in place: for a while another one is waited out, and told.
    second = publisher.start("run", "--arch", "amd64")
    publisher.wait_for(lambda jobs: "does not show its host key" in str((jobs[0]["progress"] or {}).get("what")))
    second.send_signal(signal.SIGTERM)
    second.wait(30)
    age(publisher.folder / "ebspub.db", 1000)
    assert not (root / "tmp/ran-a-command").exists()
    with console(publisher, builder.id) as log:
        done = publisher.call("--verbose", "resume")
        seen = log.read().partition("Received SIGHUP")[2]

    assert done.returncode == 3, done.stderr
    (job,) = publisher.status()
    assert (job["state"], job["status"], job["error"]["code"]) == ("pending", "failed", "host-key")
    assert stranger.fingerprint in job["error"]["message"]
    assert "Nothing was sent" in job["error"]["todo"]
    assert stranger.fingerprint in done.stderr
    assert "PRIVATE KEY" not in done.stderr
    assert seen.count("Connection from") >= 2
    for word in ("userauth-request", "Accepted", "Starting session", "ubuntu"):
        assert word not in seen
    made = publisher.mutating_calls(before)
    assert not {"CreateVolume", "AttachVolume", "CreateSnapshot", "RegisterImage"} & set(made)
    publisher.assert_nothing_left()


# Secrets --------------------------------------------------------------------------------------------------------------


def needles(folder: Path, job_id: str) -> dict[str, bytes]:
    """Return what must be nowhere: the secret, and the private keys that were derived from it, in several spellings."""
    secret = (folder / "secret").read_bytes()
    ring = Keyring(secret)
    host, client = ring.host_key(job_id, 1), ring.client_key(job_id, 1)
    found = {
        "secret": secret,
        "secret in hex": secret.hex().encode(),
        "secret in base64": base64.b64encode(secret)[:40],
    }
    for name, key in (("host", host), ("client", client)):
        for number, line in enumerate(key.pem.splitlines()[1:-1]):
            found[f"{name} key, line {number}"] = line[:40].encode()
    text = base64.b64encode(user_data(host, client, 1800).encode())
    found["user data"] = text[-80:-20]
    return found


def processes() -> Iterator[tuple[str, bytes]]:
    """Return the command line and the environment of every process, those in builders among them."""
    for proc in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                yield f"{proc / name}", (proc / name).read_bytes()
            except OSError:
                continue


def tell(publisher: Publisher, *commands: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Return what commands that show something print."""
    for words in commands:
        done = publisher.call("--verbose", *words)
        assert done.stdout, (words, done.stderr)
        yield " ".join(words), (done.stdout + done.stderr).encode()


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "secret":
            yield str(path), path.read_bytes()


def assert_nowhere(hidden: dict[str, bytes], places: Iterator[tuple[str, bytes]]) -> int:
    """No place holds anything of ``hidden``; return how many places there were."""
    count = 0
    for count, (place, content) in enumerate(places, start=1):  # noqa: B007 - the count is returned
        assert [name for name, needle in hidden.items() if needle in content] == [], place
    return count


@contextmanager
def slow_mirror(publisher: Publisher, more: Callable[[], bool]) -> Iterator[str]:
    """Serve the images as the stage does, but keep the second half of each back until ``more`` says so."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            content = source.read()
            half = len(content) // 2 if self.path.endswith(".tar.gz") else len(content)
            self.wfile.write(content[:half])
            while half < len(content) and not more():
                time.sleep(0.05)
            self.wfile.write(content[half:])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
            pass

    folder = publisher.images.parents[1]
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(folder))
    ) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.long
def test_no_secret_is_in_database_log_process_list_or_output_while_a_run_is_under_way(publisher: Publisher) -> None:
    released = threading.Event()
    with slow_mirror(publisher, released.is_set) as url:
        publisher.configure("us-east-1", edit=lambda text: text.replace(publisher.url, url))
        umask = os.umask(0)
        try:
            process = publisher.start("--verbose", "run", "--arch", "amd64")
        finally:
            os.umask(umask)
        try:
            publisher.wait_for(lambda jobs: bool(jobs) and (jobs[0]["progress"] or {}).get("phase") == "download")
            (job,) = publisher.status()
            state = publisher.folder / "state"
            hidden = needles(state, job["id"])
            assert [path.name for path in state.iterdir()] == ["secret"]
            assert assert_nowhere(hidden, processes()) > 20
            assert assert_nowhere(hidden, files(publisher.folder)) >= 4
            shown = tell(publisher, ("status", "--json"), ("show", job["id"]), ("plan", "--json"), ("doctor",))
            assert assert_nowhere(hidden, shown) == 4
            assert {path.name: path.stat().st_mode & 0o777 for path in (state, *private(publisher))} == {
                **dict.fromkeys(("ebspub.db", "ebspub.db-wal", "ebspub.db-shm", "secret"), 0o600),
                "state": 0o700,
            }
        finally:
            released.set()
        assert process.wait(100) == 0, (publisher.folder / "err").read_text()
    assert_nowhere(hidden, files(publisher.folder))
    assert_nowhere(hidden, tell(publisher, ("show", job["id"], "--json"), ("sweep", "--dry-run", "--json")))
    publisher.assert_published(["us-east-1"], ["amd64"])


def private(publisher: Publisher) -> list[Path]:
    return [*publisher.folder.glob("ebspub.db*"), publisher.folder / "state/secret"]


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_the_password_of_a_database_is_never_told(publisher: Publisher, command: str) -> None:
    url = "postgresql+psycopg://ebspub:hunter2@127.0.0.1:9/x?password=hunter2&sslpassword=hunter2"
    publisher.configure("us-east-1", edit=lambda text: text.replace(f"sqlite:///{publisher.folder}/ebspub.db", url))
    publisher.config.chmod(0o644)

    done = publisher.call("--verbose", command)

    assert done.returncode in (3, 4), done.stderr
    assert "127.0.0.1" in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    if command == "doctor":
        assert f"chmod 0600 {publisher.config}" in " ".join(done.stdout.split())


def test_a_url_that_is_a_credential_is_refused_before_anything_is_written(publisher: Publisher) -> None:
    publisher.configure("us-east-1", edit=lambda text: text.replace("http://", "http://me:hunter2@"))

    done = publisher.call("--verbose", "run")

    assert done.returncode == 2
    assert "hunter2" not in done.stdout + done.stderr
    assert [path.name for path in publisher.folder.iterdir()] == ["ebspub.toml"]
