"""Fetch small documents over http(s): bounded in size and in time, and never from anywhere else.

urllib3's time limits are those of single reads, and names are resolved without any limit: a server that sends one
byte a minute holds a client for ever. The work is therefore done in a thread that the caller stops waiting for.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError

import ebspub
from ebspub.errors import SourceError

#: Largest document, in bytes. Ubuntu's SHA256SUMS have a few KiB.
LIMIT = 1024 * 1024
#: Seconds for all of it: names, connections, redirects, content.
DEADLINE = 60.0
MAX_REDIRECTS = 5
_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_TRIES = 3
_TODO = "Check the URL in the configuration and the network (http_proxy, https_proxy, no_proxy); nothing was touched."


class _TransientError(SourceError):
    """Trying again may help."""


def fetch(url: str, *, limit: int = LIMIT, deadline: float = DEADLINE) -> bytes:
    """Return the content of ``url``, at most ``limit`` bytes, within ``deadline`` seconds.

    http and https only; a redirect may lead from http to either, from https only to https. Proxies are those of the
    environment. Answers 429 and 5xx and broken connections are tried three times. Raises :class:`SourceError`.
    """
    _require_web(url)
    results: queue.Queue[bytes | BaseException] = queue.Queue(maxsize=1)
    ends = time.monotonic() + deadline

    def work() -> None:
        try:
            results.put(_with_tries(url, limit, ends))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            results.put(error)

    # A daemon: a thread that hangs in a name server must not keep the process from ending.
    threading.Thread(target=work, name="ebspub-fetch", daemon=True).start()
    try:
        result = results.get(timeout=deadline)
    except queue.Empty:
        raise SourceError(f"{_shown(url)}: no complete answer within {deadline:g} s", todo=_TODO) from None
    if isinstance(result, BaseException):
        raise result
    return result


def _shown(url: str) -> str:
    """Return ``url`` for messages: a redirect may carry a signature, a password, or commands to a terminal."""
    parts = urlsplit(url)
    told = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return re.sub(r"[^!-~]", "?", told)[:300]


def _require_web(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SourceError("a source URL is not an http:// or https:// URL with a host", todo=_TODO)


def _with_tries(url: str, limit: int, ends: float) -> bytes:
    for left in reversed(range(_TRIES)):
        try:
            return _follow(url, limit, ends)
        except _TransientError as error:
            pause = 0.5 * (_TRIES - left)
            if not left or time.monotonic() + pause > ends:
                # Not as the private class: callers and logs know the public one.
                raise SourceError(error.what, todo=error.todo) from error
            time.sleep(pause)
    raise AssertionError("unreachable: the last try returns or raises")


def _follow(url: str, limit: int, ends: float) -> bytes:
    here = url
    for _ in range(MAX_REDIRECTS + 1):
        answer = _get(here, limit, ends)
        if isinstance(answer, bytes):
            return answer
        target = _joined(here, answer)
        _require_web(target)
        if here.lower().startswith("https:") and not target.lower().startswith("https:"):
            raise SourceError(f"{_shown(here)} leads from https to http ({_shown(target)})", todo=_TODO)
        here = target
    raise SourceError(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects", todo=_TODO)


def _joined(here: str, location: str) -> str:
    try:
        return urljoin(here, location)
    except ValueError:
        return ""


def _manager(url: str) -> urllib3.PoolManager:
    """Return a client that takes the environment's proxy for ``url``."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return urllib3.PoolManager()
    address = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
    headers = urllib3.make_headers(proxy_basic_auth=address.auth) if address.auth else None
    return urllib3.ProxyManager(address._replace(auth=None).url, proxy_headers=headers)


def _left(url: str, ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise SourceError(f"{_shown(url)}: no complete answer in time", todo=_TODO)
    return left


def _get(url: str, limit: int, ends: float) -> bytes | str:
    """Return the content of ``url``, or where it redirects to."""
    left = _left(url, ends)
    headers = {"User-Agent": f"ebspub/{ebspub.__version__}", "Accept-Encoding": "identity"}
    try:
        with _manager(url) as manager:
            response = manager.request(
                "GET",
                url,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=min(left, 15.0), read=left),
            )
            try:
                return _answer(response, url, limit, ends)
            finally:
                response.close()
    except (HTTPError, OSError, ValueError) as error:
        # ValueError: a host or a proxy that cannot be one (IDNA, ports).
        # The kind only: texts of network libraries hold whole URLs, with whatever is in them.
        raise _TransientError(f"{_shown(url)} cannot be fetched ({type(error).__name__})", todo=_TODO) from error


def _answer(response: urllib3.BaseHTTPResponse, url: str, limit: int, ends: float) -> bytes | str:
    location = response.headers.get("Location")
    if response.status in _REDIRECTS and location:
        return location
    if response.status in _TRY_AGAIN:
        raise _TransientError(f"{_shown(url)}: the server answers {response.status}", todo=_TODO)
    if response.status != 200:
        raise SourceError(f"{_shown(url)}: the server answers {response.status}", todo=_TODO)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        # Asked for as it is: a packed answer could unpack to any size.
        raise SourceError(f"{_shown(url)}: the server sends it packed", todo=_TODO)
    content = bytearray()
    # read1: one receive at a time, so that the clock is looked at between any two.
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise SourceError(f"{_shown(url)}: larger than {limit} bytes, not what was asked for", todo=_TODO)
        _left(url, ends)
    return bytes(content)
