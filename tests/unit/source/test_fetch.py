"""Small documents from a real server on the loopback: bounded in size and time, wherever it leads."""

from __future__ import annotations

import contextlib
import shlex
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ebspub.errors import SourceError
from ebspub.source import fetch

Answer = Callable[[BaseHTTPRequestHandler], None]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.seen.append(self.path)
        self.close_connection = True
        # A client that stops reading is what is tested here.
        with contextlib.suppress(ConnectionError):
            server.answer(self)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Stay quiet."""


class Server(ThreadingHTTPServer):
    """A server on the loopback that answers as it is told."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[str] = []
        self.scheme = "http"
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, path: str = "/SHA256SUMS") -> str:
        return f"{self.scheme}://localhost:{self.server_port}{path}"


@contextlib.contextmanager
def _serving(answer: Answer, wrap: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(answer)
    if wrap is not None:
        server.socket = wrap.wrap_socket(server.socket, server_side=True)
        server.scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _send(
    content: bytes = b"", status: int = 200, headers: dict[str, str] | None = None, length: int | None = None
) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def _in_turn(*answers: Answer) -> Answer:
    left = list(answers)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        left.pop(0)(handler)

    return answer


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_content_is_returned_as_it_is() -> None:
    with _serving(_send(b"\x00\r\n\xff" * 1000)) as server:
        assert fetch(server.url()) == b"\x00\r\n\xff" * 1000


@pytest.mark.parametrize("declared", [True, False])
def test_more_than_the_limit_is_refused(declared: bool) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    with _serving(_send(b"x" * 1001) if declared else endless) as server:
        with pytest.raises(SourceError, match="larger than 1000 bytes"):
            fetch(server.url(), limit=1000)
        if declared:
            assert len(fetch(server.url(), limit=1001)) == 1001


def test_a_server_that_dribbles_its_content_is_left_at_the_deadline() -> None:
    def dribble(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    with _serving(dribble) as server:
        before = set(threading.enumerate())
        start = time.monotonic()
        with pytest.raises(SourceError, match="no complete answer"):
            fetch(server.url(), deadline=0.5)
        assert time.monotonic() - start < 2
        fetching = [each for each in set(threading.enumerate()) - before if each.name == "ebspub-fetch"]
        for each in fetching:
            each.join(timeout=1)
            assert not each.is_alive()


def test_a_server_that_dribbles_its_header_is_left_at_the_deadline() -> None:
    def dribble(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(60):
            handler.wfile.write(b"x")
            time.sleep(0.05)

    with _serving(dribble) as server:
        start = time.monotonic()
        with pytest.raises(SourceError, match="no complete answer"):
            fetch(server.url(), deadline=0.5)
        assert time.monotonic() - start < 2


def test_half_a_content_is_never_returned() -> None:
    with _serving(_send(b"half", length=8)) as server:
        with pytest.raises(SourceError, match="cannot be fetched"):
            fetch(server.url(), deadline=5)
        assert len(server.seen) == 3


def test_a_server_that_recovers_is_asked_again() -> None:
    answers = [_send(status=503), _send(b"there")]
    with _serving(_in_turn(*answers)) as server:
        assert fetch(server.url()) == b"there"


def test_what_is_missing_is_asked_for_once() -> None:
    with _serving(_send(b"<html>", status=404)) as server:
        with pytest.raises(SourceError, match="the server answers 404") as caught:
            fetch(server.url())
        assert len(server.seen) == 1
    assert caught.value.exit_code == 2
    assert caught.value.todo


def test_a_packed_answer_is_refused() -> None:
    answer = _send(b"x", headers={"Content-Encoding": "gzip"})
    with _serving(answer) as server, pytest.raises(SourceError, match="sends it packed"):
        fetch(server.url())


def test_redirects_are_followed_but_not_for_ever() -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        where = {"/a": "b", "/b": "/c", "/loop": "/loop"}.get(handler.path)
        _send(status=302, headers={"Location": where})(handler) if where else _send(b"here")(handler)

    with _serving(answer) as server:
        assert fetch(server.url("/a")) == b"here"
        with pytest.raises(SourceError, match="more than 5 redirects"):
            fetch(server.url("/loop"))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://localhost/x", "http://[", "//h:x/", "gopher:x"])
def test_a_redirect_leads_to_the_web_only(target: str) -> None:
    answer = _send(status=302, headers={"Location": target})
    with _serving(answer) as server, pytest.raises(SourceError, match="not an http"):
        fetch(server.url())


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/etc/passwd", "", "ftp://localhost/x", "http://", "http://h:x/y"]
)
def test_only_the_web_is_asked(url: str) -> None:
    with pytest.raises(SourceError, match="not an http"):
        fetch(url)


def test_a_secret_in_a_redirect_is_not_told() -> None:
    answers = [
        lambda h: _send(status=302, headers={"Location": f"http://u:hunter2@{h.headers['Host']}/x?sig=hunter2"})(h),
        _send(status=404),
    ]
    with _serving(_in_turn(*answers)) as server, pytest.raises(SourceError, match="answers 404") as caught:
        fetch(server.url())
    assert "hunter2" not in str(caught.value)


def test_nobody_there_is_a_source_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError, match="cannot be fetched"):
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/x", deadline=5)


def test_the_proxy_of_the_environment_is_used_unless_no_proxy_says_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving(_send(b"proxy")) as proxy, _serving(_send(b"direct")) as server:
        monkeypatch.setenv("http_proxy", f"http://u:p@127.0.0.1:{proxy.server_port}")
        assert fetch("http://images.invalid/SHA256SUMS") == b"proxy"
        assert proxy.seen == ["http://images.invalid/SHA256SUMS"]
        monkeypatch.setenv("no_proxy", "localhost")
        assert fetch(server.url()) == b"direct"


# https ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a key and its own certificate for localhost."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    key = file.with_suffix(".key")
    subprocess.run(
        shlex.split(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout localhost.key -out localhost.pem"
        ),
        cwd=file.parent,
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + key.read_text())
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.needs_tool("openssl")
def test_a_server_that_nobody_vouches_for_is_refused(tls: ssl.SSLContext) -> None:
    with _serving(_send(b"evil"), tls) as server:
        with pytest.raises(SourceError, match="cannot be fetched"):
            fetch(server.url(), deadline=5)
        assert server.seen == []


@pytest.mark.needs_tool("openssl")
def test_https_never_falls_back_to_http(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with _serving(_send(b"plain")) as plain:
        down = _send(status=302, headers={"Location": plain.url()})
        with _serving(down, tls) as server, pytest.raises(SourceError, match="leads from https to http"):
            fetch(server.url())
        assert plain.seen == []


@pytest.mark.needs_tool("openssl")
def test_http_may_lead_to_https(tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with _serving(_send(b"safe"), tls) as server:
        up = _send(status=301, headers={"Location": server.url()})
        with _serving(up) as plain:
            assert fetch(plain.url()) == b"safe"
