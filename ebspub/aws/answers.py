"""What an answer must hold to be believed.

botocore reads an answer by the service's model and leaves out what it does not find: an error page that happens to be
XML, or an answer that lost a part on its way, gives fewer keys and no error. Taken for "there is none", it would let
a job make again what is there already. What is missing here is therefore no answer at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from botocore.parsers import ResponseParserError

#: Pages of one describe call: far above any real account, and an endpoint that never comes to an end is told.
MAX_PAGES = 1000
_ROOT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?<(?:\w+:)?\w+Response[\s/>]")


class GarbledAnswerError(ValueError):
    """An answer lacks what every answer of its kind has; the message is a phrase about it."""


def text(item: Mapping[str, Any], key: str) -> str:
    """Return the id or name that an answer must hold under ``key``. Raises GarbledAnswerError."""
    value = item.get(key)
    if not isinstance(value, str) or not value or not value.isprintable() or value != value.strip():
        raise GarbledAnswerError(f"it has no {key}")
    return value


def said(item: Mapping[str, Any], *path: str) -> str:
    """Return the text at ``path`` in an answer, empty where there is none. Raises GarbledAnswerError.

    For an element that is there twice botocore gives a list, whatever the model says.
    """
    value: Any = item
    for key in path:
        value = value.get(key)
        if value is None:
            return ""
    if not isinstance(value, str):
        raise GarbledAnswerError(f"its {path[-1]} is no text")
    return value


def listed(answer: Mapping[str, Any], key: str) -> list[Any]:
    """Return the list that an answer must hold under ``key``, empty or not. Raises GarbledAnswerError."""
    value = answer.get(key)
    if not isinstance(value, list):
        raise GarbledAnswerError(f"it has no {key}")
    return value


def paged(call: Any, key: str, **arguments: Any) -> list[Any]:
    """Return the items under ``key`` of all pages of a describe call.

    Raises GarbledAnswerError for a page without them, and for pages without an end.
    """
    items: list[Any] = []
    seen: set[str] = set()
    while True:
        answer = call(**arguments)
        items.extend(listed(answer, key))
        following = answer.get("NextToken")
        if not following:
            return items
        if following in seen or len(seen) >= MAX_PAGES:
            raise GarbledAnswerError(f"its pages of {key} have no end")
        seen.add(following)
        arguments["NextToken"] = following


def require_answer(response_dict: Mapping[str, Any], **_: object) -> None:
    """Refuse an answer of EC2 with a good status that is none: an error, or the page of a proxy or a portal.

    A handler of botocore's event `before-parse`: calls such as DeleteVolume have no output in the model, so that
    whatever comes back with status 200 would count as done. Raises ResponseParserError.
    """
    if response_dict["status_code"] < 301 and not _ROOT.match(response_dict["body"]):
        raise ResponseParserError("the answer is not one of EC2's")
