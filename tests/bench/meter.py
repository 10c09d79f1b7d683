"""What a command takes: seconds by the clock, seconds of all its processes on processors, bytes written to a device."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.localshell import loop_device

#: Where control groups of the second version are: every one of them counts what its processes take.
_GROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_LOOP_SET_DIRECT_IO = 0x4C08
#: Bytes a second that may be written to a device or read from it, by all processes that are in no group of their own.
_LIMITS = tuple(Path(f"/sys/fs/cgroup/blkio/blkio.throttle.{way}_bps_device") for way in ("write", "read"))


@dataclass(frozen=True)
class Taken:
    """What was taken. ``cpu``: None where the kernel has no control groups; the rest: None where it is not asked for.

    ``written``: bytes written to the device; ``allocated``: bytes that its backing file has afterwards.
    ``fill``: seconds until all was written and flushed; what follows is proof and growth.
    """

    seconds: float
    cpu: float | None = None
    written: int | None = None
    allocated: int | None = None
    fill: float | None = None


class BenchError(Exception):
    """The benchmark itself has failed: nothing was measured."""


class Meter:
    """Counts the processor time of whatever is run by :attr:`prefix`, children that went astray and all."""

    def __init__(self, folder: Path | None) -> None:
        self._group = folder
        #: Words before a command that is to be counted.
        self.prefix: tuple[str, ...] = ()
        if folder is not None:
            self.prefix = ("sh", "-c", 'echo 0 >"$0"/cgroup.procs && exec "$@"', str(folder))

    def cpu(self) -> float | None:
        """Return the seconds so far."""
        if self._group is None:
            return None
        told = dict(line.split() for line in (self._group / "cpu.stat").read_text().splitlines())
        return int(told["usage_usec"]) / 1e6

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> Taken:
        """Run a command to its end, which must be a good one."""
        return self.timed(lambda: run(*self.prefix, *command, environment=environment))

    def timed(self, action: Callable[[], object]) -> Taken:
        """Do something, by commands with the prefix."""
        before, began = self.cpu(), time.perf_counter()
        action()
        seconds, after = time.perf_counter() - began, self.cpu()
        return Taken(seconds, None if before is None or after is None else after - before)


@contextmanager
def metering() -> Iterator[Meter]:
    """Yield a meter; without counts of processor time where this user may make no control group."""
    made = None
    for each in _GROUPS:
        folder = each / f"ebspub-bench-{time.time_ns()}"
        try:
            if (each / "cgroup.procs").exists():
                folder.mkdir()
                if (folder / "cpu.stat").exists():
                    made = folder
                    break
                folder.rmdir()
        except OSError:  # read-only, as in most containers: the other columns do without
            continue
    try:
        yield Meter(made)
    finally:
        if made is not None:
            _remove(made)


def _remove(group: Path) -> None:
    """Remove a group; what was killed in it may take a moment to be gone."""
    for _ in range(200):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.05)
        else:
            return


def run(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints. Raises :class:`BenchError` where it fails."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise BenchError(f"{' '.join(command)[:300]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


@dataclass(frozen=True)
class Device:
    """A loop device over a new file that is one hole: like an EBS volume, it reads as zeros.

    And like one it is no second cache: what reaches it goes to its file's disk, where the file system can do that.
    """

    path: Path
    file: Path
    #: What the kernel's count for this loop device was at first: of all files that ever were behind it.
    before: int

    @property
    def written(self) -> int:
        """Bytes that were written to it."""
        return _written(self.path) - self.before

    @property
    def allocated(self) -> int:
        """Bytes that its file has."""
        return self.file.stat().st_blocks * 512


@contextmanager
def device(file: Path, size: int, pace: int = 0) -> Iterator[Device]:
    """Yield a fresh device of ``size`` bytes; its file goes with it. ``pace``: bytes a second either way; 0: any."""
    with file.open("xb") as made:
        made.truncate(size)
    try:
        with loop_device(file) as path:
            _past_the_cache(path)
            with _paced(path, pace):
                yield Device(path, file, _written(path))
    finally:
        file.unlink()


def can_pace() -> bool:
    """Whether this machine can make a device as slow as is wanted."""
    return all(os.access(each, os.W_OK) for each in _LIMITS)


@contextmanager
def _paced(path: Path, pace: int) -> Iterator[None]:
    if not pace:
        yield
        return
    number = Path(f"/sys/block/{path.name}/dev").read_text().strip()
    try:
        for each in _LIMITS:
            each.write_text(f"{number} {pace}")
        yield
    finally:
        for each in _LIMITS:
            each.write_text(f"{number} 0")


def _past_the_cache(path: Path) -> None:
    with path.open("rb") as loop, suppress(OSError):
        fcntl.ioctl(loop, _LOOP_SET_DIRECT_IO, 1)


def _written(path: Path) -> int:
    return int(Path(f"/sys/block/{path.name}/stat").read_text().split()[6]) * 512


def settle() -> None:
    """Let the kernel write what an earlier measurement left to be written: the next one must not wait for it."""
    run("sync")
