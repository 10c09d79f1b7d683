"""Answers as no service should give them: right ones with something missing, odd or doubled, and no answers at all."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

from hypothesis import strategies as st

from tests.properties.wire import Answer

#: What an element may hold instead.
_TEXTS = st.one_of(
    st.sampled_from(
        [
            "", " ", "\n", "0", "-1", "true", "maybe", "NaN", "1e999", "9" * 400, "banana", "pending", "terminated",
            "\u202e", "é" * 300, "i-1\nDROP", "2010-10-20T00:00:00Z", "9999-99-99T99:99:99Z",
            "0001-01-01T00:00:00+23:59",
            "-99999999999999999999", "100%", "=", "A===",
        ]
    ),
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=12),
)  # fmt: skip
_PAGES = [
    b"",
    b" ",
    b"\x00\x01\x02",
    b"\xff\xfe<\x00x\x00",
    b"<html><head><title>502 Bad Gateway</title></head><body><hr></body></html>",
    b"<!DOCTYPE html>\n<html><body><form action='/login'><p>Welcome to the hotel<br></form></html>",
    b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Sign in</p></body></html>',
    b"<Response/>",
    b"<Response><Errors><Error><Code>InternalError</Code><Message>no</Message></Error></Errors></Response>",
    b"<DescribeNothingResponse/>",
    b"<DescribeNothingResponse><item><item><item/></item></item></DescribeNothingResponse>",
    b"<a>" * 3000 + b"</a>" * 3000,
    b"null",
    b"[]",
    b'"x"',
    b"{}",
    b"[" * 100_000,
    b'{"message": 5, "__type": []}',
    b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
]
_CODES = st.one_of(
    st.sampled_from(
        ["", "Unknown", "404", "InternalError", "InvalidVolume.NotFound", "Unsupported", "Throttling", "é"]
    ),
    st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")), max_size=9),
)
#: What leaves a status without its meaning, or with none.
_STATUSES = [200, 200, 200, 200, 204, 206, 299, 300, 301, 400, 403, 404, 407, 429, 500, 502, 503, 599]


def pages(statuses: st.SearchStrategy[int]) -> st.SearchStrategy[Answer]:
    """Return whole bodies that are no answer to any call."""
    bodies = st.one_of(st.sampled_from(_PAGES), st.binary(max_size=60))
    return st.builds(Answer, bodies, statuses, st.sampled_from([{}, {"date": "never"}, {"content-type": "text/html"}]))


@st.composite
def errors(draw: st.DrawFn) -> Answer:
    """Return an error as EC2 gives them, with any code and a status that may not go with it."""
    code = draw(_CODES)
    root = ET.Element("Response")
    error = ET.SubElement(ET.SubElement(root, "Errors"), "Error")
    if draw(st.booleans()):
        ET.SubElement(error, "Code").text = code
    else:
        code = ""
    if draw(st.booleans()):
        ET.SubElement(error, "Message").text = draw(_TEXTS)
    ET.SubElement(root, "RequestID").text = draw(_TEXTS)
    status = draw(st.sampled_from(_STATUSES))
    return Answer(ET.tostring(root), status, refusal=status > 300 and bool(code.strip()))


@st.composite
def spoilt(draw: st.DrawFn, good: str) -> Answer:
    """Return the XML document ``good`` with one to four things in it spoilt, or cut off."""
    root = ET.fromstring(good)
    for _ in range(draw(st.integers(1, 4))):
        _spoil(draw, root)
    body = ET.tostring(root)
    if draw(st.integers(0, 9)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return Answer(body, draw(st.sampled_from(_STATUSES[:6])))


def _spoil(draw: st.DrawFn, root: ET.Element) -> None:
    places = [(parent, child) for parent in root.iter() for child in parent]
    if not places:
        return
    parent, child = draw(st.sampled_from(places))
    match draw(st.sampled_from(["drop", "drop", "text", "text", "empty", "double", "rename", "many"])):
        case "drop":
            parent.remove(child)
        case "text":
            child.text = draw(_TEXTS)
        case "empty":
            child.clear()
        case "double":
            parent.append(child)
        case "rename":
            child.tag = draw(st.sampled_from(["item", "nextToken", "Item", "x", "tagSet", "error"]))
        case "many":
            for _ in range(200):
                parent.append(child)


def answers(good: str) -> st.SearchStrategy[Answer]:
    """Return any answer to a call whose right one is the XML document ``good``."""
    return st.one_of(spoilt(good), spoilt(good), pages(st.sampled_from(_STATUSES)), errors())


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["Parameter", "Value", "Quota", "Quotas", "QuotaName", "NextToken", "__type", "message"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)


def json_answers() -> st.SearchStrategy[Answer]:
    """Return any answer to a call of a service that speaks JSON."""

    def dumped(value: Any, status: int) -> Answer:
        return Answer(json.dumps(value).encode(), status)

    statuses = st.sampled_from(_STATUSES)
    return st.one_of(st.builds(dumped, _JSON, statuses), pages(statuses))
