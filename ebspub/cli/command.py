"""What all commands share: errors become messages and exit codes, log records become lines on stderr."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ebspub.cli import output
from ebspub.errors import EbspubError, UsageError

#: Exit code of a defect of ours, and of output that could not be written.
DEFECT = 1


def _keep_lines(text: str | None) -> str | None:
    """Mark the examples of a help text, so that their lines are not joined to a paragraph."""
    return text.replace("\n\nExamples:\n", "\n\n\b\nExamples:\n") if text else text


class Group(TyperGroup):
    """A group of commands whose help ends with examples."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "help": _keep_lines(attributes.get("help"))})


class Command(TyperCommand):
    """A command whose errors are told to the user in words; a traceback is shown only with --verbose."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **{**attributes, "help": _keep_lines(attributes.get("help"))})

    def invoke(self, ctx: Any) -> Any:
        output.begin()
        try:
            _require_text(ctx.params)
            result = super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except EbspubError as error:
            output.err(f"ebspub: {output.clean_lines(str(error))}")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            _tell_defect(error)
            raise typer.Exit(DEFECT) from error
        if output.failed():
            raise typer.Exit(DEFECT)
        return result


def _require_text(parameters: Mapping[str, Any]) -> None:
    """Raise UsageError for a word that is not UTF-8: no name is, and no database takes it. Names of files may be so."""
    for name, value in parameters.items():
        for word in value if isinstance(value, list | tuple) else [value]:
            if isinstance(word, str) and not word.isascii() and any("\ud800" <= char <= "\udfff" for char in word):
                raise UsageError(f"{name.upper()}: found {word!r}, which is not UTF-8", todo="See --help.")


def _tell_defect(error: Exception) -> None:
    output.err(f"ebspub: internal error: {type(error).__name__}: {output.clean(str(error))}")
    if is_verbose():
        output.err("".join(traceback.format_exception(error)).rstrip())
    else:
        output.err("  This is a defect of ebspub. Run it again with --verbose and report what it says.")


class _Lines(logging.Handler):
    """Writes records to whatever stderr is now: a live table may have put itself in front of it."""

    def emit(self, record: logging.LogRecord) -> None:
        output.err(self.format(record))


class _Full(logging.Formatter):
    """A record with its time, its logger and its traceback; what a builder or a server said cannot forge another."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        record.message = output.clean(record.message)
        return super().formatMessage(record)


class _Brief(logging.Formatter):
    """One line for a record, without its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return f"ebspub: {record.levelname.lower()}: {output.clean(record.getMessage())}"


_handler = _Lines()


def start_logging(*, verbose: bool) -> None:
    """Send log records to stderr: our warnings; with ``verbose`` all of ours, and the libraries' warnings."""
    root, ours = logging.getLogger(), logging.getLogger("ebspub")
    if _handler not in root.handlers:
        root.addHandler(_handler)
    _handler.filters.clear()
    ours.setLevel(logging.DEBUG if verbose else logging.WARNING)
    if verbose:
        _handler.setFormatter(_Full("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    else:
        _handler.setFormatter(_Brief())
        # What libraries warn of (a connection that is made anew) comes back as an error of a job where it matters.
        _handler.addFilter(lambda record: record.name.split(".")[0] == "ebspub")


def is_verbose() -> bool:
    """Return whether --verbose was given."""
    return logging.getLogger("ebspub").level == logging.DEBUG
