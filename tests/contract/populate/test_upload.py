"""An artefact of the publisher's own machine comes to the builder over the connection, slice by slice."""

from __future__ import annotations

import hashlib
import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ebspub.errors import RemoteError
from ebspub.populate.artefact import NAME
from ebspub.remote.detached import Task, poll
from ebspub.remote.report import Absent
from ebspub.remote.shell import MIB, Completed, Shell
from ebspub.remote.upload import Sent, upload
from tests.contract.populate.world import VOLUME, Image, World, job_spec, make_image, pack
from tests.support.localshell import LocalHost


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "artefact of mine"
    made.write_bytes(os.urandom(5 * MIB + 7))
    return made


@pytest.fixture
def task() -> Task:
    return Task("upload-1", "true")


def send(shell: Shell, task: Task, file: Path) -> Sent:
    return upload(shell, task, file, NAME, seconds=60.0)


def arrived(host: LocalHost, task: Task) -> bytes:
    return (host.work(task.name) / NAME).read_bytes()


class Breaking:
    """A shell whose connection breaks in the middle of a chunk, after some that went well."""

    def __init__(self, shell: Shell, good: int) -> None:
        self.shell, self.good = shell, good

    def run(self, command: str, *, stdin: bytes = b"", timeout: float, limit: int = MIB) -> Completed:
        if "cat >>" in command:
            self.good -= 1
            if self.good < 0:
                self.shell.run(command, stdin=stdin[: len(stdin) // 3], timeout=timeout, limit=limit)
                raise RemoteError("the connection broke")
        return self.shell.run(command, stdin=stdin, timeout=timeout, limit=limit)

    def close(self) -> None:
        self.shell.close()


def test_a_file_arrives_whole_under_its_name(host: LocalHost, task: Task, file: Path) -> None:
    size = file.stat().st_size
    assert send(host.shell, task, file) == Sent(size, size)
    assert arrived(host, task) == file.read_bytes()
    assert send(host.shell, task, file).complete
    assert not (host.work(task.name) / f"{NAME}.part").exists()


def test_slices_end_in_time_and_go_on_where_they_ended(host: LocalHost, task: Task, file: Path) -> None:
    ticks = iter(range(1000))
    seen: list[Sent] = []
    while not seen or not seen[-1].complete:
        seen.append(upload(host.shell, task, file, NAME, seconds=2, clock=lambda: float(next(ticks))))
        assert len(seen) < 50
    assert len(seen) > 1
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert arrived(host, task) == file.read_bytes()


def test_a_broken_connection_loses_nothing_and_doubles_nothing(host: LocalHost, task: Task, file: Path) -> None:
    for good in (1, 0, 0):
        with pytest.raises(RemoteError):
            send(Breaking(host.shell, good), task, file)
    assert send(host.shell, task, file).complete
    assert arrived(host, task) == file.read_bytes()


def test_another_file_of_that_name_is_sent_anew(host: LocalHost, task: Task, file: Path) -> None:
    with pytest.raises(RemoteError):
        send(Breaking(host.shell, 1), task, file)
    file.write_bytes(os.urandom(2 * MIB))
    assert send(host.shell, task, file).complete
    assert arrived(host, task) == file.read_bytes()
    file.unlink()
    file.write_bytes(b"")
    assert send(host.shell, task, file) == Sent(0, 0)
    assert arrived(host, task) == b""


def test_it_is_no_task_before_it_is_started(host: LocalHost, task: Task, file: Path) -> None:
    send(host.shell, task, file)
    assert isinstance(poll(host.shell, task), Absent)


@pytest.fixture
def small(tmp_path: Path) -> Image:
    make_image(tmp_path / "s.img", "ext2", size="2M", nasty=False)
    pack(tmp_path / "s.tar.gz", ("s.img", tmp_path / "s.img"))
    return Image(tmp_path / "s.img", tmp_path / "s.tar.gz")


@pytest.mark.parametrize("proof", ["sha256", "none"])
def test_the_volume_is_filled_from_it(world: World, small: Image, proof: str) -> None:
    spec = job_spec(small.tarball.as_uri(), small.sha256 if proof == "sha256" else None)
    task = world.method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=1)
    assert send(world.shell, task, small.tarball).complete
    assert world.succeed(task).facts["sha256"] == small.sha256
    assert world.server.requests == []


def test_bytes_that_are_not_what_was_proved_are_refused(world: World, small: Image) -> None:
    spec = job_spec(small.tarball.as_uri(), hashlib.sha256(b"another").hexdigest())
    task = world.method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=1)
    assert send(world.shell, task, small.tarball).complete
    report = world.fail(task, "checksum")
    assert small.sha256 in report.message


def test_the_builder_downloads_through_its_proxy(world: World, small: Image) -> None:
    (world.server.folder / "s.tar.gz").write_bytes(small.tarball.read_bytes())
    content = small.tarball.read_bytes()

    def proxied(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    # What a proxy is asked for is the whole URL.
    world.server.bodies["http://images.invalid/s.tar.gz"] = proxied
    spec = job_spec("http://images.invalid/s.tar.gz", small.sha256)
    proxy = spec.builder.model_copy(update={"http_proxy": world.server.url("").rstrip("/")})
    spec = spec.model_copy(update={"builder": proxy})
    world.succeed(world.method.task(spec, volume_id=VOLUME, device="/dev/sdf", attempt=1))
    assert ("GET", "http://images.invalid/s.tar.gz", "") in world.server.requests
