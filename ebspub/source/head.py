"""The first bytes of an artefact, to see what it is before anything is launched for it."""

from __future__ import annotations

import queue
import threading
import time

import urllib3
from urllib3.exceptions import HTTPError

from ebspub.errors import SourceError
from ebspub.source import formats, web
from ebspub.source.look import is_local, path_of

#: Seconds for all of it.
DEADLINE = 20.0


def head(url: str, *, deadline: float = DEADLINE) -> bytes | None:
    """Return the first :data:`formats.HEAD` bytes of an artefact, or all; None where they cannot be had.

    An http(s) server is asked for that range only; where it knows no ranges, no more than that is read. Whatever goes
    wrong is the builder's to find out, which downloads the whole with patience.
    """
    if is_local(url):
        try:
            with path_of(url).open("rb") as file:
                return file.read(formats.HEAD)
        except OSError:
            return None
    results: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
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


def _follow(url: str, ends: float) -> bytes | None:
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
                return _read(response, ends) if response.status in (200, 206) else None
            finally:
                response.close()
    return None


def _read(response: urllib3.BaseHTTPResponse, ends: float) -> bytes | None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    content = bytearray()
    while len(content) < formats.HEAD and (piece := response.read1(formats.HEAD - len(content))):
        content += piece
        if time.monotonic() > ends:
            return None
    return bytes(content)
