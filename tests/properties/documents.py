"""Configurations that are wrong in ways that the schema itself suggests: a right document, and what to put into it."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator
from datetime import date, datetime, time
from itertools import pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from ebspub.config.model import Config

Place = tuple[str | int, ...]

#: Stands for a folder of the test, in documents that are made before it is.
HERE = "@HERE@"
REGION = "us-east-1"


def document() -> dict[str, Any]:
    """Return a right configuration whose source is proved without a look at the network."""
    return {
        "store": {"folder": f"{HERE}/state"},
        "limits": {"attempts": 2},
        "engine": {"poll_interval": 1.0, "lease": 30.0},
        "builder": {"images": {"amd64": "ami-0a1b2c3d4e5f60718"}, "ssh_cidr": "203.0.113.0/24"},
        "regions": {REGION: {"tags": {"site": "here"}}},
        "builds": [
            {
                "suite": "lucid",
                "label": "release",
                "version": "10.04",
                "serial": "20101020",
                "arches": ["amd64"],
                "source": {"url": "http://127.0.0.1:9/{suite}-{arch}.tar.gz", "sha256": "a" * 64},
            }
        ],
    }


def _models(annotation: Any) -> Iterator[tuple[Place, type[BaseModel]]]:
    """Yield the tables within an annotation, with the keys that lead to them."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for each in arguments:
            yield from _models(each)
    elif hasattr(annotation, "__metadata__"):
        yield from _models(annotation.__origin__)
    elif origin is dict:
        for place, model in _models(arguments[1]):
            yield (REGION, *place), model
    elif origin in (tuple, list):
        for place, model in _models(arguments[0]):
            yield (0, *place), model
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield (), annotation


def places(model: type[BaseModel] = Config, here: Place = ()) -> Iterator[Place]:
    """Yield the place of every key that the schema knows."""
    for name, field in model.model_fields.items():
        place = (*here, field.alias or name)
        yield place
        for inner, table in _models(field.annotation):
            yield from places(table, (*place, *inner))


PLACES = sorted(set(places()), key=str)
#: No value here names a host of the network, or a file outside the test's folder.
_PLAUSIBLE = [
    "lucid", "server", "release", "10.04", "20101020", "20101020.1", "20101032", "amd64", "arm64", "i386", "mips",
    "us-east-1", "eu-west-1", "mars-1", "ami-0a1b2c3d", "aki-0a1b2c3d", "ari-0a1b2c3d", "ssm:/a/b", "10.0.0.0/8",
    "10.0.0.1/8", "0.0.0.0/0", "::/0", "hvm", "paravirtual", "uefi", "legacy-bios", "gp3", "io2", "standard", "v2.0",
    "/dev/sda1", "/dev/sdb", "/dev/sda", "ephemeral0", "http://127.0.0.1:9/{arch}/x.tar.gz", "http://[", "{serial}",
    "{", "{0}", "{suite.x}", "0" * 64, "sg-0a1b2c3d", "subnet-0a1b2c3d", "t3.medium", "private", "public", "ubuntu",
    "aws:x", "ebspub:job", "a" * 300, "", " ", "\t", "..", "\x00", "a\x00b", "\x1b[2J", "\u202etxt", "ünïcödé", "💥",
    f"{HERE}/state", f"{HERE}/ebspub.toml/state", f"{HERE}/\x07", f"{HERE}/" + "x" * 300, f"{HERE}/" + "x/" * 3000,
    f"sqlite:///{HERE}/x.db", f"sqlite:///{HERE}/ebspub.toml", "sqlite://", "sqlite:///:memory:", "sqlite:///x.db",
    f"sqlite:///{HERE}/x.db?mode=ro", f"sqlite:///{HERE}/x.db?nonsense=1", f"sqlite+nothing:///{HERE}/x.db",
    "postgresql://127.0.0.1:9/x", "postgresql+nothing://127.0.0.1:9/x", "mysql://127.0.0.1:9/x", "x://:@:/", "://",
    "~", "~/x",
]  # fmt: skip
_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(_PLAUSIBLE),
    # No slash: below it lie the files of this machine.
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=12),
    st.integers(-10, 100),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, -(10**4000)]),
    st.floats(),
    st.booleans(),
    st.just(date(2010, 10, 20)),
    st.just(datetime(2010, 10, 20)),  # noqa: DTZ001 - TOML has dates without a zone
    st.just(time(1, 2, 3)),
)
_KEYS = st.one_of(
    st.sampled_from(sorted({str(part) for place in PLACES for part in place})),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    _LEAVES,
    _LEAVES,
    st.recursive(
        _LEAVES,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
        max_leaves=8,
    ),
    st.builds(list),
    st.builds(dict),  # a fresh one each time: what is drawn is put into
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Return the right document with one to three keys of the schema set, removed, or joined by an unknown one."""
    found = document()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(PLACES))
        match draw(st.sampled_from(["set", "set", "set", "remove", "unknown", "nest"])):
            case "set":
                put(found, place, draw(VALUES))
            case "remove":
                put(found, place, None)
            case "unknown":
                put(found, (*place[:-1], draw(_KEYS)), draw(VALUES))
            case "nest":
                put(found, place, {str(place[-1]): draw(VALUES)})
    return found


def put(inside: Any, place: Place, value: Any) -> None:
    """Set what lies at ``place``, with the tables on the way to it; None takes it away."""
    for key, following in pairwise(place):
        if isinstance(inside, list):
            if not inside:
                inside.append({})
            inside = inside[0]
            continue
        if not isinstance(inside.get(key), dict | list):
            inside[key] = [] if isinstance(following, int) else {}
        inside = inside[key]
    if isinstance(inside, list):
        inside[:] = [] if value is None else [value]
    elif value is None:
        inside.pop(place[-1], None)
    else:
        inside[place[-1]] = value


def toml(found: dict[str, Any], here: Path) -> str:
    """Return a document as TOML, each top-level key on a line of its own."""
    lines = [f"{_text(key)} = {_value(value)}\n" for key, value in found.items()]
    return "".join(lines).replace(HERE, str(here))


def _text(value: str) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else '"' + "".join(map(_char, value)) + '"'


def _char(char: str) -> str:
    return char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(str(value)) or _finite(value)
    if isinstance(value, int) and abs(value) > 10**300:
        return ("-" if value < 0 else "") + "1" + "0" * int(math.log10(abs(value)))
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _finite(value: float) -> str:
    told = repr(value)
    return told if "." in told or "e" in told else f"{told}.0"
