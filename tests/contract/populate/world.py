"""What the tests of the populate methods share: images with hard cases, a server that can misbehave, a host."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import json
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebspub.populate.filesystem import FilesystemMethod
from ebspub.remote.detached import Task, poll, start
from ebspub.remote.report import Failed, Report, Running, Succeeded
from ebspub.remote.shell import Shell
from ebspub.spec import Builder, JobSpec, Registration, Source, Volume
from tests.support.localshell import LocalHost, await_file

VOLUME = "vol-0123456789abcdef0"
BY_ID = "disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
MEMBER = "lucid-server-uec-amd64.img"
#: What an image of 2010 has (mke2fs 1.41), and no more.
LUCID = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
#: The ext4 of 2012 (mke2fs 1.42): the defaults of today add to it.
PRECISE = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,uninit_bg"
_HERE = Path(__file__).parent

Body = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass(frozen=True, slots=True)
class Image:
    """A bare file system, and the tarball that it is published in."""

    file: Path
    tarball: Path

    @property
    def sha256(self) -> str:
        return sha256(self.tarball)


def loops_of(folder: Path) -> list[str]:
    """Return the files in ``folder`` to which a loop device is attached."""
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found.append(file.read_text().strip())
        except OSError:  # detached while we looked
            continue
    return [name for name in found if name.startswith(str(folder))]


def left_loops(folder: Path) -> list[str]:
    """Return what :func:`loops_of` still finds after the moment that the kernel takes to detach."""
    deadline = time.monotonic() + 15
    while (left := loops_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def mounted(image: Path, options: str, action: str) -> Any:
    """Run an action of ``tree.py`` on the mounted image, in a mount namespace of its own; returns what it prints."""
    script = 'mount -o "loop,$1" "$2" "$3" && exec "$4" "$5" "$6" "$3"'
    mountpoint = image.parent / f"{image.name}.mnt"
    mountpoint.mkdir(exist_ok=True)
    told = run(
        *("unshare", "-m", "sh", "-c", script, "sh", options, image, mountpoint),
        *(sys.executable, _HERE / "tree.py", action),
    )
    return json.loads(told) if told else None


def tree_of(image: Path) -> dict[str, Any]:
    """Return everything that can be said of the image's tree, read by Python and not by our shell."""
    found: dict[str, Any] = mounted(image, "ro", "describe")
    return found


def make_image(file: Path, fs_type: str, *options: str, size: str = "48M", nasty: bool = True) -> None:
    run("truncate", "-s", size, file)
    if fs_type == "xfs":
        run("mkfs.xfs", "-q", *options, file)
    else:
        run("mke2fs", "-q", "-F", "-t", fs_type, *options, file)
    if nasty:
        mounted(file, "rw", "plant")


def pack(tarball: Path, *members: tuple[str, Path]) -> None:
    with gzip.open(tarball, "wb", compresslevel=1) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, file in members:
            tar.add(file, name)


def dumpe2fs(file: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in run("dumpe2fs", "-h", file).splitlines())
    return {key: value.strip() for key, _, value in pairs}


def features(file: Path) -> set[str]:
    return set(dumpe2fs(file)["Filesystem features"].split())


# The server -----------------------------------------------------------------------------------------------------------


class Server:
    """Serves files of a folder with ranges, and paths for which a test gave a body of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bodies: dict[str, Body] = {}
        self.requests: list[tuple[str, str, str]] = []  # method, path, Range
        handler = functools.partial(_Handler, self)
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/{name}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, owner: Server, *args: Any) -> None:
        self.owner = owner
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._serve(head=True)

    def do_GET(self) -> None:
        self._serve(head=False)

    def _serve(self, *, head: bool) -> None:
        name = self.path.lstrip("/")
        self.owner.requests.append((self.command, name, self.headers.get("Range", "")))
        if name in self.owner.bodies:
            if head:
                self.send_error(405)
            else:
                self.owner.bodies[name](self)
            return
        file = self.owner.folder / name
        if not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        wanted = self.headers.get("Range", "")
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if begin >= len(content) and wanted:
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not head:
            self.wfile.write(content[begin:])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


# A builder ------------------------------------------------------------------------------------------------------------


class World:
    """A builder with a volume, a server, and the method under test."""

    def __init__(self, host: LocalHost, shell: Shell, volume: Path, server: Server) -> None:
        self.host = host
        self.shell = shell
        self.volume = volume
        self.server = server
        self.method = FilesystemMethod(download_tries=3, download_pause=0)

    def task(self, name: str, digest: str | None, *, attempt: int = 1) -> Task:
        return self.method.task(
            job_spec(self.server.url(name), digest), volume_id=VOLUME, device="/dev/sdf", attempt=attempt
        )

    def finish(self, task: Task, *, limit: float = 90.0) -> Report:
        """Poll until the task has ended."""
        deadline = time.monotonic() + limit
        while isinstance(report := poll(self.shell, task), Running):
            assert time.monotonic() < deadline, report
            await_file(self.host.work(task.name) / "result")
        return report

    def go(self, task: Task, *, again: bool = False, limit: float = 90.0) -> Report:
        start(self.shell, task, again=again)
        return self.finish(task, limit=limit)

    def succeed(self, task: Task, *, again: bool = False, limit: float = 90.0) -> Succeeded:
        report = self.go(task, again=again, limit=limit)
        assert isinstance(report, Succeeded), (report, getattr(report, "log", ""))
        return report

    def fail(self, task: Task, code: str) -> Failed:
        report = self.go(task)
        assert isinstance(report, Failed), report
        assert report.code == code, (report, report.log)
        return report

    def wait_for_phase(self, task: Task, phase: str) -> None:
        """Return as soon as the task says that it is in ``phase``; its own file is quicker to look at than a poll."""
        deadline = time.monotonic() + 60
        progress = self.host.work(task.name) / "progress"
        while True:
            try:
                if progress.read_text().startswith(f"phase={phase}\n"):
                    return
            except FileNotFoundError:
                pass
            assert time.monotonic() < deadline, poll(self.shell, task)
            time.sleep(0.002)

    def processes(self, task: Task) -> list[int]:
        """Return the pids, as the builder sees them, of all that runs for the task."""
        mark = f"EBSPUB_TASK={self.host.work(task.name)}"
        listed = self.host.shell.run(f"grep -lzxF '{mark}' /proc/[0-9]*/environ 2>/dev/null", timeout=30).stdout
        return [int(line.split("/")[2]) for line in listed.decode().split()]

    def kill_all(self, task: Task) -> None:
        """End everything of the task at once by SIGKILL, as a lost builder would.

        Stopped first: a process whose child died before it would still report that.
        """
        stopped: set[int] = set()
        while more := set(self.processes(task)) - stopped:
            self.host.shell.run(f"kill -STOP {' '.join(map(str, more))}", timeout=30)
            stopped |= more
        deadline = time.monotonic() + 20
        while pids := self.processes(task):
            assert time.monotonic() < deadline, self.host.inside("ps -ef; grep State /proc/[0-9]*/status")
            self.host.shell.run(f"kill -KILL {' '.join(map(str, pids))}", timeout=30)

    def assert_clean(self) -> None:
        """Nothing is mounted or attached for the task on the host."""
        mounts = self.host.inside("cat /proc/self/mountinfo")
        assert str(self.host.work("")) not in mounts, mounts
        assert not left_loops(self.host.home)


def job_spec(url: str, digest: str | None) -> JobSpec:
    return JobSpec(
        suite="lucid",
        build="server",
        label="release",
        serial="20101020",
        version="10.04",
        arch="amd64",
        region="us-east-1",
        source=Source(url=url, sha256=digest),
        builder=Builder(image="ami-1", instance_types=("m5.large",), ssh_cidr="192.0.2.0/24"),
        volume=Volume(size=1),
        registration=Registration(name="ebs/test", architecture="x86_64", virtualization="paravirtual"),
        tags={},
    )


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.close()
