"""The `filesystem` and `disk` methods as they run on a builder: the task that the publisher sends, on a loop device."""

from __future__ import annotations

import shutil
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Literal

from ebspub.populate.disk import DiskMethod
from ebspub.populate.filesystem import FilesystemMethod
from ebspub.populate.method import Method
from ebspub.remote.detached import Task, poll, start
from ebspub.remote.report import Succeeded
from ebspub.remote.shell import Shell
from ebspub.spec import Builder, JobSpec, Registration, Source, Volume
from tests.bench.artefacts import Artefacts
from tests.bench.meter import BenchError, Meter, Taken, device
from tests.support.localshell import LocalHost, LocalShell

_VOLUME = "vol-0123456789abcdef0"
_BY_ID = "disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0"
#: The phases of the disk method until all is written and flushed.
_FILLING = ("device", "write")
GIB = 1 << 30


class OnBuilder:
    """Measures the methods that work on a builder: a host in namespaces of its own."""

    def __init__(self, meter: Meter, artefacts: Artefacts, url: str, folder: Path, volume: int) -> None:
        self._meter = meter
        self._artefacts = artefacts
        self._url = url
        self._folder = folder
        self._volume = volume
        self._sums = {
            name: artefacts.sha256(name)
            for name in (*artefacts.disks, artefacts.tarball)
            if artefacts.path(name).exists()
        }
        #: Seconds of each phase of the task that was run last.
        self.phases: dict[str, float] = {}

    def filesystem(self) -> Taken:
        """The specification's way: a bare file system on the whole volume."""
        return self._run(FilesystemMethod(), Artefacts.tarball, virtualization="paravirtual")

    def disk(self, name: str, pace: int = 0) -> Taken:
        """A whole disk, written as it is, and made to fill the volume; ``pace``: see :func:`device`."""
        return self._run(DiskMethod(), name, virtualization="hvm", pace=pace)

    def _run(self, method: Method, name: str, *, virtualization: Literal["hvm", "paravirtual"], pace: int = 0) -> Taken:
        spec = _spec(f"{self._url}/{name}", self._sums[name], self._volume // GIB, virtualization)
        folder = self._folder / "host"
        host = LocalHost(folder)
        try:
            with device(self._folder / "volume", self._volume, pace) as target:
                (host.devices / _BY_ID).symlink_to(target.path)
                shell = LocalShell(host.environment, (*self._meter.prefix, *host.entering))
                task = method.task(spec, volume_id=_VOLUME, device="/dev/sdf", attempt=1)
                taken = self._meter.timed(lambda: self._finish(shell, task, host.work(task.name)))
                report = poll(shell, task)
                if not isinstance(report, Succeeded):
                    raise BenchError(f"{method.name} of {name}: {report}\n{getattr(report, 'log', '')}")
                method.facts(report.facts)
                fill = sum(self.phases.get(each, 0.0) for each in _FILLING) if method.name == "disk" else None
                return Taken(taken.seconds, taken.cpu, target.written, target.allocated, fill)
        finally:
            host.close()
            shutil.rmtree(folder)

    def _finish(self, shell: Shell, task: Task, folder: Path) -> None:
        """Start a task and wait for its result, more closely than the publisher does; note when its phases began."""
        began: list[tuple[str, float]] = []
        starting = threading.Thread(target=start, args=(shell, task))
        starting.start()
        deadline = time.monotonic() + 600
        while not (folder / "result").exists():
            phase = _phase(folder)
            if phase and (not began or began[-1][0] != phase):
                began.append((phase, time.perf_counter()))
            if time.monotonic() > deadline:
                raise BenchError(f"the task {task.name} does not end; it is in the phase {phase}")
            time.sleep(0.004)
        began.append(("", time.perf_counter()))
        self.phases = {name: then - at for (name, at), (_, then) in pairwise(began)}
        starting.join()


def _phase(folder: Path) -> str:
    try:
        return (folder / "progress").read_text().partition("\n")[0].removeprefix("phase=")
    except FileNotFoundError:
        return ""


def _spec(url: str, sha256: str, gib: int, virtualization: Literal["hvm", "paravirtual"]) -> JobSpec:
    return JobSpec(
        suite="lucid",
        build="server",
        label="release",
        serial="20101020",
        version="10.04",
        arch="amd64",
        region="us-east-1",
        source=Source(url=url, sha256=sha256),
        builder=Builder(image="ami-1", instance_types=("m5.large",), ssh_cidr="192.0.2.0/24"),
        volume=Volume(size=gib),
        registration=Registration(name="ebs/bench", architecture="x86_64", virtualization=virtualization),
        tags={},
    )
