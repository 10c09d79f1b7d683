"""Large files from servers that break, change and lie: what is there in the end is whole, or nothing is."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ebspub.errors import SourceError
from ebspub.source.download import Download
from ebspub.source.web import AbsentError

CONTENT = random.Random(1).randbytes(3 * 1024 * 1024 + 5)
OTHER = random.Random(2).randbytes(len(CONTENT))
DIGEST = hashlib.sha256(CONTENT).hexdigest()
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """Serves CONTENT with ranges and an ETag, but the first answers as a test says."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.ranges: list[str] = []
        self.content, self.etag = CONTENT, '"one"'
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.ranges.append(self.headers.get("Range", ""))
                (owner.answers.pop(0) if owner.answers else owner.serve)(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/image"

    def serve(self, request: BaseHTTPRequestHandler, *, stop_at: int | None = None) -> None:
        wanted = request.headers.get("Range")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if request.headers.get("If-Range", self.etag) != self.etag:
            begin = 0
        request.send_response(206 if begin else 200)
        request.send_header("ETag", self.etag)
        request.send_header("Content-Length", str(len(self.content) - begin))
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        request.end_headers()
        request.wfile.write(self.content[begin:stop_at])

    def breaks_at(self, position: int) -> Answer:
        return lambda request: self.serve(request, stop_at=position)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def status(code: int, **headers: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {"Content_Length": "0", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer


def fetch(server: Server, target: Path, *, sha256: str | None = DIGEST, limit: int = 1 << 30) -> bytes:
    with Download(server.url, target, limit=limit, sha256=sha256) as download:
        while not download.go(5.0):
            pass
    assert sorted(path.name for path in target.parent.iterdir()) == [target.name]
    return target.read_bytes()


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "x" / "image") == CONTENT
    assert fetch(server, tmp_path / "x" / "image") == CONTENT
    assert server.ranges == [""]


@pytest.mark.parametrize("sha256", [DIGEST, None])
def test_a_broken_connection_is_resumed_by_whoever_comes_next(
    server: Server, tmp_path: Path, sha256: str | None
) -> None:
    server.answers = [server.breaks_at(1_500_000), server.breaks_at(2_000_000)]
    target = tmp_path / "x" / "image"
    with Download(server.url, target, limit=1 << 30, sha256=sha256) as first:
        while first.done < 1_500_000:
            first.go(0.01)
    assert not target.exists()
    assert fetch(server, target, sha256=sha256) == CONTENT
    assert server.ranges[0] == ""
    assert all(each.startswith("bytes=") for each in server.ranges[1:])


def test_a_file_that_changed_meanwhile_is_never_put_together_of_two(server: Server, tmp_path: Path) -> None:
    server.answers = [server.breaks_at(1_500_000)]
    target = tmp_path / "x" / "image"
    with Download(server.url, target, limit=1 << 30) as first:
        while first.done < 1_500_000:
            first.go(0.01)
    server.content, server.etag = OTHER, '"two"'
    assert fetch(server, target, sha256=None) == OTHER


def test_without_an_etag_only_a_checksum_lets_it_resume(server: Server, tmp_path: Path) -> None:
    server.etag = 'W/"weak"'
    server.answers = [server.breaks_at(1_500_000)]
    assert fetch(server, tmp_path / "a" / "image", sha256=None) == CONTENT
    assert server.ranges == ["", ""]
    server.answers, server.ranges = [server.breaks_at(1_500_000)], []
    assert fetch(server, tmp_path / "b" / "image") == CONTENT
    assert server.ranges == ["", "bytes=1500000-"]


def test_halves_of_two_versions_are_downloaded_anew(server: Server, tmp_path: Path) -> None:
    server.etag = ""
    server.content = OTHER
    server.answers = [server.breaks_at(1_500_000)]
    target = tmp_path / "x" / "image"
    with Download(server.url, target, limit=1 << 30, sha256=DIGEST) as first:
        while first.done < 1_500_000:
            first.go(0.01)
    server.content = CONTENT
    assert fetch(server, target) == CONTENT
    assert server.ranges[-1] == ""


@pytest.mark.parametrize(
    "answers",
    [
        [status(503), status(429)],
        [status(302, Location="/elsewhere")],
        [status(206, Content_Range="bytes 5-9/10")],
        [status(206)],
    ],
)
def test_what_may_pass_is_tried_again(server: Server, tmp_path: Path, answers: list[Answer]) -> None:
    server.answers = answers
    assert fetch(server, tmp_path / "x" / "image") == CONTENT


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([status(404)], "the server answers 404"),
        ([status(403)], "the server answers 403"),
        ([status(200, Content_Encoding="gzip")], "sends it packed"),
        ([status(302, Location="file:///etc/passwd")], "not an http"),
        ([status(302, Location="/image")] * 9, "more than 5 redirects"),
        ([status(503)] * 9, "6 times in a row"),
        ([status(200, Content_Length=str(1 << 40))], "more than 1073741824"),
    ],
)
def test_what_does_not_pass_is_told(server: Server, tmp_path: Path, answers: list[Answer], told: str) -> None:
    server.answers = answers
    with pytest.raises(SourceError, match=told) as caught:
        fetch(server, tmp_path / "x" / "image")
    assert isinstance(caught.value, AbsentError) is ("404" in told)
    assert not (tmp_path / "x" / "image").exists()


def test_other_bytes_than_were_proved_are_not_kept(server: Server, tmp_path: Path) -> None:
    server.content = OTHER
    with pytest.raises(SourceError, match=f"instead of {DIGEST}"):
        fetch(server, tmp_path / "x" / "image")
    assert not (tmp_path / "x" / "image").exists()
    with pytest.raises(SourceError, match="more than 1000"):
        fetch(server, tmp_path / "y" / "image", limit=1000)


def test_it_stops_when_asked_to(server: Server, tmp_path: Path) -> None:
    with Download(server.url, tmp_path / "image", limit=1 << 30) as download:
        assert not download.go(60.0, stopping=lambda: download.done > 0)
        assert 0 < download.done < len(CONTENT)


def test_the_proxy_of_the_environment_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/image"))
    monkeypatch.setenv("no_proxy", "localhost")
    with Download("http://images.invalid/image", tmp_path / "image", limit=1 << 30, sha256=DIGEST) as download:
        while not download.go(5.0):
            pass
    assert (tmp_path / "image").read_bytes() == CONTENT
