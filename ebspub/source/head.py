"""The first bytes of an artefact, and how many it has, to see what it is before anything is launched for it."""

from __future__ import annotations

import os
import queue
import re
import threading
import time
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import HTTPError

from ebspub.errors import SourceError
from ebspub.source import formats, web
from ebspub.source.look import is_local, path_of

#: Seconds for all of it.
DEADLINE = 20.0


_RANGE = re.compile(r"bytes [0-9]+-[0-9]+/([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Head:
    """The first :data:`formats.HEAD` bytes of an artefact, or all; and its size in bytes, None where nobody says."""

    begin: bytes
    size: int | None


@dataclass(frozen=True, slots=True)
class Missing:
    """The last word of a server, or of this machine: there is no such artefact."""

    why: str


class Heads:
    """Looks at artefacts, at each once. Safe to share between threads that look at different ones."""

    def __init__(self) -> None:
        self._seen: dict[str, Head | Missing | None] = {}

    def __call__(self, url: str) -> Head | Missing | None:
        """Return :func:`look` of ``url``."""
        if url not in self._seen:
            self._seen[url] = look(url)
        return self._seen[url]

    def sizes(self) -> dict[str, int]:
        """Return the sizes of the artefacts that were looked at, where they are known."""
        return {url: seen.size for url, seen in self._seen.items() if isinstance(seen, Head) and seen.size is not None}


def look(url: str, *, deadline: float = DEADLINE) -> Head | Missing | None:
    """Return the beginning and the size of an artefact, or that there is none; None where they cannot be had.

    An http(s) server is asked for that range only; where it knows no ranges, no more than that is read. Whatever else
    goes wrong is the builder's to find out, which downloads the whole with patience, and may see what is hidden here.
    """
    if is_local(url):
        try:
            with path_of(url).open("rb") as file:
                return Head(file.read(formats.HEAD), os.fstat(file.fileno()).st_size)
        except FileNotFoundError:
            return Missing(f"{path_of(url)} does not exist")
        except OSError:
            return None
    results: queue.Queue[Head | Missing | None] = queue.Queue(maxsize=1)
    ends = time.monotonic() + deadline

    def work() -> None:
        try:
            results.put(_follow(url, ends))
        except (SourceError, HTTPError, OSError, ValueError):  # ValueError: a host that cannot be one
            results.put(None)

    # A daemon: a thread that hangs in a name server must not keep the process from ending.
    threading.Thread(target=work, name="ebspub-head", daemon=True).start()
    try:
        return results.get(timeout=deadline)
    except queue.Empty:
        return None


def _follow(url: str, ends: float) -> Head | Missing | None:
    here = url
    web.require_web(here)
    for _ in range(web.MAX_REDIRECTS + 1):
        left = max(0.1, ends - time.monotonic())
        with web.manager(here) as manager:
            response = manager.request(
                "GET",
                here,
                headers={**web.headers(), "Range": f"bytes=0-{formats.HEAD - 1}"},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(left, 15.0), read=left),
            )
            try:
                location = response.headers.get("Location")
                if response.status in web.REDIRECTS and location:
                    here = web.follow(here, location)
                    continue
                if response.status in web.ABSENT:
                    return Missing(f"{web.shown(here)}: the server answers {response.status}")
                return _read(response, ends) if response.status in (200, 206) else None
            finally:
                response.close()
    return None


def _read(response: urllib3.BaseHTTPResponse, ends: float) -> Head | None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    content = bytearray()
    while len(content) < formats.HEAD and (piece := response.read1(formats.HEAD - len(content))):
        content += piece
        if time.monotonic() > ends:
            return None
    return Head(bytes(content), _size(response))


def _size(response: urllib3.BaseHTTPResponse) -> int | None:
    """Return what the server says of the whole: a range of it says so, too."""
    if response.status == 206:
        told = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        return int(told[1]) if told else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) <= 18 else None
