"""Whatever the command line says: a documented exit code, words, no change in the account, no trace of wrong usage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ebspub.cli.main import app
from ebspub.config import load, select
from ebspub.states import State, Status
from ebspub.store import Store
from tests.properties import documents
from tests.properties.commands import Ended, files, rows, run
from tests.properties.examples import examples
from tests.unit.cli.stories import Story

JOB = "lucid-server-20101020-amd64-us-east-1"
#: What writes into the user's shell.
NEVER = frozenset({"--install-completion", "--show-completion"})

_WORDS: st.SearchStrategy[str] = st.one_of(
    st.sampled_from(
        [
            JOB, "lucid", "server", "release", "20101020", "20101020.1", "20101032", "amd64", "sparc", "us-east-1",
            "mars-1", "", " ", "-", "--", "---", "=", "--=", "-vv", "-v=1", "0", "-1", "1e400", "nan", "inf", "-inf",
            "3600", "é" * 300, "x" * 5000, "\x1b[2J", "a\nb", "\u202e", "'; --", "%s", "{0}", "*", "../../x",
            "no/such/file", "\udcff", "@file", "--config", "--help", "--json", "--version", "-h", "?",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
)  # fmt: skip


def tree(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command of the program with the words that name it."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from tree(each, (*path, name))


TREE = dict(tree(typer.main.get_command(app)))
RUNNABLE = sorted(" ".join(path) for path, each in TREE.items() if path and not hasattr(each, "commands"))


def options(command: Any) -> list[tuple[str, bool]]:
    """Return the options of a command, and whether each takes a value."""
    return [
        (name, not getattr(parameter, "is_flag", False))
        for parameter in command.params
        if parameter.param_type_name == "option"
        for name in parameter.opts
        if name not in NEVER
    ]


@st.composite
def lines(draw: st.DrawFn, path: tuple[str, ...]) -> list[str]:
    """Return a command line for the command ``path``: its own options with any values, in any order, and junk."""
    known = options(TREE[path])
    line: list[str] = []
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["option", "option", "joined", "word", "junk"]))
        if kind == "word" or not known:
            line.append(draw(_WORDS))
        elif kind == "junk":
            line.append("--" + draw(_WORDS))
        else:
            name, valued = draw(st.sampled_from(known))
            if kind == "joined":
                line.append(f"{name}={draw(_WORDS)}")
            else:
                line += [name, draw(_WORDS)] if valued else [name]
    return line


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a right configuration and a database of jobs: waiting, half done, failed, registered."""
    folder = tmp_path_factory.mktemp("state")
    found = documents.document()
    found["regions"] = {"us-east-1": {}, "eu-west-1": {}, "us-west-1": {}, "sa-east-1": {}}
    file = folder / "ebspub.toml"
    file.write_text(documents.toml(found, folder))
    config = load(file)
    with Store.open(config.store_url()) as store:
        first, second, third, fourth = (Story(store, spec, n) for n, spec in enumerate(select(config)))
        first.free(Status.WAITING)
        second.reach(State.ATTACHED).free(Status.WAITING)
        third.reach(State.SNAPSHOTTED).fail("register", "RegisterImage: no", "Refused", "req-4711")
        fourth.reach(State.REGISTERED)
    shutil.copytree(folder / "state", folder / "before")
    return folder


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a right configuration and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "ebspub.toml").write_text(documents.toml(documents.document(), folder))
    return folder


def judge(line: list[str], folder: Path) -> Ended:
    """Run a command line on the state of ``folder`` as it was at first; wrong usage must leave it so."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    if (folder / "before").exists():
        shutil.copytree(folder / "before", folder / "state")
    database = folder / "state/ebspub.db"
    before = rows(database) if database.exists() else {}
    ended = run(line, folder, folder / "ebspub.toml")
    ended.judge()
    if ended.code == 2:
        assert (rows(database) if database.exists() else {}) == before, f"wrong usage, and the database changed: {line}"
    return ended


@pytest.mark.parametrize("name", RUNNABLE)
@examples(15)
@given(data=st.data())
def test_any_arguments_of_a_command(state: Path, name: str, data: st.DataObject) -> None:
    path = tuple(name.split())
    line = [*path, *data.draw(lines(path))]
    judge(line, state)


@pytest.mark.parametrize("name", ["run", "plan", "resume", "cancel", "show", "status", "sweep"])
@examples(12)
@given(data=st.data())
def test_wrong_usage_makes_no_database(empty: Path, name: str, data: st.DataObject) -> None:
    line = [name, *data.draw(lines((name,)))]
    ended = judge(line, empty)
    if ended.code == 2:
        assert files(empty) == ["ebspub.toml"]


@examples(30)
@given(before=lines(()), name=st.sampled_from([*RUNNABLE, "", "nonsense"]), after=st.lists(_WORDS, max_size=2))
def test_any_words_before_and_after_a_command(state: Path, before: list[str], name: str, after: list[str]) -> None:
    judge([*before, *name.split(), *after], state)


@pytest.mark.parametrize("grace", ["nan", "-nan", "NaN", "-1", "x", ""])
def test_a_grace_that_is_no_number_removes_nothing(state: Path, grace: str) -> None:
    ended = judge(["sweep", f"--grace={grace}"], state)
    assert (ended.code, ended.wire.sent) == (2, [])


@pytest.mark.parametrize("line", [["run"], ["resume"], ["resume", JOB], ["cancel", JOB], ["sweep"]], ids=" ".join)
def test_credentials_that_are_refused_are_told_before_anything_is_written_down(state: Path, line: list[str]) -> None:
    ended = judge(line, state)
    assert ended.code == 2
    assert "AWS credentials" in ended.err


@pytest.mark.parametrize(
    ("name", "value"), [("AWS_PROFILE", "no-such"), ("AWS_ENDPOINT_URL", "not a url"), ("AWS_ENDPOINT_URL", "http://")]
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_wrong_configuration_of_aws_is_2(
    empty: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    ended = judge([command], empty)
    assert (ended.code, ended.wire.sent) == (2, [])
    assert files(empty) == ["ebspub.toml"]


@pytest.mark.parametrize(
    "line",
    [["cancel"], ["show"], ["resume"], ["status", "--build"], ["status", "--region"], ["sweep", "--region"]],
    ids=" ".join,
)
def test_words_that_are_not_utf_8_are_wrong_usage(state: Path, line: list[str]) -> None:
    ended = judge([*line, "\udcff"], state)
    assert (ended.code, ended.wire.sent) == (2, [])


def test_a_file_name_that_is_not_utf_8_is_told(state: Path) -> None:
    ended = judge(["localcloud", "status", "--folder", "\udcff"], state)
    assert (ended.code, ended.out) == (3, "no cloud runs in \\udcff\n")
