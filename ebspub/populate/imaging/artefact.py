"""The artefact's bytes in order: from a file, or from a server that is asked again where the answer breaks off."""

from __future__ import annotations

import hashlib
import http.client
import sys
import time
import urllib.error
import urllib.request
from typing import IO, Any, Final
from urllib.parse import urlsplit

from ebspub.populate.imaging.refusal import Refusal

#: Answers that will be the same in a minute.
_FINAL: Final = (400, 401, 403, 404, 405, 410, 451)
_TIMEOUT: Final = 60.0
_PIECE: Final = 1024 * 1024


class ChangedError(Exception):
    """What was downloaded before and after a break are not parts of one file."""


class Artefact:
    """What all artefacts have in common: bytes are counted and hashed as they are read, and have a bound.

    ``most``: bytes beyond which it cannot be what it should be.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._hash = hashlib.sha256()
        #: Bytes read so far, and how many there are (0 where nobody knows).
        self.done = 0
        self.total = 0
        #: Whether it came in several answers.
        self.resumed = False

    def readinto(self, view: memoryview) -> int:
        """Read up to ``len(view)`` bytes; return how many, 0 at the end."""
        count = self._read(view)
        self._hash.update(view[:count])
        self.done += count
        if self.done > self._most:
            raise Refusal("too-large", f"the artefact has more than {self._most} bytes, 16 times the volume")
        return count

    def sha256(self) -> str:
        """Read what is left to the end and return the SHA-256 of the whole."""
        rest = memoryview(bytearray(_PIECE))
        while self.readinto(rest):
            pass
        return self._hash.hexdigest()

    def close(self) -> None:
        """Let go of connections and files."""

    def _read(self, view: memoryview) -> int:
        raise NotImplementedError


class Local(Artefact):
    """A file that the publisher has sent."""

    def __init__(self, path: str, most: int) -> None:
        super().__init__(most)
        self._file: IO[bytes] = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by `close`
        self.total = self._file.seek(0, 2)
        self._file.seek(0)

    def close(self) -> None:
        self._file.close()

    def _read(self, view: memoryview) -> int:
        return self._file.readinto(view) or 0  # type: ignore[attr-defined]


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise Refusal("download", f"the server leads to a {scheme} URL")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return a client for http(s) and nothing else; proxies are those of the environment."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()),
        *(_Redirects(), urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()),
    ):
        opener.add_handler(handler)
    return opener


class Web(Artefact):
    """A file of a web server, by as many answers as it takes.

    ``tries``: failures in a row without a byte between them; ``pause``: seconds between the first two; ``seconds``:
    for all of it. What follows a break must belong to what came before: by the server's validator, or, where the server
    has no ranges, by reading the beginning again and comparing its checksum.
    """

    def __init__(self, url: str, most: int, *, tries: int, pause: float, seconds: float) -> None:
        super().__init__(most)
        self._url = url
        self._tries = tries
        self._pause = pause
        self._deadline = time.monotonic() + seconds
        self._opener = _opener()
        self._answer: Any = None
        self._validator = ""
        self._failures = 0

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _read(self, view: memoryview) -> int:
        while True:
            if time.monotonic() > self._deadline:
                raise Refusal("download", "the download did not end in the time that it has")
            try:
                if self._answer is None:
                    self._answer = self._ask()
                count = int(self._answer.readinto(view))
                if not count and self.total and self.done < self.total:
                    raise ConnectionError(f"the answer ended after {self.done} of {self.total} bytes")
            except (OSError, http.client.HTTPException) as error:  # urllib's errors are OSErrors
                self.close()
                self._failed(error)
            else:
                if count:
                    self._failures = 0
                return count

    def _failed(self, error: Exception) -> None:
        """Wait before the next try, or give up."""
        self._failures += 1
        # The texts of network errors may hold the URL, and so a signature; a status or a kind does not.
        why = type(error).__name__
        if isinstance(error, urllib.error.HTTPError):
            why = f"the server answered {error.code}"
            error.close()
            if error.code in _FINAL:
                raise Refusal("gone", why) from error
        elif isinstance(error, urllib.error.URLError):
            why = type(error.reason).__name__ if isinstance(error.reason, Exception) else why
        print(f"download: {why} after {self.done} bytes", file=sys.stderr)  # noqa: T201 - the task's log
        if self._failures >= self._tries:
            raise Refusal("download", f"the download failed {self._failures} times, at last: {why}") from error
        time.sleep(min(self._failures, 5) * self._pause)

    def _ask(self) -> Any:
        headers = {"Accept-Encoding": "identity", "User-Agent": "ebspub"}
        if self.done:
            self.resumed = True
            headers["Range"] = f"bytes={self.done}-"
            if self._validator:
                headers["If-Range"] = self._validator
        answer = self._opener.open(urllib.request.Request(self._url, headers=headers), timeout=_TIMEOUT)  # noqa: S310
        if answer is None:
            raise Refusal("download", "the URL is none of http or https")
        if answer.status == 206:
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {self.done}-"):
                raise ChangedError
            return answer
        length = answer.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else 0
        if self.done:
            self._same_beginning(answer)
        self.total = total
        if total > self._most:
            raise Refusal("too-large", f"the artefact has {total} bytes, more than 16 times the volume")
        tag = answer.headers.get("ETag", "")
        self._validator = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
        return answer

    def _same_beginning(self, answer: Any) -> None:
        """Read what was read before from an answer that begins at the beginning; it must be the same."""
        digest, left = hashlib.sha256(), self.done
        piece = memoryview(bytearray(_PIECE))
        while left:
            count = answer.readinto(piece[: min(left, _PIECE)])
            if not count:
                raise ConnectionError("the answer ended before the place where the last one broke off")
            digest.update(piece[:count])
            left -= count
        if digest.digest() != self._hash.digest():
            raise ChangedError
