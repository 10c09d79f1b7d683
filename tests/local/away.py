"""What happens away from the publisher under test: on other hosts, on the image server, inside a builder."""

from __future__ import annotations

import functools
import http.server
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ebspub.localcloud import Cloud
from ebspub.source import formats
from ebspub.store import Lease, Store, effects, jobs
from tests.local.publisher import Publisher

_PIECE = 8192
_NAMED = 'hostname "$1" && mount --bind "$2" /proc/sys/kernel/random/boot_id && shift 2 && exec "$@"'


def until(holds: Callable[[], Any], timeout: float = 90.0) -> Any:
    """Return the first true value of ``holds``."""
    deadline = time.monotonic() + timeout
    while not (value := holds()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return value


def freeze(publisher: Publisher, process: subprocess.Popen[str]) -> None:
    """Stop a process of the publisher at a moment at which it holds no lock on the SQLite file."""
    file = publisher.folder / "ebspub.db"
    while True:
        process.send_signal(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        with closing(sqlite3.connect(file, timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # locked, by whom we have just stopped
                process.send_signal(signal.SIGCONT)
                continue
            connection.execute("ROLLBACK")
            return


# Other hosts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Machine(Publisher):
    """The publisher with the same files on another host, or in another boot of a host."""

    hostname: str = ""
    boot: str = ""

    def command(self, *words: str) -> list[str]:
        boot = self.folder / f"boot-{self.boot}"
        boot.write_text(f"{self.boot}\n")
        named = ["sh", "-c", _NAMED, "sh", self.hostname, str(boot)]
        return ["unshare", "--mount", "--uts", "--propagation", "private", *named, *super().command(*words)]


def machine(publisher: Publisher, *, hostname: str = "", boot: str = "") -> Machine:
    """Return ``publisher`` on a host of another name, or on this host in another boot."""
    same = {each.name: getattr(publisher, each.name) for each in fields(Publisher)}
    own = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Machine(**same, hostname=hostname or os.uname().nodename, boot=boot or own)


# The image server --------------------------------------------------------------------------------------------------


_FIRST_BYTES = f"bytes=0-{formats.HEAD - 1}"


class Images:
    """Serves a folder; tarballs come drop by drop until they are let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.go = threading.Event()
        #: The paths of the GET requests for tarballs: of builders, whereas the publisher looks at the first bytes.
        self.asked: list[str] = []
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.go.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, images: Images, *args: Any) -> None:
        self._images = images
        super().__init__(*args, directory=str(images.folder))

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self.path.endswith(".gz") and self.headers.get("Range") != _FIRST_BYTES:
            self._images.asked.append(self.path)
            try:
                # A second between two pieces: fast enough for a download that gives up on a server that stalls.
                while not self._images.go.wait(1.0) and (piece := source.read(_PIECE)):
                    outputfile.write(piece)
                super().copyfile(source, outputfile)
            except OSError:  # the builder is gone, and this connection with it
                self.close_connection = True
        else:
            super().copyfile(source, outputfile)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


@contextmanager
def holding(publisher: Publisher) -> Iterator[Images]:
    """Let every builder of ``publisher`` download, and no more, until the server lets it go on."""
    images = Images(publisher.images.parents[1])
    reconfigure(publisher, images)
    try:
        yield images
    finally:
        images.close()


def reconfigure(publisher: Publisher, images: Images, edit: Callable[[str], str] = lambda text: text) -> None:
    """Write the configuration anew, for images from ``images``."""
    publisher.configure("us-east-1", edit=lambda text: edit(text.replace(publisher.url, images.url)))


# Builders ----------------------------------------------------------------------------------------------------------


def below(cloud: Cloud) -> dict[int, str]:
    """Return all processes of the cloud's builders, with their command lines: other clouds may have like ones."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(proc.name)] = int((proc / "stat").read_text().rpartition(")")[2].split()[1])
            lines[int(proc.name)] = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # It ended while we looked.
            continue

    def ours(pid: int) -> bool:
        while pid > 1 and pid != cloud.pid:
            pid = parents.get(pid, 0)
        return pid == cloud.pid

    return {pid: line for pid, line in lines.items() if pid != cloud.pid and ours(pid)}


def sessions(cloud: Cloud) -> set[int]:
    """Return the processes that serve SSH connections to the cloud's builders."""
    return {pid for pid, line in below(cloud).items() if line.startswith("sshd") and "[listener]" not in line}


def kill(pids: set[int]) -> None:
    """End processes by SIGKILL at once: none of them reports the death of another."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


def task_of(publisher: Publisher, job_id: str) -> set[int]:
    """Return the processes of a job's detached work, whatever builder they run on."""
    found = set()
    for pid in below(publisher.cloud):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"EBSPUB_TASK=/var/tmp/ebspub-{job_id}-".encode() in environment:
            found.add(pid)
    return found


def leader_of(publisher: Publisher, job_id: str) -> str:
    """Return the record of the process that leads a job's detached work: boot id, pid, start time."""
    for pid in task_of(publisher, job_id):
        try:
            (leader,) = Path(f"/proc/{pid}/root/var/tmp").glob(f"ebspub-{job_id}-*/leader")
            return leader.read_text()
        except (OSError, ValueError):
            continue
    return ""


def inside(publisher: Publisher, instance_id: str) -> int:
    """Return a process of a builder; 0 while there is none."""
    found = (pid for pid in below(publisher.cloud) if Path(f"/proc/{pid}/root/run/ready-{instance_id}").exists())
    return next(found, 0)


def heartbeat(publisher: Publisher, instance_id: str) -> str:
    """Return what a publisher last told the builder's dead-man timer; empty where none did."""
    try:
        return Path(f"/proc/{inside(publisher, instance_id)}/root/run/ebspub/alive").read_text()
    except OSError:
        return ""


def pass_time(publisher: Publisher, instance_id: str, seconds: int) -> None:
    """Let the builder's uptime jump, and whatever sleeps there wake up, until it has ended."""
    init = inside(publisher, instance_id)
    mounts = os.stat(f"/proc/{init}/ns/mnt").st_ino
    root = Path(f"/proc/{init}/root")
    later = float((root / "proc/uptime").read_text().split()[0]) + seconds
    (root / "run/uptime").write_text(f"{later:.2f} 0.00\n")
    # `sync` is this whole machine's, to whose disks others write.
    mount = "mount --bind /run/uptime /proc/uptime && mount --bind /usr/bin/true /usr/bin/sync"
    subprocess.run(["nsenter", f"--target={init}", "--mount", "sh", "-c", mount], check=True, timeout=30)

    def ended() -> bool:
        states = {each.id: each.state for each in publisher.cloud.inventory().instances}
        if states.get(instance_id, "terminated") == "terminated":
            return True
        for pid, line in below(publisher.cloud).items():
            try:
                if line.startswith("sleep ") and os.stat(f"/proc/{pid}/ns/mnt").st_ino == mounts:
                    os.kill(pid, signal.SIGKILL)
            except OSError:  # It woke up by itself.
                continue
        return False

    until(ended)


# What is written down ----------------------------------------------------------------------------------------------


def calls(url: str) -> dict[str, list[str]]:
    """Return the calls that were made for every job of a state database."""
    with Store.open(url) as store, store.read() as conn:
        return {job.id: [call.action for call in effects.history(conn, job.id)] for job in jobs.find(conn)}


def epochs(url: str) -> list[int]:
    """Return how often each job of a state database was taken by a process."""
    with Store.open(url) as store, store.read() as conn:
        return [job.epoch for job in jobs.find(conn)]


def lease(publisher: Publisher) -> Lease | None:
    """Return the lease of the only job of the publisher's database."""
    with Store.open(database(publisher)) as store, store.read() as conn:
        (job,) = jobs.find(conn)
    return job.lease


def database(publisher: Publisher) -> str:
    """Return the URL of the publisher's own database."""
    return f"sqlite:///{publisher.folder / 'ebspub.db'}"


#: Every call of a job that nothing interrupted.
CALLS = [
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "RunInstances",
    "CreateVolume",
    "AttachVolume",
    "StartPopulating",
    "TerminateInstances",
    "CreateSnapshot",
    "DeleteVolume",
    "DeleteSecurityGroup",
    "RegisterImage",
]
