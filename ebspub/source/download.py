"""Large files over http(s) to this machine's disk: in slices, resumable by whoever comes next, proved at the end.

What has come lies beside the target as ``NAME.part``, with ``NAME.part.json`` that says of which version of the file it
is (a strong ETag). A download goes on there by a range request with If-Range, so that no file is put together of two
versions; without an ETag it goes on only where a checksum will tell. The proxies are those of the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import urllib3
from urllib3.exceptions import HTTPError

from ebspub.errors import SourceError
from ebspub.source import web

_CHUNK = 1024 * 1024
#: Seconds without a byte, and for a connection, after which it counts as broken.
_STALL, _CONNECT = 20.0, 15.0
#: How often in a row it may break without having brought anything.
_TRIES = 6
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})")


class _BrokenError(Exception):
    """The connection ended too early, or the server wants to be asked again; the message says why."""


class Download:
    """One file. :meth:`go` takes it further; closing it keeps what has come."""

    def __init__(self, url: str, target: Path, *, limit: int, sha256: str | None = None) -> None:
        """Download ``url`` to ``target``: at most ``limit`` bytes, with this SHA-256 (64 hex digits) if it is given."""
        web.require_web(url)
        self._url = url
        self._target = target
        self._limit = limit
        self._sha256 = sha256
        self._part = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self._file: BinaryIO | None = None
        self._response: urllib3.BaseHTTPResponse | None = None
        self._manager: urllib3.PoolManager | None = None
        self._digest = hashlib.sha256()
        self._hashed = 0
        self._resumed = False
        self._failed = 0
        #: Bytes that are here, and of all; None while that is unknown.
        self.done = 0
        self.total: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and close the file; safe to call twice."""
        self._hang_up()
        if self._file is not None:
            self._file.close()
            self._file = None

    def go(self, seconds: float, stopping: Callable[[], bool] = lambda: False) -> bool:
        """Go on for about ``seconds``; return whether the file is there, whole and proved.

        A server that falls silent may take 20 s more. Raises :class:`SourceError` for what trying again does not mend,
        and for a connection that broke six times in a row.
        """
        ends = time.monotonic() + seconds
        if self._target.exists():
            return True
        while not stopping() and time.monotonic() < ends:
            try:
                if self._further():
                    return True
            except (HTTPError, OSError, ValueError, _BrokenError) as error:
                if isinstance(error, OSError) and not isinstance(error, TimeoutError) and error.filename is not None:
                    raise _unwritable(self._part, error) from error
                self._broken(error, ends)
        return False

    def _further(self) -> bool:
        """Do one bounded piece of the work; whether it was the last."""
        if self._file is None:
            self._file = self._reopen()
        if self._digest_lags():
            return False
        if self._response is None and not self._whole():
            self._response = self._request()
            return False
        if self._response is not None:
            data = self._response.read1(_CHUNK)
            if data:
                self._take(data)
                return False
            self._hang_up()
            self.total = self.total if self.total is not None else self.done
        if not self._whole():
            raise _BrokenError(f"it ended after {self.done} of {self.total} bytes")
        return self._finish()

    def _whole(self) -> bool:
        return self.total is not None and self.done == self.total

    def _reopen(self) -> BinaryIO:
        """Open what is there of this very file, or a new one."""
        self._target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        file = os.fdopen(handle, "r+b")
        self.done = os.fstat(handle).st_size
        self._hashed = 0
        self._resumed = self.done > 0
        if self.done and self._noted() is None and self._sha256 is None:
            self._restart(file)
        return file

    def _noted(self) -> str | None:
        """Return the ETag of what is there; None where nothing is known of it."""
        try:
            note = json.loads(self._note.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        same = isinstance(note, dict) and note.get("url") == self._url
        return str(note["etag"]) if same and note.get("etag") else None

    def _restart(self, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate()
        self._note.unlink(missing_ok=True)
        self._digest = hashlib.sha256()
        self.done, self._hashed, self.total, self._resumed = 0, 0, None, False

    def _digest_lags(self) -> bool:
        """Catch up with what an earlier process has written; whether there is more of it."""
        if self._hashed >= self.done:
            return False
        assert self._file is not None
        self._file.seek(self._hashed)
        data = self._file.read(min(8 * _CHUNK, self.done - self._hashed))
        self._digest.update(data)
        self._hashed += len(data)
        return self._hashed < self.done

    def _request(self) -> urllib3.BaseHTTPResponse:
        headers = web.headers()
        if self.done:
            headers["Range"] = f"bytes={self.done}-"
            if (etag := self._noted()) is not None:
                headers["If-Range"] = etag
        here = self._url
        for _ in range(web.MAX_REDIRECTS + 1):
            self._hang_up()
            self._manager = web.manager(here)
            response = self._manager.request(
                "GET",
                here,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=_CONNECT, read=_STALL),
            )
            self._response = response
            location = response.headers.get("Location")
            if response.status not in web.REDIRECTS or not location:
                self._judge(response)
                return response
            here = web.follow(here, location)
        raise SourceError(f"{web.shown(self._url)}: more than {web.MAX_REDIRECTS} redirects", todo=web.ADVICE)

    def _judge(self, response: urllib3.BaseHTTPResponse) -> None:
        """See what the server is about to send: the rest, all of it anew, or nothing."""
        assert self._file is not None
        shown = web.shown(self._url)
        if response.status in web.TRY_AGAIN:
            raise _BrokenError(f"the server answers {response.status}")
        if response.status == 416 and self.done:
            self._restart(self._file)
            raise _BrokenError("the server has another file now")
        if response.status not in (200, 206):
            kind = web.AbsentError if response.status in web.ABSENT else SourceError
            raise kind(f"{shown}: the server answers {response.status}", todo=web.ADVICE)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise SourceError(f"{shown}: the server sends it packed", todo=web.ADVICE)
        if response.status == 200:
            self._restart(self._file)
            length = response.headers.get("Content-Length", "")
            self.total = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        else:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self.done:
                self._restart(self._file)
                raise _BrokenError("the server sends another part than was asked for")
            self.total = int(match[2])
        if self.total is not None and self.total > self._limit:
            raise SourceError(f"{shown}: has {self.total} bytes, more than {self._limit}", todo=web.ADVICE)
        etag = response.headers.get("ETag", "")
        if etag.startswith('"'):  # a weak one (W/) may be that of other bytes
            self._note.write_text(json.dumps({"url": self._url, "etag": etag}))

    def _take(self, data: bytes) -> None:
        assert self._file is not None
        if self.done + len(data) > min(self._limit, self.total if self.total is not None else self._limit):
            raise SourceError(f"{web.shown(self._url)}: the server sends more than it said", todo=web.ADVICE)
        try:
            self._file.seek(self.done)
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise _unwritable(self._part, error) from error
        self._digest.update(data)
        self.done += len(data)
        self._hashed = self.done
        self._failed = 0

    def _finish(self) -> bool:
        assert self._file is not None
        found = self._digest.hexdigest()
        if self._sha256 is not None and found != self._sha256:
            resumed = self._resumed
            self._restart(self._file)
            if resumed:  # halves of two versions do not match either: only a download in one piece tells
                return False
            raise SourceError(
                f"{web.shown(self._url)}: its SHA-256 is {found} instead of {self._sha256}",
                todo="It is damaged, or not what was signed. Nothing was made of it.",
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        self._part.rename(self._target)
        self._note.unlink(missing_ok=True)
        return True

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._manager is not None:
            self._manager.clear()
        self._response = self._manager = None

    def _broken(self, error: Exception, ends: float) -> None:
        """Count a connection that broke; pause a little before the next."""
        self._hang_up()
        self._resumed = self._resumed or self.done > 0
        self._failed += 1
        if self._failed >= _TRIES:
            why = str(error) if isinstance(error, _BrokenError) else type(error).__name__
            raise SourceError(
                f"{web.shown(self._url)} cannot be downloaded: {why}, {self._failed} times in a row", todo=web.ADVICE
            ) from error
        if self._file is not None and self._sha256 is None and self._noted() is None:
            self._restart(self._file)
        time.sleep(max(0.0, min(0.5 * self._failed, ends - time.monotonic())))


def _unwritable(part: Path, error: OSError) -> SourceError:
    return SourceError(f"{part} cannot be written: {error.strerror}", todo="Make room, or make it writable.")
