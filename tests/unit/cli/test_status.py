"""`ebspub status` and `ebspub show`: complete, readable, never in the way of who is at work."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ebspub.states import State, Status
from ebspub.store import Store
from tests.unit.cli.stories import Run
from tests.unit.cli.terminal import Terminal

KEYS = [
    *("id", "suite", "build", "label", "serial", "version", "arch", "region", "account", "name", "source"),
    *("way", "copy_of"),
    *("state", "status", "step", "progress", "elapsed", "attempt"),
    *("instance_id", "volume_id", "snapshot_id", "ami_id", "facts", "error"),
    *("created_at", "updated_at", "ended_at"),
]
ERROR_KEYS = ["message", "code", "request_id", "todo", "step", "at"]


def until(seen: Callable[[], bool], *, patience: float = 30.0) -> None:
    end = time.monotonic() + patience
    while not seen():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_json_has_exactly_these_keys_for_every_job(ebspub: Run, every_state: list[str]) -> None:
    result = ebspub("status", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    document = json.loads(result.stdout)
    assert list(document) == ["jobs"]
    assert {job["id"] for job in document["jobs"]} == set(every_state)
    assert all(list(job) == KEYS for job in document["jobs"])
    (failed,) = [job for job in document["jobs"] if job["status"] == "failed"]
    assert list(failed["error"]) == ERROR_KEYS
    assert failed["error"]["request_id"] == "req-4711"


def test_every_state_and_status_is_told(ebspub: Run, every_state: list[str]) -> None:
    jobs = json.loads(ebspub("status", "--json").stdout)["jobs"]
    assert {job["state"] for job in jobs} == set(State)
    assert {job["status"] for job in jobs} == {*Status, "interrupted"}
    assert {job["step"] for job in jobs} >= {"launch", "attach", "populate", "snapshot", "register", "cancel", None}


def test_a_pipe_gets_one_line_a_job_with_every_id_whole(ebspub: Run, every_state: list[str]) -> None:
    head, *lines = ebspub("status").stdout.splitlines()
    assert head.split()[:5] == ["JOB", "STATE", "STATUS", "TRY", "ELAPSED"]
    assert sorted(line.split()[0] for line in lines) == sorted(every_state)
    registered = next(line for line in lines if " done " in line)
    assert registered.split()[5:9] == [f"{kind}-{5:017x}" for kind in ("i", "vol", "snap", "ami")]
    failed = next(line for line in lines if " failed " in line)
    assert failed.endswith("last error: register: RegisterImage: no [31m such snapshot (Refused, RequestId req-4711)")


def test_selection_by_build_and_region(ebspub: Run, every_state: list[str]) -> None:
    def found(*options: str) -> set[str]:
        return {job["id"] for job in json.loads(ebspub("status", "--json", *options).stdout)["jobs"]}

    assert found("--region", "us-east-1") == {each for each in every_state if each.endswith("us-east-1")}
    assert found("--region", "us-east-1", "--region", "eu-west-1") == {
        each for each in every_state if each.endswith(("us-east-1", "eu-west-1"))
    }
    for build in ("lucid", "lucid-server", "lucid-server-20101020", "20101020"):
        assert found("--build", build) == set(every_state)
    assert found("--build", "karmic") == set()
    assert ebspub("status", "--build", "karmic").stdout == "no jobs match\n"


def test_without_a_database_it_says_so_and_makes_none(ebspub: Run, tmp_path: Path) -> None:
    result = ebspub("status")
    assert (result.returncode, result.stderr) == (0, "")
    assert "no state database" in result.stdout
    assert "ebspub run" in result.stdout
    result = ebspub("status", "--json")
    assert (result.returncode, json.loads(result.stdout)) == (0, {"jobs": []})
    assert not (tmp_path / "state").exists()


def test_the_password_of_a_database_is_never_shown(ebspub: Run, config: Path) -> None:
    config.write_text(
        config.read_text().replace("[store]", '[store]\nurl = "postgresql+psycopg://me:geheim@127.0.0.1:9/jobs"')
    )
    result = ebspub("--verbose", "status")
    assert result.returncode == 4
    assert "geheim" not in result.stdout + result.stderr
    assert "127.0.0.1" in result.stderr


def test_works_while_another_process_holds_the_write_lock(program: Run, every_state: list[str], store: Store) -> None:
    with store.write() as conn:
        conn.exec_driver_sql("UPDATE jobs SET label = 'changed'")
        result = program("status", "--json")
    assert result.returncode == 0
    assert {job["label"] for job in json.loads(result.stdout)["jobs"]} == {"release"}


def test_changes_nothing(ebspub: Run, every_state: list[str], store: Store) -> None:
    def content() -> list[object]:
        with store.read() as conn:
            tables = ("jobs", "resources", "effects", "events", "meta")
            return [conn.exec_driver_sql(f"SELECT * FROM {name}").fetchall() for name in tables]

    before = content()
    for arguments in (("status",), ("show", every_state[2]), ("db", "current")):
        assert ebspub(*arguments).returncode == 0
    assert content() == before


@pytest.mark.parametrize("columns", [80, 100])
def test_a_terminal_shows_a_table_that_fits(
    environment: Mapping[str, str], every_state: list[str], tmp_path: Path, columns: int
) -> None:
    terminal = Terminal("status", environment=environment, cwd=tmp_path, columns=columns, lines=50)
    assert terminal.wait() == 0
    lines = terminal.text.splitlines()
    assert max(map(len, lines)) <= columns
    assert any(
        line.split() == ["eu-west-1", "i386", "registered", "done", "1", "5m00s", f"ami-{5:017x}"] for line in lines
    )
    assert any(line.split()[:5] == ["us-west-1", "amd64", "attached", "running", "2"] for line in lines)
    assert "populate 25% copy" in terminal.text
    assert "RequestId req-4711" in terminal.text.replace("\n", " ")
    assert "\x1b[31m such" not in terminal.raw


def test_watch_redraws_until_ctrl_c(environment: Mapping[str, str], every_state: list[str], tmp_path: Path) -> None:
    terminal = Terminal("status", "--watch", environment=environment, cwd=tmp_path, lines=12)
    until(lambda: terminal.text.count("populate 25%") >= 2)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0
    assert "Traceback" not in terminal.text
    assert re.search(r"and \d+ more: .*1 cancelled, 1 registered", terminal.text)
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")


def test_watch_in_a_pipe_prints_a_document_a_line(
    environment: Mapping[str, str], every_state: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "ebspub", "status", "--watch", "--json"]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert len(json.loads(process.stdout.readline())["jobs"]) == len(every_state)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


def test_watch_ends_when_nobody_reads_any_more(
    environment: Mapping[str, str], every_state: list[str], tmp_path: Path
) -> None:
    line = f"{sys.executable} -m ebspub status --watch | head -1; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(
        ["bash", "-c", line], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout.splitlines()[-1] == "0"
    assert run.stderr == ""


def test_a_reader_that_has_gone_is_no_error(
    environment: Mapping[str, str], every_state: list[str], tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (("status",), ("status", "--json"), ("show", every_state[0])):
        command = [sys.executable, "-m", "ebspub", *arguments]
        run = subprocess.run(
            command, env=environment, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=30
        )
        assert (run.returncode, run.stderr) == (0, b"")
    os.close(writer)


def test_output_that_cannot_be_written_is_an_error(
    environment: Mapping[str, str], every_state: list[str], tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "ebspub", "status"]
        run = subprocess.run(
            command,
            env=environment,
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=30,
        )
    assert run.returncode == 1
    assert run.stderr == "ebspub: standard output cannot be written: No space left on device\n"


def test_show_tells_the_history_in_order_with_durations_and_ids(ebspub: Run, every_state: list[str]) -> None:
    text = ebspub("show", every_state[5]).stdout
    history = text.partition("\nhistory\n")[2].partition("\n\n")[0].splitlines()
    words = [line.split() for line in history]
    assert [each[2] for each in words] == [
        *("planned", "RunInstances", "launch", "CreateVolume", "attach", "populate", "CreateSnapshot", "snapshot"),
        *("RegisterImage", "register"),
    ]
    assert [each[0] for each in words] == sorted(each[0] for each in words)
    assert words[1][3:] == ["1.5s", f"i-{5:017x}"]
    assert words[-1][3:] == ["60.0s", "snapshotted", "->", "registered", f"ami-{5:017x}"]
    assert "present" in text.partition("\nresources\n")[2]


def test_show_json(ebspub: Run, every_state: list[str]) -> None:
    document = json.loads(ebspub("show", every_state[4], "--json").stdout)
    assert list(document) == ["job", "history", "resources"]
    assert list(document["job"]) == KEYS
    assert {each["record"] for each in document["history"]} == {"event", "call"}
    assert document["history"][-1]["facts"]["request_id"] == "req-4711"
    assert [each["presence"] for each in document["resources"]] == ["present"] * 3
