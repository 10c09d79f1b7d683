"""What a builder says of a task, read with distrust.

Everything is bounded, numbers are checked, unknown words ignored, control characters taken out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from unicodedata import category

from ebspub.errors import RemoteError

#: Most that a poll may answer, in bytes.
REPLY_LIMIT = 256 * 1024
_MAX_FACTS = 64
_MAX_VALUE = 1000
_MAX_LOG = 4096
_HEADER = "ebspub-report 1"
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)
#: Control, format (bidirectional overrides among them), surrogate, private and unassigned characters, line separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Absent:
    """Not started, or its start was cut short before the work began: `start` begins or completes it."""


@dataclass(frozen=True, slots=True)
class Running:
    """At work."""

    phase: str
    done: int  #: bytes
    total: int  #: bytes; 0 if not known
    age: float  #: seconds since the task last said anything


@dataclass(frozen=True, slots=True)
class Succeeded:
    """Ended with exit status 0."""

    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Failed:
    """Ended otherwise; code ``vanished`` if it was killed or its host rebooted, ``cancelled`` after `cancel`."""

    code: str
    phase: str
    message: str
    status: int | None = None  #: exit status
    log: str = field(default="", repr=False)  #: its last lines


Report = Absent | Running | Succeeded | Failed


def parse_report(raw: bytes) -> Report:
    """Return what the reply of `control.sh`'s ``poll_task`` says; :class:`RemoteError` if it is no whole report."""
    lines = raw[:REPLY_LIMIT].decode("utf-8", "replace").split("\n")
    # A login shell may have greeted us first.
    if _HEADER not in lines or "end" not in lines[lines.index(_HEADER) :]:
        raise RemoteError("the builder's report of the task is cut short or not a report")
    sections = _sections(lines[lines.index(_HEADER) + 1 :])
    state = sections["state"][0] if sections["state"] else ""
    log = "\n".join(clean(line) for line in sections["log"])[-_MAX_LOG:]
    progress = _pairs(sections["progress"])
    phase = _word(progress.get("phase", ""), "")
    match state:
        case "absent":
            return Absent()
        case "running":
            return _running(progress, phase, sections["now"])
        case "vanished":
            return Failed("vanished", phase, "the task was killed, or its host was rebooted", None, log)
        case "ended":
            return _ended(_pairs(sections["result"]), log)
    raise RemoteError("the builder's report of the task does not say what state it is in")


def clean(text: str) -> str:
    """Return ``text`` with blanks for what does not print, on one line, and not endless."""
    printable = (" " if category(char) in _UNPRINTABLE else char for char in text[:_MAX_VALUE])
    return "".join(printable).strip()


def _sections(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"state": [], "now": [], "progress": [], "result": [], "log": []}
    for line in lines:
        if line == "end":
            break
        kind, _, rest = line.partition(" ")
        if kind in found:
            found[kind].append(rest)
    return found


def _pairs(lines: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in lines:
        key, equals, value = line.partition("=")
        if equals:
            pairs.setdefault(key, clean(value))  # what was said first counts
    return pairs


def _running(progress: Mapping[str, str], phase: str, now: list[str]) -> Running:
    done, total = _number(progress.get("done", "")), _number(progress.get("total", ""))
    at, up = progress.get("at", ""), now[0] if now else ""
    age = float(_number(up) - _number(at)) if at and up else 0.0
    return Running(phase or "start", min(done, total) if total else done, total, max(0.0, age))


def _ended(result: Mapping[str, str], log: str) -> Report:
    outcome, status = result.get("outcome"), result.get("status", "")
    if outcome == "succeeded" and status == "0":
        facts = {
            key[5:]: value for key, value in result.items() if key.startswith("fact.") and _WORD.fullmatch(key[5:])
        }
        return Succeeded(dict(list(facts.items())[:_MAX_FACTS]))
    if outcome == "failed":
        return Failed(
            _word(result.get("code", ""), "script"),
            _word(result.get("phase", ""), ""),
            result.get("message", "")[:500],
            _number(status) if _NUMBER.fullmatch(status) else None,
            log,
        )
    raise RemoteError("the builder's result of the task is damaged")


def _number(text: str) -> int:
    return int(text) if _NUMBER.fullmatch(text) else 0


def _word(text: str, otherwise: str) -> str:
    return text if _WORD.fullmatch(text) else otherwise
