"""Faults of the file in the words of its author: the key's path, what was found, what is expected.

    builds[0].volume.sise: unknown key; did you mean "size"?
    builds[0].serial: found "2010-10-20", expected YYYYMMDD or YYYYMMDD.N, in quotes

What was found is shown through :func:`shown` only, which is the one place that keeps secrets out of messages.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from ebspub.config.regions import nearest, region_fault

Loc = tuple[int | str, ...]

#: Longest piece of a found value that is shown, in characters.
SHOWN = 80
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SECRET_KEY = re.compile(
    r"secret|passw|passphrase|webhook$|token|credential|private|access_?key|api_?key", re.IGNORECASE
)

_EXPECTED: dict[str, str] = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}


def quoted(text: str) -> str:
    """Return ``text`` in double quotes for a message: short, on one line, harmless to a terminal, without secrets.

    Whatever stands before an ``@`` may be a password, whatever follows a ``?`` may be a signature.
    """
    if "@" in text:
        text = "***@" + text.rsplit("@", 1)[1]
    if "://" in text and "?" in text:
        text = text.split("?", 1)[0] + "?***"
    if len(text) > SHOWN:
        text = text[:SHOWN] + "..."
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return '"' + safe.replace('"', '\\"') + '"'


def _shown_number(value: float) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge number"
    return f"the number {value}"


def shown(loc: Loc, value: Any) -> str:
    """Return how the found ``value`` at ``loc`` is shown; only its kind where it is a container or may be a secret."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | BaseModel):
        return "a table"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list" if value else "an empty list"
    if loc[:1] == ("store",) or any(isinstance(part, str) and _SECRET_KEY.search(part) for part in loc):
        return "a value that is not shown here"
    if isinstance(value, int | float):
        return _shown_number(value)
    if isinstance(value, datetime | date | time):
        return f"the date or time {value.isoformat()}"
    return quoted(value) if isinstance(value, str) else f"a {type(value).__name__}"


def path(loc: Loc) -> str:
    """Return ``loc`` as it is written for the user: ``builds[0].volume.size``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if _BARE_KEY.fullmatch(part) else quoted(part)
            text += f".{key}" if text else key
    return text or "the file"


def _tables(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _unwrap(annotation: Any) -> Any:
    """Return ``annotation`` without Optional and Annotated."""
    while True:
        origin = get_origin(annotation)
        if origin in (Union, types.UnionType):
            annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
        elif hasattr(annotation, "__metadata__"):
            annotation = annotation.__origin__
        else:
            return annotation


def _inside(annotation: Any, part: int | str) -> Any:
    """Return the annotation of what lies at ``part`` in a value of ``annotation``; None where that is unknown."""
    annotation = _unwrap(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if part == (field.alias or name):
                return field.annotation
        return None
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def _model_at(root: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    annotation: Any = root
    for part in loc:
        annotation = _inside(annotation, part)
    annotation = _unwrap(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _keys(model: type[BaseModel] | None) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _unknown(root: type[BaseModel], loc: Loc) -> str:
    keys = _keys(_model_at(root, loc[:-1]))
    near = nearest(str(loc[-1]), keys)
    known = f"known here: {', '.join(keys)}"
    return f"{path(loc)}: unknown key; " + (f'did you mean "{near}"?' if near else known)


def _missing(root: type[BaseModel], loc: Loc) -> str:
    model = _model_at(root, loc[:-1])
    fields = model.model_fields.values() if model else []
    described = [f.description for name, f in zip(_keys(model), fields, strict=False) if name == loc[-1]]
    return f"{path(loc)}: missing, expected {described[0] if described and described[0] else 'a value'}"


def _choice(error: Any) -> str:
    """Return the expectation of a literal, with the nearest of its values."""
    expected = str(error["ctx"]["expected"]).replace("'", '"')
    near = nearest(error["input"], re.findall(r'"([^"]+)"', expected)) if isinstance(error["input"], str) else None
    return expected + (f'; did you mean "{near}"?' if near else "")


def _expectation(error: Any) -> str:
    if error["type"] == "ebspub":
        return str(error["ctx"]["expected"])
    if error["type"] == "literal_error":
        return _choice(error)
    template = _EXPECTED.get(error["type"])
    return template.format(**error.get("ctx", {})) if template else str(error["msg"])


def _line(root: type[BaseModel], error: Any) -> str:
    loc: Loc = error["loc"]
    if error["type"] == "extra_forbidden":
        return _unknown(root, loc)
    if error["type"] == "missing":
        return _missing(root, loc)
    if loc and loc[-1] == "[key]":
        return f"{path(loc[:-1])}: expected {_expectation(error)}"
    found, key = error["input"], error.get("ctx", {}).get("key")
    if key:
        loc, found = (*loc, key), _tables(found).get(key)
    return f"{path(loc)}: found {shown(loc, found)}, expected {_expectation(error)}"


def from_validation(root: type[BaseModel], error: ValidationError) -> list[str]:
    """Return one line for each fault that pydantic found in a document of the type ``root``."""
    return [_line(root, each) for each in error.errors(include_url=False)]


def _region_line(loc: Loc, name: str, custom: frozenset[str]) -> list[str]:
    fault = region_fault(name, custom)
    return [f"{path(loc)}: found {quoted(name)}, expected {fault}"] if fault else []


def region_problems(data: Mapping[str, Any]) -> list[str]:
    """Return one line for each unknown region in the raw document ``data``.

    Done on the raw document, so that a misspelt region is told together with everything else that is wrong.
    """
    regions = _tables(data.get("regions"))
    custom = frozenset(name for name, table in regions.items() if _tables(table).get("custom") is True)
    lines = [line for name in regions for line in _region_line(("regions", name), name, custom)]
    builds = data.get("builds")
    for index, build in enumerate(builds if isinstance(builds, list) else []):
        named = _tables(build).get("regions")
        named = [named] if isinstance(named, str) else named
        for position, name in enumerate(named if isinstance(named, list) else []):
            if isinstance(name, str):
                lines += _region_line(("builds", index, "regions", position), name, custom)
        for key in ("kernel_ids", "ramdisk_ids"):
            for name in _tables(_tables(build).get(key)):
                lines += _region_line(("builds", index, key, name), name, custom)
    return lines
