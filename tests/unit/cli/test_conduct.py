"""What is told to others when a command has driven jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from ebspub.app.publish import Result
from ebspub.app.runtime import Runtime
from ebspub.cli.conduct import conduct
from ebspub.cli.signals import watch
from ebspub.config import load
from ebspub.engine.driver import Listener
from ebspub.store import jobs
from tests.unit.cli.stories import Tell


@pytest.mark.parametrize(("command", "wanted"), [("run", ["failed", "finished"]), ("", ["failed"])])
def test_a_failed_job_and_a_run_with_failures_are_told(
    config: Path, tell: Tell, tmp_path: Path, command: str, wanted: list[str]
) -> None:
    story = tell(0).fail("launch", "no such image", "InvalidAMIID.NotFound", "req-1")
    with config.open("a") as file:
        file.write(f'[notify]\ncommand = ["tee", "--append", "{tmp_path}/told"]\n')

    def work(found: Runtime, listen: Listener) -> Result:
        with found.store.read() as conn:
            job = jobs.get(conn, story.id)
        assert job is not None
        listen(job, "failed")
        return Result(jobs=[job], driven=1)

    with watch() as signals, pytest.raises(typer.Exit) as left:
        conduct(load(config), [story.id], signals, work, told_as=command)
    assert left.value.exit_code == 3
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert [each["event"] for each in told] == wanted
    assert all(each["jobs"][0]["error"]["request_id"] == "req-1" for each in told)
