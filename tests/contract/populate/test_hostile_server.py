"""A server that means harm, on the builder's way to the artefact: a clear error, and the bound that ended it."""

from __future__ import annotations

import http.server
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ebspub.populate import FATAL_CODES
from ebspub.remote.report import Failed
from tests.conftest import Need
from tests.contract.populate.world import BY_ID, VOLUME, Body, World, job_spec, run, serving
from tests.support.localshell import LocalHost, loop_device

pytestmark = pytest.mark.long
#: Of the volume, in bytes; 16 times as many are the bound for what is downloaded, and for what that unpacks to.
SIZE = 1 << 20
_ATTEMPTS = itertools.count(1)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory, need: Need) -> Iterator[World]:
    """A builder for all tests of this file: none of them gets as far as its volume."""
    need.loop()
    need.tool("unshare", "nsenter", "setpriv", "curl", "wget")
    folder = tmp_path_factory.mktemp("victim")
    (folder / "www").mkdir()
    volume = folder / "volume"
    run("truncate", "-s", str(SIZE), volume)
    host = LocalHost(folder / "host")
    try:
        with serving(folder / "www") as server, loop_device(volume) as device:
            (host.devices / BY_ID).symlink_to(device)
            yield World(host, host.shell, volume, server)
            assert not any(volume.read_bytes())
            assert not list(host.folder.rglob("pwned"))
    finally:
        host.close()


def meet(world: World, body: Body, *, seconds: float = 600.0) -> Failed:
    """Let the builder download from a server that answers with ``body``; within ``seconds``."""
    attempt = next(_ATTEMPTS)
    world.server.bodies[f"{attempt}.tar.gz"] = body
    spec = job_spec(world.server.url(f"{attempt}.tar.gz"), "0" * 64)
    spec = spec.model_copy(update={"limits": spec.limits.model_copy(update={"populate": seconds})})
    report = world.go(world.method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=attempt))
    assert isinstance(report, Failed), report
    return report


def asked(world: World) -> int:
    """Return how often the builder asked for the content of the last artefact."""
    method, name, _ = world.server.requests[-1]
    return sum((each[0], each[1]) == (method, name) for each in world.server.requests)


def raw(text: bytes, *, then: bytes = b"", pause: float = 0.0) -> Body:
    """Answer with these bytes, and then with others for as long as the builder listens."""

    def body(request: http.server.BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        try:
            request.wfile.write(text)
            while then:
                request.wfile.write(then)
                time.sleep(pause)
        except OSError:
            return  # it hung up

    return body


def leading(location: str) -> Body:
    return raw(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


@pytest.fixture(params=["curl", "wget"])
def by(request: pytest.FixtureRequest, victim: World) -> Iterator[World]:
    """The builder with curl, and without."""
    if request.param == "wget":
        victim.host.inside("mount --bind /dev/null /usr/bin/curl")
    yield victim
    if request.param == "wget":
        victim.host.inside("umount /usr/bin/curl")


def test_an_endless_body_ends_at_what_an_image_can_have(by: World) -> None:
    report = meet(by, raw(b"HTTP/1.1 200 OK\r\n\r\n", then=bytes(1 << 20)))
    assert report.code == "too-large"
    assert report.code in FATAL_CODES
    assert f"the server sends more than {16 * SIZE} bytes" in report.message
    assert asked(by) == 1
    assert not list(by.host.home.rglob("artefact"))


def test_an_endless_body_that_is_announced_is_not_waited_for(victim: World) -> None:
    report = meet(victim, raw(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n", then=bytes(1 << 20)))
    assert (report.code, asked(victim)) == ("too-large", 1)


@pytest.mark.parametrize("text", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 "])
def test_a_server_that_drips_is_left_at_the_limit_of_the_step(victim: World, text: bytes) -> None:
    report = meet(victim, raw(text, then=b"x", pause=0.05), seconds=2.0)
    assert (report.code, report.message) == ("download", "the download did not end within 2 s")


def test_a_server_that_drips_is_left_without_curl_too(by: World) -> None:
    report = meet(by, raw(b"HTTP/1.1 200 OK\r\n\r\n", then=b"x", pause=0.05), seconds=2.0)
    assert (report.code, report.message) == ("download", "the download did not end within 2 s")


@pytest.mark.parametrize("place", ["file:///etc/shadow", "ftp://h/x", "gopher://h/x", "dict://h/x", "scp://h/x", "x:"])
def test_a_redirect_leads_to_the_web_only_and_is_asked_for_once(victim: World, place: str) -> None:
    report = meet(victim, leading(place))
    assert report.code == "download"
    assert "does not lead to a file" in report.message
    assert asked(victim) == 1


@pytest.mark.parametrize("place", ["file:///etc/shadow", "scp://127.0.0.1/x"])
def test_a_redirect_leads_to_the_web_only_without_curl_too(by: World, place: str) -> None:
    assert meet(by, leading(place)).code == "download"
    assert "root:" not in by.host.inside("cat .ebspub/*/artefact 2>/dev/null || :")


def test_redirects_in_circles_end(victim: World) -> None:
    report = meet(victim, lambda request: leading(request.path)(request))
    assert report.code == "download"
    assert "Maximum (5) redirects followed" in report.message


@pytest.mark.parametrize(
    "place",
    ["/$(touch pwned)`touch pwned`;touch pwned", '/"\n-o pwned', "/x' -o pwned '", "//$(touch${IFS}pwned)/", "-o"],
)
def test_a_redirect_is_never_part_of_a_command(by: World, place: str) -> None:
    assert meet(by, leading(place)).code in ("download", "gone")


@pytest.mark.parametrize("status", ["404 Not Found", "403 Forbidden"])
def test_a_last_word_of_the_server_is_one_for_every_builder(by: World, status: str) -> None:
    report = meet(by, raw(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert (report.code, report.message) == ("gone", f"the server answered {status[:3]}")
    assert report.code in FATAL_CODES
    assert asked(by) == 1


WRONG: dict[str, tuple[Callable[[], Body], str, str]] = {
    "too long": (lambda: raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), "download", "3 times.*remaining"),
    "too short": (lambda: raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nall of it"), "checksum", "SHA-256"),
    "negative": (lambda: raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx"), "download", "Content-Length"),
    "no number": (lambda: raw(b"HTTP/1.1 200 OK\r\nContent-Length: $(id)\r\n\r\nx"), "download|checksum", ""),
    "chunk": (lambda: raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "download", "3 times"),
    "packed": (lambda: raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b"), "checksum", "SHA-256"),
    "endless header": (lambda: raw(b"HTTP/1.1 200 OK\r\n", then=b"X: " + b"x" * 9999 + b"\r\n"), "download", "3 times"),
    "no HTTP": (lambda: raw(b"\x1b[31m\0\r\n" * 100), "download", "HTTP/0.9"),
    "nothing": (lambda: raw(b""), "download", "Empty reply"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_length_is_a_clear_error(victim: World, kind: str) -> None:
    body, code, message = WRONG[kind]
    report = meet(victim, body())
    assert re.fullmatch(code, report.code), report
    assert re.search(message, report.message), report
    assert report.message.isprintable()


def test_a_full_disk_is_told_as_such(victim: World, tmp_path: Path) -> None:
    """Before the bound is reached: the builder's own disk is the smaller one."""
    victim.host.inside("mkdir -p .ebspub && mount -t tmpfs -o size=3m tmpfs .ebspub")
    try:
        report = meet(victim, raw(b"HTTP/1.1 200 OK\r\n\r\n", then=bytes(1 << 16)))
    finally:
        victim.host.inside("umount -l .ebspub")
    assert report.code == "disk-full"
    assert "builder.root_size" in report.message
