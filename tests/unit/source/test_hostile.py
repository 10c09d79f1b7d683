"""Answers that no honest server gives: each ends in an error within its bounds, or in nothing but the bytes sent."""

from __future__ import annotations

import contextlib
import gc
import re
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from ebspub.errors import SourceError
from ebspub.source import fetch

OK = b"HTTP/1.1 200 OK\r\n"


class Raw:
    """A server that says the same bytes to everybody, and then others until nobody listens."""

    def __init__(self, text: bytes, then: bytes) -> None:
        self._text, self._then = text, then
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            if self._stop.is_set():
                caller.close()
                return
            with caller, contextlib.suppress(OSError):
                caller.settimeout(0.5)
                caller.recv(65536)
                caller.sendall(self._text.replace(b"PORT", str(self.port).encode()))
                while self._then and not self._stop.is_set():
                    caller.sendall(self._then)

    def close(self) -> None:
        self._stop.set()
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def saying(text: bytes, then: bytes = b"") -> Iterator[str]:
    server = Raw(text, then)
    try:
        yield f"http://127.0.0.1:{server.port}/SHA256SUMS"
    finally:
        server.close()


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask once: the pauses before the next tries would only take time."""
    monkeypatch.setattr(sys.modules["ebspub.source.fetch"], "_TRIES", 1)


@pytest.mark.parametrize(
    ("text", "then", "told"),
    [
        (OK + b"Content-Length: 9\r\n\r\n12345", b"", "cannot be fetched"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"", "cannot be fetched"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n12", b"", "cannot be fetched"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n5;", b"x" * 9999, "cannot be fetched"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n", "larger than 1000 bytes"),
        (OK + b"Content-Length: -1\r\n\r\n", b"x" * 9999, "larger than 1000 bytes"),
        (OK + b"Content-Length: 999999999999999999999\r\n\r\n", b"x" * 9999, "larger than 1000 bytes"),
        (OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b", b"", "sends it packed"),
        (OK, b"X: " + b"x" * 999 + b"\r\n", "cannot be fetched"),
        (OK + b"X: ", b"x" * 9999, "cannot be fetched"),
        (b"HTTP/1.1 ", b"2" * 9999, "cannot be fetched"),
        (b"\x1b[31m\0", b"", "cannot be fetched"),
        (b"", b"", "cannot be fetched"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", b"", "the server answers 302"),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\nx", b"", "the server answers 206"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:PORT/\x1b[31m\xff hunter2\r\n\r\n", b"", "redirects"),
        (b"HTTP/1.1 302 Found\r\nLocation: FILE:///etc/shadow\r\n\r\n", b"", "not an http"),
        (b"HTTP/1.1 302 Found\r\nLocation: javascript:alert(1)\r\n\r\n", b"", "not an http"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:99999/\r\n\r\n", b"", "not an http"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://\xe2\x80\xae" + b"a" * 99 + b"/\r\n\r\n", b"", "cannot be fetched"),
    ],
)
@pytest.mark.usefixtures("once")
def test_a_hostile_answer_is_a_clear_error(text: bytes, then: bytes, told: str) -> None:
    with saying(text, then) as url, pytest.raises(SourceError) as caught:
        fetch(url, limit=1000, deadline=20)
    assert re.search(told, caught.value.what), caught.value.what
    assert "hunter2" not in str(caught.value)
    assert caught.value.what.isprintable()
    assert len(caught.value.what) < 500
    assert caught.value.todo


def test_answers_before_the_answer_end_at_the_deadline() -> None:
    with (
        saying(b"", b"HTTP/1.1 100 Continue\r\n\r\n") as url,
        pytest.raises(SourceError, match=r"no complete answer|cannot be fetched"),
    ):
        fetch(url, limit=1000, deadline=1)


@pytest.mark.usefixtures("once")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("lengths", [b"Content-Length: 5, 10", b"Content-Length: 9\r\nContent-Length: 5"])
def test_two_lengths_are_none(lengths: bytes) -> None:
    with saying(OK + lengths + b"\r\n\r\n12345") as url, pytest.raises(SourceError, match="cannot be fetched"):
        fetch(url, limit=1000, deadline=20)
    gc.collect()  # urllib3 gives up on such an answer without closing it
