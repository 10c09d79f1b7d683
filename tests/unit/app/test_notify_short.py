"""A notification that is too long: it keeps what it is of and how much of it there is, whatever is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebspub.app.notify.short import text
from tests.properties.examples import examples

LIMIT = 65_536


def published(count: int, **release: Any) -> dict[str, Any]:
    """Return what is told of a build that was published, with ``count`` jobs."""
    facts = {"suite": "lucid", "build": "server", "serial": "20101020", "label": "beta2", "state": "published"}
    jobs = [
        {"id": f"job-{number}", "status": "done", "ami_id": f"ami-{number}", "facts": {"x": "y" * 2000}, "error": None}
        for number in range(count)
    ]
    about = {"id": "lucid-server-20101020", **facts, "published_at": "2010-10-20T00:00:00Z", "jobs": jobs, **release}
    return {"event": "published", "at": "2010-10-20T00:00:00Z", "release": about, "jobs": jobs}


def test_what_is_short_enough_is_whole() -> None:
    document = published(2)
    assert json.loads(text(document, LIMIT)) == document


@pytest.mark.parametrize("count", [50, 5000])
def test_a_release_keeps_its_id_and_label_and_how_many_jobs_there_are(count: int) -> None:
    told = text(published(count), LIMIT)
    short = json.loads(told)
    assert len(told.encode()) <= LIMIT
    assert (short["event"], short["shortened"]) == ("published", True)
    assert {name: short["release"][name] for name in ("id", "label")} == {
        "id": "lucid-server-20101020",
        "label": "beta2",
    }
    assert short["counts"] == {"jobs": count, "statuses": {"done": count}, "errors": 0}
    assert short["jobs"][:2] == [
        {"id": f"job-{number}", "status": "done", "ami_id": f"ami-{number}"} for number in (0, 1)
    ]
    assert (len(short["jobs"]) == count) == (count == 50)


def test_of_errors_and_of_jobs_something_is_told_each() -> None:
    errors = [{"release": "r", "region": str(number), "message": "m" * 9999, "todo": None} for number in range(2000)]
    jobs = [{"id": str(number), "status": "failed", "error": {"message": "é" * 9999}} for number in range(2000)]
    document = {"event": "finished", "at": "now", "command": "run", "exit_code": 3, "errors": errors, "jobs": jobs}
    told = text(document, LIMIT)
    short = json.loads(told)
    assert LIMIT * 0.9 < len(told) <= LIMIT
    assert (short["command"], short["exit_code"]) == ("run", 3)
    assert short["counts"] == {"jobs": 2000, "statuses": {"failed": 2000}, "errors": 2000}
    assert short["errors"][0] == {"release": "r", "region": "0", "message": f"{'m' * 299}…", "todo": None}
    assert len(short["errors"]) > 10
    assert len(short["jobs"]) > 10


#: Texts that JSON writes with up to twelve letters for one.
TEXTS = st.sampled_from(["", "x", "\0" * 70_000, "\U0001f600" * 70_000, "é" * 400, '"\\' * 40_000])
ODD: st.SearchStrategy[Any] = st.one_of(
    TEXTS, st.none(), st.integers(), st.just([]), st.just({}), st.just(["x"] * 20_000)
)
ENTRY = st.dictionaries(st.sampled_from(["id", "status", "ami_id", "error", "message", "release", "region"]), ODD)
LISTS = st.one_of(ODD, st.lists(ENTRY, max_size=4).map(lambda entries: entries * 200))


@examples(60)
@example(document=dict.fromkeys(("event", "at", "command", "exit_code", "jobs", "errors"), "😀" * 70000))
@given(
    document=st.fixed_dictionaries(
        {"event": TEXTS, "at": TEXTS},
        optional={
            "release": st.one_of(ODD, st.dictionaries(st.sampled_from(["id", "suite", "label", "state", "jobs"]), ODD)),
            "jobs": LISTS,
            "errors": LISTS,
            "command": ODD,
            "exit_code": ODD,
            "more": ODD,
        },
    )
)
def test_whatever_is_in_it_it_is_not_too_long(document: dict[str, Any]) -> None:
    told = text(document, LIMIT)
    assert len(told.encode()) <= LIMIT
    found = json.loads(told)
    assert found == document or found["shortened"]
    assert found["event"][:200] == document["event"][:200]
