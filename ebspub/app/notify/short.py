"""A notification cut to what a sink takes, where all of it would be too much."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: Characters that are kept of a text: of what names a thing, and of what tells of a fault.
_NAME, _MESSAGE = 256, 300
_HEAD = ("event", "at", "command", "exit_code")
_RELEASE = ("id", "suite", "build", "serial", "label", "state", "published_at")
_JOB = ("id", "status", "ami_id")
_ERROR = ("release", "region", "message", "todo")

Document = Mapping[str, Any]


def text(document: Document, limit: int) -> str:
    """Return the document as JSON of at most ``limit`` bytes (no fewer than 65,536): whole, or shortened.

    A shortened one says so (``shortened``). It has the event, of a release the id, label and state, ``counts`` of jobs
    (by status, too) and of errors, and then as many errors and jobs as there is room for, of each the outcome only.
    """
    whole = json.dumps(document)
    return whole if len(whole) <= limit else json.dumps(_shortened(document, limit))


def _shortened(document: Document, limit: int) -> dict[str, Any]:
    jobs, errors = (_tables(document.get(name)) for name in ("jobs", "errors"))
    short = {**_some(document, _HEAD), "shortened": True}
    release = document.get("release")
    if isinstance(release, Mapping):
        short["release"] = _some(release, _RELEASE)
    statuses = Counter(_cut(str(job.get("status")), 32) for job in jobs).most_common(20)
    short["counts"] = {"jobs": len(jobs), "statuses": dict(statuses), "errors": len(errors)}
    short |= {"errors": [], "jobs": []}
    # Errors get half of what is left, so that of neither nothing is told.
    left = limit - len(json.dumps(short))
    for name, entries, share in (("errors", map(_error, errors), 2), ("jobs", map(_job, jobs), 1)):
        short[name] = list(_fitting(entries, left // share))
        left -= len(json.dumps(short[name]))
    return short


def _fitting(entries: Iterable[Document], room: int) -> Iterator[Document]:
    for entry in entries:
        room -= len(json.dumps(entry)) + len(", ")
        if room < 0:
            return
        yield entry


def _job(job: Document) -> dict[str, Any]:
    error = job.get("error")
    why = {"error": _some(error, ("message",), _MESSAGE)} if isinstance(error, Mapping) else {}
    return {**_some(job, _JOB), **why}


def _error(error: Document) -> dict[str, Any]:
    return _some(error, _ERROR, _MESSAGE)


def _some(table: Document, names: Iterable[str], limit: int = _NAME) -> dict[str, Any]:
    """Return some values of a table: texts cut, what is neither text, number nor nothing left out."""
    found = {name: table[name] for name in names if isinstance(table.get(name, ...), str | int | float | None)}
    return {name: _cut(value, limit) if isinstance(value, str) else value for name, value in found.items()}


def _cut(value: str, limit: int) -> str:
    return value if len(value) <= limit else f"{value[: limit - 1]}…"


def _tables(value: object) -> list[Document]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list | tuple) else []
