"""Jobs and values in words."""

from __future__ import annotations

from typing import Any

import pytest

from ebspub.cli import describe, output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3600, "1h00m"), (86400, "1d00h"), (1e6, "11d13h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert output.duration(seconds) == text
    assert len(text) <= 6


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
)
def test_sizes_have_binary_units(count: int, text: str) -> None:
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        ({}, ""),
        ({"percent": "45%"}, "45%"),
        ({"percent": 45.4}, "45%"),
        ({"percent": ""}, ""),
        ({"percent": "soon"}, ""),
        ({"done": 1, "total": 4}, "25%"),
        ({"done": 9, "total": 4}, "100%"),
        ({"done": 1, "total": 0}, ""),
        ({"done": None, "total": 4}, ""),
    ],
)
def test_percent_is_shown_where_it_is_known(progress: dict[str, Any], text: str) -> None:
    assert describe.percent(progress) == text


def job(**values: object) -> dict[str, Any]:
    return {"status": "running", "step": "populate", "progress": None, "error": None, **values}


def test_doing_says_step_work_and_share() -> None:
    progress = {"step": "populate", "what": "copy", "done": 1 << 30, "total": 4 << 30}
    assert describe.doing(job(progress=progress)) == "populate: copy 25% (1.0 GiB of 4.0 GiB)"
    assert describe.doing(job(progress={"phase": "extract"})) == "populate: extract"
    assert describe.doing(job()) == "populate"


def test_a_job_that_nobody_drives_shows_no_progress_of_yesterday() -> None:
    progress = {"step": "populate", "what": "copy", "percent": 40}
    assert describe.doing(job(status="interrupted", progress=progress)) == "populate"
    assert describe.doing(job(status="done", step=None, progress=progress)) == ""


def error(**values: str) -> dict[str, Any]:
    return {"message": "no", "code": "", "request_id": "", "step": "", "todo": "", **values}


def test_an_error_names_step_code_and_request_id() -> None:
    full = error(step="register", code="Refused", request_id="r-1")
    assert describe.error_text(full) == "register: no (Refused, RequestId r-1)"
    assert describe.error_text(error()) == "no"


def test_the_error_of_a_job_that_has_ended_is_history() -> None:
    assert describe.standing_error(job(status="done", error=error())) is None
    assert describe.standing_error(job(status="failed", error=error())) == error()


@pytest.mark.parametrize(
    ("facts", "parent", "sent"),
    [
        ({}, "", ""),
        ({"parent_reason": "none is registered"}, "none: none is registered", ""),
        ({"parent": "snap-1", "blocks_sent": 9, "blocks": 40}, "snap-1", "9 blocks (4.5 MiB); 40 have data"),
        ({"blocks_sent": 1, "blocks": 1}, "", "1 block (512.0 KiB); 1 have data"),
    ],
)
def test_an_upload_tells_its_parent_or_why_it_had_none(facts: dict[str, Any], parent: str, sent: str) -> None:
    assert (describe.parent(facts), describe.sent(facts)) == (parent, sent)


def test_control_characters_never_reach_a_terminal() -> None:
    assert output.clean("a\x1b[31mb\r\n\tc\x9bd\u2028e") == "a [31mb c d e"
    assert output.clean_lines("a\x1bb\n  c\r") == "a b\n  c"


def test_columns_are_aligned_and_nothing_is_cut() -> None:
    rows = [("A", "B", "C"), ("long" * 50, "", "last one"), ("x", "y", "")]
    assert output.columns(rows) == [f"{'A':200}  B  C", f"{'long' * 50}  -  last one", f"{'x':200}  y"]


def test_no_rows_are_no_lines() -> None:
    assert output.columns([]) == []
