"""The artefact's bytes in order, from the web or from this host, counted and hashed as they pass."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from ebspub.errors import RemoteError, SourceError
from ebspub.source import web

_CHUNK = 256 * 1024
#: Pieces that are there before they are needed.
_AHEAD = 16
_LOOK = 0.5
#: Failures in a row, without a byte between them, after which the source counts as away.
_FAILURES = 5
_TIMEOUT = urllib3.Timeout(connect=10.0, read=30.0)


class Download:
    """One pass over the artefact at ``url`` (http, https or file).

    A connection that breaks is taken up again where it broke. ``pause`` waits so many seconds and raises where the
    work is to stop.
    """

    def __init__(self, url: str, pause: Callable[[float], None]) -> None:
        self._url = url
        self._pause = pause
        self._hash = hashlib.sha256()
        self._etag = ""
        self._ready: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
        self._over = threading.Event()
        self._manager: urllib3.PoolManager | None = None
        self.done = 0
        #: Bytes in all; 0 until known.
        self.total = 0
        #: The content. Raises SourceError (it is not there, it changed), RemoteError (it may be back).
        self.pieces = self._ahead()

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has passed."""
        return self._hash.hexdigest()

    def drain(self) -> None:
        """Take what nobody took."""
        for _ in self.pieces:
            pass

    def close(self) -> None:
        """Stop downloading, whoever takes the pieces; does not wait."""
        self._over.set()

    def _ahead(self) -> Iterator[bytes]:
        """Yield the content, taken by a thread that is a few pieces ahead: its waits cost the caller nothing."""
        # A daemon: a server that sends nothing must not keep the process from ending.
        threading.Thread(target=self._work, name="ebspub-download", daemon=True).start()
        while True:
            try:
                got = self._ready.get(timeout=_LOOK)
            except queue.Empty:
                if self._over.is_set():
                    return
                continue
            if got is None:
                return
            if isinstance(got, BaseException):
                raise got
            yield got

    def _work(self) -> None:
        try:
            for piece in self._hashed():
                if not self._hand_on(piece):
                    return
            self._hand_on(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that takes the pieces
            self._hand_on(error)

    def _hand_on(self, what: bytes | BaseException | None) -> bool:
        while not self._over.is_set():
            try:
                self._ready.put(what, timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False

    def _hashed(self) -> Iterator[bytes]:
        pieces = self._file() if urlsplit(self._url).scheme == "file" else self._web()
        for piece in pieces:
            self._hash.update(piece)
            self.done += len(piece)
            yield piece

    def _file(self) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(self._url).path))
        try:
            with path.open("rb", buffering=0) as file:
                self.total = path.stat().st_size
                while piece := file.read(4 * _CHUNK):
                    yield piece
        except OSError as error:
            raise SourceError(
                f"{path}: {error.strerror}", todo="See that the file is there and can be read."
            ) from error

    def _web(self) -> Iterator[bytes]:
        failures = 0
        while True:
            before = self.done
            try:
                yield from self._rest()
            except (HTTPError, RemoteError) as error:
                failures = 1 if self.done > before else failures + 1
                if failures >= _FAILURES:
                    raise RemoteError(f"{web.shown(self._url)}: {error}") from error
                self._pause(2.0**failures)
            else:
                return

    def _rest(self) -> Iterator[bytes]:
        """Yield what has not come yet; ``self.done`` grows as it is taken."""
        answer = self._open()
        try:
            skip = self.done if answer.status == 200 else 0
            # Not read(): of a connection that breaks, it would lose what came last.
            while piece := answer.read1(_CHUNK):
                yielded = piece[skip:]
                skip -= len(piece) - len(yielded)
                if yielded:
                    yield yielded
        finally:
            answer.close()
        if self.done < self.total:
            raise RemoteError(f"it ended after {self.done} of {self.total} bytes")

    def _open(self) -> urllib3.BaseHTTPResponse:
        here = self._url
        headers = web.headers()
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
        for _ in range(web.MAX_REDIRECTS + 1):
            self._manager = web.manager(here)  # kept: its connections end with it
            answer = self._manager.request(
                "GET", here, headers=headers, preload_content=False, redirect=False, retries=False, timeout=_TIMEOUT
            )
            if answer.status not in web.REDIRECTS:
                return self._checked(answer)
            answer.close()
            here = web.follow(here, answer.headers.get("Location", ""))
        raise SourceError(f"{web.shown(self._url)}: more than {web.MAX_REDIRECTS} redirects", todo=web.ADVICE)

    def _checked(self, answer: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
        """Return an answer that holds what is wanted."""
        etag = answer.headers.get("ETag", "")
        if answer.status in web.TRY_AGAIN:
            answer.close()
            raise RemoteError(f"answered {answer.status}")
        packed = answer.headers.get("Content-Encoding", "identity") != "identity"
        if answer.status not in (200, 206) or packed:
            answer.close()
            what = f"answered {answer.status}{' with packed content' if packed else ''}"
            raise SourceError(f"{web.shown(self._url)}: {what}", todo=web.ADVICE)
        other = answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {self.done}-")
        if self.done and (etag != self._etag or other):
            answer.close()
            raise SourceError(
                f"{web.shown(self._url)}: changed while it was downloaded",
                todo="`ebspub resume` takes what is there now.",
            )
        self._etag = etag
        length = answer.headers.get("Content-Length", "")
        if length.isdigit():
            self.total = int(length) + (self.done if answer.status == 206 else 0)
        return answer
