"""Fetch small documents over http(s): bounded in size and in time, and never from anywhere else.

urllib3's time limits are those of single reads, and names are resolved without any limit: a server that sends one
byte a minute holds a client for ever. The work is therefore done in a thread that the caller stops waiting for.
"""

from __future__ import annotations

import queue
import threading
import time

import urllib3
from urllib3.exceptions import HTTPError

from ebspub.errors import SourceError
from ebspub.source import web

#: Largest document, in bytes. Ubuntu's SHA256SUMS have a few KiB.
LIMIT = 1024 * 1024
#: Seconds for all of it: names, connections, redirects, content.
DEADLINE = 60.0
_CHUNK = 64 * 1024
_TRIES = 3


class _TransientError(SourceError):
    """Trying again may help."""


def fetch(url: str, *, limit: int = LIMIT, deadline: float = DEADLINE) -> bytes:
    """Return the content of ``url``, at most ``limit`` bytes, within ``deadline`` seconds.

    http and https only; a redirect may lead from http to either, from https only to https. Proxies are those of the
    environment. Answers 429 and 5xx and broken connections are tried three times. Raises :class:`SourceError`, and
    its subclass :class:`web.AbsentError` where the server says that there is no such file.
    """
    return _within(url, "GET", limit, deadline)


def exists(url: str, *, deadline: float = DEADLINE) -> bool:
    """Return whether the server has ``url``, by a HEAD request as bounded as :func:`fetch`.

    A server that takes no HEAD is believed to have it: who fetches it will see.
    """
    try:
        _within(url, "HEAD", 0, deadline)
    except web.AbsentError:
        return False
    return True


def _within(url: str, method: str, limit: int, deadline: float) -> bytes:
    web.require_web(url)
    results: queue.Queue[bytes | BaseException] = queue.Queue(maxsize=1)
    ends = time.monotonic() + deadline

    def work() -> None:
        try:
            results.put(_with_tries(url, method, limit, ends))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            results.put(error)

    # A daemon: a thread that hangs in a name server must not keep the process from ending.
    threading.Thread(target=work, name="ebspub-fetch", daemon=True).start()
    try:
        result = results.get(timeout=deadline)
    except queue.Empty:
        raise SourceError(f"{web.shown(url)}: no complete answer within {deadline:g} s", todo=web.ADVICE) from None
    if isinstance(result, BaseException):
        raise result
    return result


def _with_tries(url: str, method: str, limit: int, ends: float) -> bytes:
    for left in reversed(range(_TRIES)):
        try:
            return _follow(url, method, limit, ends)
        except _TransientError as error:
            pause = 0.5 * (_TRIES - left)
            if not left or time.monotonic() + pause > ends:
                # Not as the private class: callers and logs know the public one.
                raise SourceError(error.what, todo=error.todo) from error
            time.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")


def _follow(url: str, method: str, limit: int, ends: float) -> bytes:
    here = url
    for _ in range(web.MAX_REDIRECTS + 1):
        answer = _ask(here, method, limit, ends)
        if isinstance(answer, bytes):
            return answer
        here = web.follow(here, answer)
    raise SourceError(f"{web.shown(url)}: more than {web.MAX_REDIRECTS} redirects", todo=web.ADVICE)


def _left(url: str, ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise SourceError(f"{web.shown(url)}: no complete answer in time", todo=web.ADVICE)
    return left


def _ask(url: str, method: str, limit: int, ends: float) -> bytes | str:
    """Return the content of ``url`` (nothing for HEAD), or where it redirects to."""
    left = _left(url, ends)
    try:
        with web.manager(url) as manager:
            response = manager.request(
                method,
                url,
                headers=web.headers(),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(left, 15.0), read=left),
            )
            try:
                return _answer(response, url, method, limit, ends)
            finally:
                response.close()
    except (HTTPError, OSError, ValueError) as error:
        # ValueError: a host or a proxy that cannot be one (IDNA, ports).
        # The kind only: texts of network libraries hold whole URLs, with whatever is in them.
        raise _TransientError(
            f"{web.shown(url)} cannot be fetched ({type(error).__name__})", todo=web.ADVICE
        ) from error


def _answer(response: urllib3.BaseHTTPResponse, url: str, method: str, limit: int, ends: float) -> bytes | str:
    location = response.headers.get("Location")
    if response.status in web.REDIRECTS and location:
        return location
    if response.status in web.TRY_AGAIN:
        raise _TransientError(f"{web.shown(url)}: the server answers {response.status}", todo=web.ADVICE)
    if method == "HEAD" and response.status in (200, 405, 501):
        return b""
    if response.status in web.ABSENT:
        raise web.AbsentError(f"{web.shown(url)}: the server answers {response.status}", todo=web.ADVICE)
    if response.status == 403:
        raise web.ForbiddenError(f"{web.shown(url)}: the server answers 403", todo=web.ADVICE)
    if response.status != 200:
        raise SourceError(f"{web.shown(url)}: the server answers {response.status}", todo=web.ADVICE)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # Asked for as it is: a packed answer could unpack to any size.
        raise SourceError(f"{web.shown(url)}: the server sends it packed", todo=web.ADVICE)
    content = bytearray()
    # read1: one receive at a time, so that the clock is looked at between any two.
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise SourceError(f"{web.shown(url)}: larger than {limit} bytes, not what was asked for", todo=web.ADVICE)
        _left(url, ends)
    return bytes(content)
