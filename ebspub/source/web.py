"""What every request over http(s) has in common: which URLs are taken, how they are shown, which proxy is used."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3

import ebspub
from ebspub.errors import SourceError

MAX_REDIRECTS = 5
#: Answers that lead elsewhere, answers that may be another one soon, answers that say that nothing is there.
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
ABSENT = frozenset({404, 410})
#: True before anything is made, and of a source that goes away while a snapshot is filled.
ADVICE = (
    "Check the URL in the configuration and the network (http_proxy, https_proxy, no_proxy). Nothing was published."
)


class AbsentError(SourceError):
    """The server (or this machine) says that there is no such file."""


class ForbiddenError(SourceError):
    """The server does not show it."""


def headers() -> dict[str, str]:
    """Return the headers of every request: content as it is, for a packed answer could unpack to any size."""
    return {"User-Agent": f"ebspub/{ebspub.__version__}", "Accept-Encoding": "identity"}


def shown(url: str) -> str:
    """Return ``url`` for messages: a redirect may carry a signature, a password, or commands to a terminal."""
    parts = urlsplit(url)
    told = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return re.sub(r"[^!-~]", "?", told)[:300]


def require_web(url: str) -> None:
    """Raise :class:`SourceError` for what is no http(s) URL with a host."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise SourceError("a source URL is not an http:// or https:// URL with a host", todo=ADVICE)


def joined(here: str, location: str) -> str:
    """Return ``location`` as it is meant at ``here``; empty for what is no URL."""
    try:
        return urljoin(here, location)
    except ValueError:
        return ""


def manager(url: str) -> urllib3.PoolManager:
    """Return a client that takes the environment's proxy for ``url``."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return urllib3.PoolManager()
    address = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
    login = urllib3.make_headers(proxy_basic_auth=address.auth) if address.auth else None
    return urllib3.ProxyManager(address._replace(auth=None).url, proxy_headers=login)


def follow(here: str, location: str) -> str:
    """Return the URL to which an answer of ``here`` leads; :class:`SourceError` where it must not be followed."""
    target = joined(here, location)
    require_web(target)
    if here.lower().startswith("https:") and not target.lower().startswith("https:"):
        raise SourceError(f"{shown(here)} leads from https to http ({shown(target)})", todo=ADVICE)
    return target
