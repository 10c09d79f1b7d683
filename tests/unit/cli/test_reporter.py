"""What a run tells while it works: whole lines from any thread, errors with AWS's request id, a table that fits."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace

import pytest
from rich.console import Console

from ebspub.app.report import job_document
from ebspub.cli.reporter import Lines, Live
from ebspub.cli.tables import fitting, overview
from ebspub.states import State, Status
from ebspub.store import Failure, Job, Store, jobs
from tests.unit.cli.stories import START, Tell

Capture = pytest.CaptureFixture[str]


def found(store: Store, *ids: str) -> list[Job]:
    with store.read() as conn:
        return jobs.find(conn, ids=ids or None)


def test_a_completed_step_is_one_line_with_the_id_it_made(tell: Tell, store: Store, capsys: Capture) -> None:
    story = tell(0)
    lines = Lines([story.id])
    for state in list(State)[1:]:
        (job,) = found(store, story.id)
        ids = {"instance_id": "i-1", "volume_id": "vol-1", "snapshot_id": "snap-1", "ami_id": "ami-1"}
        lines.listen(replace(job, state=state, **ids), "step")  # type: ignore[arg-type]
    start = f"2010-11-17T13:20:00Z {story.id}"
    assert capsys.readouterr().out.splitlines() == [
        f"{start} launched i-1",
        f"{start} attached vol-1",
        f"{start} populated vol-1",
        f"{start} snapshotted snap-1",
        f"{start} registered ami-1",
    ]


def test_waiting_and_trying_again_are_silent(tell: Tell, store: Store, capsys: Capture) -> None:
    story = tell(0)
    (job,) = found(store, story.id)
    for action in ("waiting", "retry"):
        Lines([story.id]).listen(job, action)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("action", "status"), [("failed", Status.FAILED), ("lose_builder", Status.RUNNING)])
def test_what_went_wrong_is_on_stderr_with_the_request_id(
    tell: Tell, store: Store, capsys: Capture, action: str, status: Status
) -> None:
    story = tell(0)
    (job,) = found(store, story.id)
    error = Failure("RunInstances: no\x1b[31m", "Refused", "req-1", "Mend it.", "launch", START)
    Lines([story.id]).listen(replace(job, status=status, error=error), action)
    word = "failed" if action == "failed" else "pending"
    start = f"2010-11-17T13:20:00Z {story.id} {word}"
    told = f"{start}: launch: RunInstances: no [31m (Refused, RequestId req-1)\n  Mend it.\n"
    assert capsys.readouterr() == ("", told)


def test_lines_of_many_threads_stay_whole(tell: Tell, store: Store, capsys: Capture) -> None:
    story = tell(0)
    (job,) = found(store, story.id)
    lines = Lines([story.id])
    names = [f"{number:04}" + "x" * 500 for number in range(50)]
    threads = [threading.Thread(target=lines.listen, args=(replace(job, id=name), "launch")) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[1] for line in told) == names
    assert all(len(line.split()) == 3 for line in told)


def test_resumable_counts_the_jobs_that_have_not_ended(every_state: list[str], store: Store) -> None:
    lines, live = Lines(every_state), Live(store, every_state)
    assert lines.resumable() == live.resumable() == 8
    for job in found(store):
        lines.listen(job, "waiting")
        live.listen(job, "waiting")
    assert lines.resumable() == live.resumable() == 6


def console(lines: int = 24) -> Console:
    return Console(file=io.StringIO(), width=80, height=lines, force_terminal=True)


def drawn(renderable: object) -> list[str]:
    screen = console()
    screen.print(renderable)
    assert isinstance(screen.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.file.getvalue()).splitlines()


def test_the_live_table_reads_what_it_was_not_told(every_state: list[str], store: Store) -> None:
    live = Live(store, [*every_state, "not-planned-yet"])
    text = "\n".join(drawn(live.frame(console())))
    assert "populate 25% copy" in text
    assert "8 jobs" in text


@pytest.mark.parametrize("height", [6, 8, 10, 12, 14, 40])
def test_a_table_takes_no_more_lines_than_there_are(every_state: list[str], store: Store, height: int) -> None:
    documents = [job_document(job, START + 1) for job in found(store)]
    lines = drawn(fitting(documents, console(), height))
    shown = sum(1 for line in lines if re.match(r"\S+ +(amd64|i386) ", line))
    assert shown >= 1
    assert len(lines) <= max(height, 9)
    more = re.search(r"^and (\d+) more: ", "\n".join(lines), re.MULTILINE)
    assert shown + (int(more[1]) if more else 0) == len(documents)
    if height < 40:
        # What needs a person is shown first.
        assert any(" failed " in line for line in lines)


def test_many_jobs_of_many_builds_are_grouped(every_state: list[str], store: Store) -> None:
    documents = [job_document(job, START) for job in found(store)]
    documents += [{**each, "id": each["id"].replace("lucid", "noble"), "suite": "noble"} for each in documents]
    headings = [
        line
        for line in drawn(overview(documents))
        if line.startswith(("lucid-server", "noble-server")) and "8 jobs" in line
    ]
    assert len(headings) == 2


def test_an_id_is_never_cut(every_state: list[str], store: Store) -> None:
    documents = [{**job_document(job, START), "region": "ap-southeast-1"} for job in found(store)]
    assert any(f" ami-{5:017x}" in line for line in drawn(overview(documents)))
