"""A program to start, a configuration for it, and a database with a job in every state."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ebspub.cli.main import app
from ebspub.config import load, select
from ebspub.spec import JobSpec
from ebspub.states import State, Status
from ebspub.store import Store, leases
from tests.unit.cli.stories import CONFIG, REGIONS, ROOT, START, Ended, Run, Story, Tell


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of 12 jobs whose sources are proved without a look at the network."""
    tables = "\n".join(f"[regions.{name}]" for name in REGIONS)
    file = tmp_path / "ebspub.toml"
    text = CONFIG.format(folder=tmp_path / "state", regions=tables, amd64="a" * 64, i386="b" * 64)
    file.write_text(text)
    return file


@pytest.fixture
def environment(config: Path, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a program that finds ``config`` and no credentials."""
    # Buffered as it is for users: what is left in the buffer at the end counts, too.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "EBSPUB_CONFIG": str(config), "PYTHONPATH": str(ROOT), "TERM": "dumb"}


@pytest.fixture
def ebspub(environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs the program with arguments within this process."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, **extra: str) -> Ended:
        env = {**environment, **extra}
        result = CliRunner().invoke(app, arguments, env=env, prog_name="ebspub")
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def program(environment: Mapping[str, str], tmp_path: Path) -> Run:
    """Return a function that runs the program with arguments in a process of its own."""

    def run(*arguments: str, **extra: str) -> Ended:
        command = [sys.executable, "-W", "error", "-m", "ebspub", *arguments]
        env = {**environment, **extra}
        ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run


@pytest.fixture
def specs(config: Path) -> tuple[JobSpec, ...]:
    """Return the jobs of the configuration, in the order of the file."""
    return select(load(config))


@pytest.fixture
def store(config: Path) -> Iterator[Store]:
    """Return the open database of the configuration, without jobs."""
    with Store.open(load(config).store_url()) as found:
        yield found


@pytest.fixture
def tell(store: Store, specs: tuple[JobSpec, ...]) -> Tell:
    """Return a function that begins the story of a job of the configuration."""
    return lambda number: Story(store, specs[number], number)


@pytest.fixture
def every_state(tell: Tell) -> list[str]:
    """Fill the database: a job in every state and status; return their ids."""
    owner = leases.this_process()
    far = START * 2
    stories = [
        tell(0).free(Status.WAITING),
        tell(1)
        .reach(State.LAUNCHED)
        .drive(owner, far)
        .change(progress={"step": "attach", "what": "volume is creating"}),
        tell(2)
        .reach(State.ATTACHED)
        .drive(owner, far)
        .change(
            progress={"step": "populate", "what": "copy", "phase": "copy", "done": 1 << 30, "total": 4 << 30},
            attempt=2,
        ),
        tell(3).reach(State.POPULATED),
        tell(4)
        .reach(State.SNAPSHOTTED)
        .fail("register", "RegisterImage: no\x1b[31m such snapshot", "Refused", "req-4711"),
        tell(5).reach(State.REGISTERED),
        tell(6).free(Status.CANCELLED, ended_at=START + 5, cancel_requested=True),
        tell(7).reach(State.LAUNCHED).change(cancel_requested=True).drive(owner, far, Status.CANCELLING),
    ]
    return [story.id for story in stories]
