"""How the artefact gets to the builder, and what a server can do to it."""

from __future__ import annotations

import http.server
import time
from pathlib import Path

import pytest

from ebspub.errors import ConfigError
from ebspub.populate import METHODS
from ebspub.remote.detached import Task, poll, start
from ebspub.remote.report import Running
from tests.contract.populate.world import VOLUME, Image, World, job_spec, make_image, pack


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, images: dict[str, Image]) -> Image:
    """An image that is quick to copy; asks for ``images`` because that knows what is needed."""
    folder = tmp_path_factory.mktemp("small")
    make_image(folder / "s.img", "ext2", size="2M", nasty=False)
    (folder / "filler").write_bytes(bytes(range(256)) * 4096)
    pack(folder / "s.tar.gz", ("filler", folder / "filler"), ("s.img", folder / "s.img"))
    return Image(folder / "s.img", folder / "s.tar.gz")


@pytest.fixture
def world(world: World, small: Image) -> World:
    """The builder of `conftest`, and the image published."""
    (world.server.folder / "s.tar.gz").write_bytes(small.tarball.read_bytes())
    return world


def answer(request: http.server.BaseHTTPRequestHandler, body: bytes, *, length: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)


def test_a_connection_that_breaks_is_resumed_where_it_broke(world: World, small: Image) -> None:
    content = small.tarball.read_bytes()
    half = len(content) // 2
    served: list[str] = []

    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        served.append(request.headers.get("Range", ""))
        if len(served) == 1:
            answer(request, content[:half], length=len(content))
            return
        begin = int(served[-1].removeprefix("bytes=").rstrip("-"))
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        request.wfile.write(content[begin:])

    world.server.bodies["flaky.tar.gz"] = body
    world.succeed(world.task("flaky.tar.gz", small.sha256))
    assert served == ["", f"bytes={half}-"]


def test_a_server_without_ranges_is_asked_again_from_the_start(world: World, small: Image) -> None:
    content = small.tarball.read_bytes()
    served: list[str] = []

    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        served.append(request.headers.get("Range", ""))
        answer(request, content if len(served) > 1 else content[: len(content) // 2], length=len(content))

    world.server.bodies["old.tar.gz"] = body
    world.succeed(world.task("old.tar.gz", small.sha256))
    assert (served[0], served[-1]) == ("", "")


def test_two_halves_of_two_versions_are_downloaded_anew(world: World, small: Image) -> None:
    """The file is replaced on the server while it is downloaded: the resumed whole is of neither version."""
    content = small.tarball.read_bytes()
    served: list[str] = []

    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        served.append(request.headers.get("Range", ""))
        if len(served) == 1:
            answer(request, bytes(len(content) // 2), length=len(content))
        elif served[-1]:
            request.send_response(206)
            begin = int(served[-1].removeprefix("bytes=").rstrip("-"))
            request.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            request.send_header("Content-Length", str(len(content) - begin))
            request.end_headers()
            request.wfile.write(content[begin:])
        else:
            answer(request, content)

    world.server.bodies["changed.tar.gz"] = body
    world.succeed(world.task("changed.tar.gz", small.sha256))
    assert len(served) == 3


def test_a_wrong_checksum_ends_it_and_the_volume_is_not_touched(world: World, small: Image) -> None:
    report = world.fail(world.task("s.tar.gz", "0" * 64), "checksum")
    assert small.sha256 in report.message
    assert report.phase == "check"
    assert not any(world.volume.read_bytes())


def test_a_file_that_is_not_there_is_told_at_once(world: World) -> None:
    report = world.fail(world.task("missing.tar.gz", None), "gone")
    assert "404" in report.message
    assert [method for method, name, _ in world.server.requests if name == "missing.tar.gz" and method == "GET"] == [
        "GET"
    ]


def test_a_server_that_fails_is_asked_as_often_as_configured(world: World) -> None:
    world.server.bodies["down.tar.gz"] = lambda request: request.send_error(503)
    report = world.fail(world.task("down.tar.gz", None), "download")
    assert "3 times" in report.message
    assert sum(name == "down.tar.gz" and method == "GET" for method, name, _ in world.server.requests) == 3


def test_a_redirect_to_a_file_of_the_builder_is_not_followed(world: World) -> None:
    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", "file:///etc/passwd")
        request.end_headers()

    world.server.bodies["redirect.tar.gz"] = body
    world.fail(world.task("redirect.tar.gz", None), "download")


def test_a_download_that_drips_ends_at_its_deadline(world: World) -> None:
    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100000000")
        request.end_headers()
        try:
            while True:
                request.wfile.write(b"x" * 2000)
                time.sleep(0.02)
        except OSError:
            return

    world.server.bodies["drip.tar.gz"] = body
    spec = job_spec(world.server.url("drip.tar.gz"), None)
    spec = spec.model_copy(update={"limits": spec.limits.model_copy(update={"populate": 3.0})})
    task = world.method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=1)
    began = time.monotonic()
    start(world.shell, task)
    seen = []
    while isinstance(report := poll(world.shell, task), Running):
        seen.append(report)
        time.sleep(0.1)
    assert time.monotonic() - began < 20
    world.fail(task, "download")
    assert any(report.phase == "download" and report.done > 0 for report in seen)


def test_the_url_is_never_in_a_process_list(world: World, small: Image) -> None:
    listings: list[bytes] = []

    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                listings.append(file.read_bytes())
            except OSError:
                continue
        answer(request, small.tarball.read_bytes())

    world.server.bodies["s.tar.gz?signature=SECRET"] = body
    world.succeed(world.task("s.tar.gz?signature=SECRET", small.sha256))
    assert any(b"curl" in line for line in listings)
    assert not [line for line in listings if b"SECRET" in line]


def test_wget_will_do_where_there_is_no_curl(world: World, small: Image) -> None:
    hide = world.host.home / "bin"
    hide.mkdir()
    for name in ("curl",):
        world.host.inside(f"mkdir -p {hide} && : >{hide}/{name} && mount --bind {hide}/{name} /usr/bin/{name}")
    task: Task = world.task("s.tar.gz", small.sha256)
    assert world.shell.run("command -v curl", timeout=10).status != 0
    world.succeed(task)
    world.fail(world.task("missing.tar.gz", None, attempt=2), "device")  # not fresh any more: another attempt's volume


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "file://host/etc/passwd", "http://host/a b", 'http://host/"\noutput = "/etc/x', "http:///x", "-x"],
)
def test_only_plain_http_urls_are_taken(url: str) -> None:
    with pytest.raises(ConfigError):
        METHODS["filesystem"].task(job_spec(url, None), volume_id=VOLUME, device="/dev/sdf", attempt=1)
