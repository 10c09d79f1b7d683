"""`ebspub run`, `resume` and `cancel` against an EC2 that answers, and one that does not."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ebspub.states import State, Status
from ebspub.store import Store, jobs, leases
from tests.support.stopwatch import Stopwatch
from tests.unit.cli.stories import START, Run, Tell
from tests.unit.cli.terminal import Terminal

JOB = "lucid-server-20101020-amd64-us-east-1"
ONE = ("--region", "us-east-1", "--arch", "amd64")
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
FAR = START * 2


@pytest.fixture(scope="module")
def ec2() -> Iterator[str]:
    """Start moto in a process of its own; return its URL."""
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = next(line for line in process.stdout if line.strip().isdigit())
            yield f"http://127.0.0.1:{int(port)}"
        finally:
            process.kill()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """Return a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        server.settimeout(60)
        yield server


IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::123456789012:user/me</Arn><UserId>ME</UserId><Account>123456789012</Account>
</GetCallerIdentityResult></GetCallerIdentityResponse>"""


class _OnlyIdentity(BaseHTTPRequestHandler):
    """Says who the caller is, and nothing else, for ever."""

    asked = threading.Event()
    through = threading.Event()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"GetCallerIdentity" not in body:
            self.asked.set()
            self.through.wait()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(IDENTITY)))
        self.end_headers()
        self.wfile.write(IDENTITY)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def hanging() -> Iterator[tuple[str, threading.Event]]:
    """Return the URL of an EC2 that hangs once the caller is known, and the event of its first hanging call."""

    class Handler(_OnlyIdentity):
        asked, through = threading.Event(), threading.Event()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Handler.asked
        Handler.through.set()
        server.shutdown()
        thread.join()


def credentials(url: str) -> dict[str, str]:
    return {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "geheim"}


@pytest.fixture
def published(tell: Tell) -> None:
    for number in range(12):
        tell(number).reach(State.REGISTERED)


def test_nothing_to_do_is_silent_and_asks_nobody(program: Run, published: None, config: Path) -> None:
    # No credentials, and checksums that nobody serves.
    text = "\n".join(line for line in config.read_text().splitlines() if ".sha256" not in line)
    config.write_text(text + '\nsha256sums = "http://127.0.0.1:9/SHA256SUMS"\n')
    for arguments in (["run"], ["run", "--suite", "lucid"], ["resume"]):
        result = program(*arguments)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_nothing_to_do_is_silent_on_a_terminal_too(
    environment: Mapping[str, str], published: None, tmp_path: Path
) -> None:
    terminal = Terminal("run", environment=environment, cwd=tmp_path)
    assert (terminal.wait(), terminal.raw) == (0, "")


def test_a_cancelled_job_is_left_alone(ebspub: Run, tell: Tell) -> None:
    tell(0).free(Status.CANCELLED, ended_at=START + 5, cancel_requested=True)
    result = ebspub("run", *ONE)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_resume_without_a_database_is_silent_and_makes_none(ebspub: Run, tmp_path: Path) -> None:
    result = ebspub("resume")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("command", [["run", *ONE], ["resume"], ["resume", JOB], ["cancel", JOB]], ids=" ".join)
def test_another_process_at_work_is_75_and_one_line(program: Run, tell: Tell, ec2: str, command: list[str]) -> None:
    tell(0).reach(State.LAUNCHED).drive(leases.this_process(), FAR)
    result = program(*command, **credentials(ec2))
    assert (result.returncode, result.stdout) == (75, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{JOB}: ")
    assert "clean up" in line if command[0] == "cancel" else "another process" in line


def test_cancel_ends_a_job_and_says_so(program: Run, tell: Tell, ec2: str, store: Store) -> None:
    tell(0).free(Status.WAITING)
    result = program("cancel", JOB, **credentials(ec2))
    assert (result.returncode, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert first.endswith(f"Z {JOB} cancelled")
    assert second == "1 job: 1 cancelled"
    with store.read() as conn:
        job = jobs.get(conn, JOB)
    assert job is not None
    assert job.status is Status.CANCELLED


def test_a_registered_job_cannot_be_cancelled(ebspub: Run, tell: Tell) -> None:
    tell(0).reach(State.REGISTERED)
    result = ebspub("cancel", JOB)
    assert result.returncode == 2
    assert f"{JOB} is registered as ami-" in result.stderr


def test_plan_looks_only(program: Run, ec2: str, tmp_path: Path) -> None:
    result = program("plan", *ONE, **credentials(ec2))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1].split()[:2] == [JOB, "publish"]
    assert not (tmp_path / "state").exists()


def test_plan_json_says_why(program: Run, tell: Tell, ec2: str) -> None:
    tell(0).reach(State.REGISTERED)
    tell(2).reach(State.LAUNCHED)
    tell(4).reach(State.LAUNCHED).drive(leases.this_process(), FAR)
    result = program("plan", "--arch", "amd64", "--json", **credentials(ec2))
    assert result.returncode == 0
    planned = {job["region"]: job for job in json.loads(result.stdout)["jobs"]}
    assert [planned[name]["action"] for name in ("us-east-1", "us-west-1", "eu-west-1", "sa-east-1")] == [
        *("skip", "resume", "busy", "publish")
    ]
    assert planned["us-east-1"]["reason"] == f"registered as ami-{0:017x}"
    assert planned["us-east-1"]["source"]["sha256"] == "a" * 64


def start(environment: Mapping[str, str], tmp_path: Path, url: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "ebspub", *arguments]
    env = {**environment, **credentials(url)}
    return subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(store: Store, status: Status) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with store.read() as conn:
            job = jobs.get(conn, JOB)
        if job is not None and job.status is status and job.instance_id:
            return
        time.sleep(0.1)
    raise AssertionError("it never came so far")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_resumable_and_says_so(
    environment: Mapping[str, str], tmp_path: Path, store: Store, ec2: str, number: signal.Signals
) -> None:
    with start(environment, tmp_path, ec2, "run", *ONE) as process:
        try:
            wait_for(store, Status.RUNNING)
            with Stopwatch() as watch:
                process.send_signal(number)
                out, err = process.communicate(timeout=30)
            assert watch.seconds < 5
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert err == "interrupted; 1 job resumable: run `ebspub resume`\n"
    assert out == "1 job: 1 waiting\n"
    with store.read() as conn:
        job = jobs.get(conn, JOB)
    assert job is not None
    assert (job.status, job.lease) == (Status.WAITING, None)


def test_a_run_on_a_terminal_shows_a_table_and_gives_the_cursor_back(
    environment: Mapping[str, str], tmp_path: Path, store: Store, ec2: str
) -> None:
    terminal = Terminal("run", *ONE, environment={**environment, **credentials(ec2)}, cwd=tmp_path)
    try:
        wait_for(store, Status.RUNNING)
        time.sleep(1.5)
        terminal.process.send_signal(signal.SIGINT)
    finally:
        code = terminal.wait()
    assert code == 130
    assert "lucid-server-20101020 release: 1 job, 1 running" in terminal.text
    assert "interrupted; 1 job resumable: run `ebspub resume`" in terminal.text
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
    assert "geheim" not in terminal.raw


@pytest.mark.parametrize("command", [["run", *ONE], ["resume"]], ids=["run", "resume"])
def test_a_server_that_never_answers_holds_nobody(
    environment: Mapping[str, str], tmp_path: Path, tell: Tell, silent: socket.socket, command: list[str]
) -> None:
    tell(0).free(Status.WAITING)
    with start(environment, tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}", *command) as process:
        try:
            connection, _ = silent.accept()
            with Stopwatch() as watch:
                process.send_signal(signal.SIGTERM)
                out, err = process.communicate(timeout=30)
            assert watch.seconds < 5
            connection.close()
        finally:
            process.kill()
    assert (process.returncode, out) == (143, "")
    assert err == "interrupted; 1 job resumable: run `ebspub resume`\n"


def test_a_region_that_hangs_holds_nobody(
    environment: Mapping[str, str], tmp_path: Path, store: Store, hanging: tuple[str, threading.Event]
) -> None:
    url, asked = hanging
    with start(environment, tmp_path, url, "run", *ONE) as process:
        try:
            assert asked.wait(60)
            with Stopwatch() as watch:
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=30)
            assert watch.seconds < 5
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == "interrupted; 1 job resumable: run `ebspub resume`\n"


def test_a_run_whose_reader_has_gone_goes_on(
    environment: Mapping[str, str], tmp_path: Path, tell: Tell, ec2: str
) -> None:
    tell(0).free(Status.WAITING)
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ebspub", "cancel", JOB]
    env = {**environment, **credentials(ec2)}
    run = subprocess.run(command, env=env, cwd=tmp_path, stdout=writer, stderr=writer, check=False, timeout=60)
    os.close(writer)
    assert run.returncode == 0
