"""One look at the places where artefacts are published: every document is fetched once, whatever came of it.

What is decided on one document (which serial is current, what proves its artefacts) is so decided on the same bytes,
and a server that does not answer is waited for once.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from ebspub.errors import SourceError
from ebspub.source import web
from ebspub.source.fetch import LIMIT, exists, fetch

T = TypeVar("T")
#: Largest simplestreams document, in bytes. Ubuntu's of all downloads have less than 10 MiB.
STREAMS_LIMIT = 64 * 1024 * 1024
#: Most entries that a folder may have.
MAX_NAMES = 20_000


class Look:
    """Fetches documents, lists folders and sees whether files are there: http(s) URLs, and files of this machine."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], object] = {}

    def __call__(self, url: str) -> bytes:
        """Return the content of ``url``. Raises :class:`SourceError`, :class:`web.AbsentError`."""
        limit = STREAMS_LIMIT if urlsplit(url).path.endswith(("json", ".json.gpg")) else LIMIT
        return self._once("get", url, lambda: _read(url, limit) if is_local(url) else fetch(url, limit=limit))

    def exists(self, url: str) -> bool:
        """Return whether there is a file at ``url``."""
        return self._once("head", url, lambda: path_of(url).is_file() if is_local(url) else exists(url))

    def names(self, folder: str) -> frozenset[str]:
        """Return the names in a folder (a URL without a slash at its end), as its index page has them.

        Raises :class:`web.AbsentError` where it cannot be listed.
        """
        if is_local(folder):
            return self._once("list", folder, lambda: _listed(path_of(folder)))
        try:
            return _linked(self(f"{folder}/"), f"{folder}/")
        except web.ForbiddenError as error:  # files may be read, the folder not be listed: so are many web servers
            raise web.AbsentError(error.what, todo=error.todo) from error

    def _once(self, kind: str, url: str, ask: Callable[[], T]) -> T:
        key = (kind, url)
        if key not in self._answers:
            try:
                self._answers[key] = ask()
            except SourceError as error:
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, SourceError):
            raise answer
        return answer  # type: ignore[return-value]


def is_local(url: str) -> bool:
    """Return whether ``url`` is of a file of this machine."""
    return url.startswith("file:///")


def path_of(url: str) -> Path:
    """Return the path that a ``file:///`` URL names."""
    return Path(unquote(urlsplit(url).path))


def _read(url: str, limit: int) -> bytes:
    path = path_of(url)
    try:
        # Opened without waiting: a pipe would hold us until somebody writes into it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not path.is_file():
                raise SourceError(f"{path} is not a file", todo="Name a file in the configuration.")
            content = file.read(limit + 1)
    except FileNotFoundError as error:
        raise web.AbsentError(f"{path} does not exist", todo="Correct the path in the configuration.") from error
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", todo="Make it readable for this user.") from error
    if len(content) > limit:
        raise SourceError(f"{path}: larger than {limit} bytes, not what was asked for", todo="Name the right file.")
    return content


def _listed(folder: Path) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder)[:MAX_NAMES])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise web.AbsentError(f"{folder} is no folder", todo="Correct the path in the configuration.") from error
    except OSError as error:
        todo = "Make it readable for this user."
        raise SourceError(f"{folder} cannot be read: {error.strerror}", todo=todo) from error


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" and len(self.found) < MAX_NAMES:
            self.found += [value for name, value in attrs if name == "href" and value]


def _linked(page: bytes, here: str) -> frozenset[str]:
    """Return the names right below ``here`` to which an index page (Apache, nginx, ...) links."""
    parser = _Links()
    parser.feed(page.decode("utf-8", "replace"))
    root = unquote(urlsplit(here).path)
    names = set()
    for link in parser.found:
        target = urlsplit(web.joined(here, link))
        path = unquote(target.path)
        if target.netloc not in ("", urlsplit(here).netloc) or target.query or not path.startswith(root):
            continue
        name = path.removeprefix(root).removesuffix("/")
        if re.fullmatch(r"[^/\x00-\x1f]{1,255}", name) and name not in (".", ".."):
            names.add(posixpath.basename(name))
    return frozenset(names)
