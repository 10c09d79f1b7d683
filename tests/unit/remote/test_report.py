"""What a builder says of a task is read with distrust."""

from __future__ import annotations

import contextlib
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.errors import RemoteError
from ebspub.remote.report import Absent, Failed, Running, Succeeded, clean, parse_report


def report(state: str, *lines: str) -> bytes:
    return "\n".join(["ebspub-report 1", f"state {state}", *lines, "end", ""]).encode()


def test_a_task_at_work() -> None:
    raw = report(
        "running", "now 1010", "progress phase=copy", "progress done=5", "progress total=10", "progress at=1000"
    )
    assert parse_report(raw) == Running("copy", 5, 10, 10.0)


def test_a_task_that_has_succeeded() -> None:
    raw = report("ended", "result outcome=succeeded", "result status=0", "result fact.label=a=b c", "result other=x")
    assert parse_report(raw) == Succeeded({"label": "a=b c"})


def test_a_task_that_has_failed() -> None:
    lines = ["outcome=failed", "status=1", "code=checksum", "phase=check", "message=it is wrong"]
    raw = report("ended", *(f"result {line}" for line in lines), "log one", "log two")
    assert parse_report(raw) == Failed("checksum", "check", "it is wrong", 1, "one\ntwo")


def test_a_task_that_never_was() -> None:
    assert parse_report(report("absent")) == Absent()


def test_the_greeting_of_a_login_shell_is_skipped() -> None:
    assert parse_report(b"Welcome!\nend\n" + report("absent")) == Absent()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"state absent\nend\n",
        b"ebspub-report 1\nstate absent\n",
        report("asleep"),
        report("ended"),
        report("ended", "result outcome=succeeded"),
        report("ended", "result outcome=succeeded", "result status=1"),
        report("ended", "result outcome=great", "result status=0"),
    ],
)
def test_what_is_no_whole_report_is_an_error_and_never_a_success(raw: bytes) -> None:
    with pytest.raises(RemoteError):
        parse_report(raw)


def test_a_log_or_a_progress_file_cannot_pass_for_a_result() -> None:
    lines = ["log state ended", "log result outcome=succeeded", "progress outcome=succeeded", "progress status=0"]
    assert isinstance(parse_report(report("running", *lines, "state ended", "result outcome=succeeded")), Running)


def test_what_is_said_twice_counts_as_said_first() -> None:
    lines = ["outcome=failed", "status=1", "code=io", "outcome=succeeded", "status=0"]
    assert isinstance(parse_report(report("ended", *(f"result {line}" for line in lines))), Failed)


@pytest.mark.parametrize("number", ["-1", "1e9", "٣", "9" * 19, "0x10", "1\r2"])
def test_what_is_no_number_is_none(number: str) -> None:
    raw = report("running", "now 5", f"progress done={number}", "progress total=7", f"progress at={number}")
    assert parse_report(raw) == Running("start", 0, 7, 5.0)


def test_more_than_all_cannot_be_done() -> None:
    assert parse_report(report("running", "progress done=9", "progress total=7")) == Running("start", 7, 7, 0.0)


def test_facts_are_bounded_in_number_length_and_name() -> None:
    many = [f"result fact.k{n}={'v' * 5000}" for n in range(30)] + ["result fact.../etc=x", "result fact.A=x"]
    found = parse_report(report("ended", "result outcome=succeeded", "result status=0", *many))
    assert isinstance(found, Succeeded)
    assert set(found.facts) == {f"k{n}" for n in range(30)}
    assert max(map(len, found.facts.values())) == 1000


@given(st.binary(max_size=400))
def test_any_bytes_are_a_report_or_an_error(raw: bytes) -> None:
    with contextlib.suppress(RemoteError):
        parse_report(b"ebspub-report 1\nstate ended\nresult outcome=failed\n" + raw + b"\nend\n")


@given(st.text())
def test_no_control_character_gets_through(text: str) -> None:
    assert not [c for c in clean(text) if unicodedata.category(c) in ("Cc", "Cs")]


def test_a_terminal_escape_in_a_message_is_taken_out() -> None:
    raw = report("ended", "result outcome=failed", "result message=\x1b]0;pwned\x07\u009b31m\u202ered")
    found = parse_report(raw)
    assert isinstance(found, Failed)
    assert "\x1b" not in found.message
    assert "\u202e" not in found.message
