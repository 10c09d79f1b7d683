"""Help: every command has an example, it reads well as plain text, and it comes at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ebspub import __version__
from ebspub.cli.main import app

#: What takes its time to load, and what no command needs for its help.
HEAVY = ("boto3", "botocore", "paramiko", "sqlalchemy", "alembic", "cryptography", "rich")


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command and group."""
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*path, name))


PROMISED = {
    "run",
    "resume",
    "status",
    "show",
    "plan",
    "cancel",
    "publish",
    "unpublish",
    "db",
    "db upgrade",
    "db current",
}
COMMANDS = list(commands(typer.main.get_command(app)))


def help_of(path: tuple[str, ...]) -> str:
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    return result.output


def test_the_commands_are_the_promised_ones() -> None:
    assert {" ".join(path) for path in COMMANDS} >= PROMISED


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "ebspub")
def test_help_shows_an_example_of_the_command_on_a_line_of_its_own(path: tuple[str, ...]) -> None:
    examples = help_of(path).partition("\n  Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert examples
    # A group's example is one of its commands.
    assert all(re.search(rf"\bebspub {' '.join(path)}", line) for line in examples)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "ebspub")
def test_help_is_plain_text_and_every_option_is_explained(path: tuple[str, ...]) -> None:
    text = help_of(path)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    options = text.partition("\nOptions:\n")[2].partition("\nCommands:\n")[0]
    for line in re.split(r"\n  (?=-)", "\n" + options)[1:]:
        assert re.search(r"\S {2,}\S|\n {6,}\S", line), line


def test_first_lines_fit_into_the_list_of_commands() -> None:
    listed = help_of(()).partition("\nCommands:\n")[2].splitlines()
    assert [line for line in listed if line.split()[0] in PROMISED and "..." in line] == []


def test_exit_codes_are_documented() -> None:
    for code in ("0 ", "1 ", "2 ", "3 ", "4 ", "75 ", "130 ", "143 "):
        assert code in " ".join(help_of(()).split())


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"ebspub {__version__}\n")


def test_nothing_heavy_is_loaded_for_help() -> None:
    script = (
        "import sys; from ebspub.cli.main import app\n"
        "try: app(['run', '--help'], prog_name='ebspub')\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert run.stdout.splitlines()[-1] == "[]"
