"""Whatever the configuration says: every command ends in words, and a wrong one touches nothing at all."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.config import load
from ebspub.errors import ConfigError
from tests.properties import documents
from tests.properties.commands import Ended, files, run
from tests.properties.examples import examples

JOB = "lucid-server-20101020-amd64-us-east-1"
COMMANDS: list[list[str]] = [
    ["run"],
    ["plan"],
    ["resume"],
    ["status"],
    ["show", JOB],
    ["find"],
    ["cancel", JOB],
    ["sweep"],
    ["doctor"],
    ["db", "current"],
    ["db", "upgrade"],
]
#: What no configuration can be: these are refused before anything is opened.
NEVER = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"[[builds]]",
    b"builds = 3",
    b"a" * 70_000,
    b"[" * 5000,
    b"x = " + b"[" * 5000,
    b"x = 1e999",
]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("configurations")


def fresh(place: Path, content: bytes) -> tuple[Path, Path]:
    """Return a folder of its own with ``content`` as its configuration, and that file."""
    folder = place / str(next(_numbers))
    folder.mkdir()
    file = folder / "ebspub.toml"
    file.write_bytes(content)
    return folder, file


def judge(arguments: list[str], folder: Path, file: Path) -> Ended:
    """Run a command; see that it ends in words, and that nothing is touched where the configuration is wrong."""
    try:
        load(file)
    except ConfigError as error:
        wrong: ConfigError | None = error
    else:
        wrong = None
    ended = run(arguments, folder, file)
    ended.judge()
    if wrong is not None:
        assert ended.code == 2
        assert ended.out == ""
        assert ended.err.startswith("ebspub: ")
        assert ended.err.isprintable() or all(line.isprintable() for line in ended.err.splitlines())
        assert files(folder) == ["ebspub.toml"]
        assert ended.wire.sent == []
    return ended


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_the_right_document_is_right(place: Path, arguments: list[str]) -> None:
    folder, file = fresh(place, documents.toml(documents.document(), place / "right").encode())
    load(file)
    judge(arguments, folder, file)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@examples(20)
@given(document=documents.documents())
def test_a_document_that_the_schema_may_not_like(place: Path, arguments: list[str], document: dict[str, Any]) -> None:
    folder, file = fresh(place, b"")
    file.write_text(documents.toml(document, folder), encoding="utf-8")
    judge(arguments, folder, file)


@examples(25)
@given(content=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)))
def test_any_bytes_as_a_file(place: Path, content: bytes) -> None:
    folder, file = fresh(place, content)
    for arguments in (["run"], ["plan"]):
        assert judge(arguments, folder, file).code == 2


@pytest.mark.parametrize("kind", ["folder", "loop", "unreadable name", "null", "zero"])
def test_a_file_that_is_none(place: Path, kind: str) -> None:
    folder, file = fresh(place, b"")
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    elif kind == "null":
        file = Path(os.devnull)
    elif kind == "unreadable name":
        file = folder / ("x" * 5000)
    else:
        file = Path("/dev/zero")
    ended = run(["run", "--config", str(file)], folder)
    ended.judge()
    assert (ended.code, ended.out, ended.wire.sent) == (2, "", [])


@pytest.mark.parametrize("arguments", [["run"], ["status"], ["db", "upgrade"], ["doctor"]], ids=" ".join)
@pytest.mark.parametrize("state", ["ebspub.toml/state", "ebspub.toml", "x" * 300, "x/" * 3000], ids=len)
def test_a_state_folder_that_cannot_be(place: Path, arguments: list[str], state: str) -> None:
    folder, file = fresh(place, b"")
    document = documents.document()
    document["store"]["folder"] = f"{folder}/{state}"
    file.write_text(documents.toml(document, folder))
    judge(arguments, folder, file)
    assert files(folder) == ["ebspub.toml"]


@pytest.mark.parametrize("content", NEVER, ids=range(len(NEVER)))
def test_what_is_no_configuration(place: Path, content: bytes) -> None:
    folder, file = fresh(place, content)
    assert judge(["run"], folder, file).code == 2
