"""Log records on stderr: what a builder or a server said cannot forge one, nor write to a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ebspub.cli.command import start_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("ebspub")
    handlers, level = list(root.handlers), ours.level
    yield
    root.handlers[:] = handlers
    ours.setLevel(level)


@pytest.mark.parametrize("verbose", [True, False])
def test_a_record_is_one_line_whatever_it_quotes(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(verbose=verbose)
    logging.getLogger("ebspub.x").warning("the builder says: %s", "\x1b[2Jx\n2026-01-01 CRITICAL ebspub: forged")
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.strip().isprintable()


def test_a_traceback_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    start_logging(verbose=True)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("ebspub.x").exception("a\nb")
    told = capsys.readouterr().err.splitlines()
    assert told[0].endswith("a b")
    assert told[1] == "Traceback (most recent call last):"
