"""A file of the publisher's own machine, sent to a task's work folder over the SSH connection, in slices.

What is on the builder says how far it got: whoever comes next, after a broken connection or a dead publisher, goes on
there. A file that is not the one it was (another size, time of change or inode) is sent anew. Whether all bytes came as
they are is the task's to say, by the checksum.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ebspub.errors import RemoteError
from ebspub.remote.detached import Task, as_root, run_program
from ebspub.remote.report import clean
from ebspub.remote.shell import MIB, Shell

#: Append stdin where the file ends, if it ends where we think: a connection that broke may still have a writer there,
#: which ends by itself within the time of one chunk.
_APPEND = (
    'cd "$1" && exec 8>>start.lock && flock -w 60 8 && [ "$(stat -c %s "$2.part")" = "$3" ] || exit 9; '
    'timeout 50 cat >>"$2.part" || exit 1; echo "size $(stat -c %s "$2.part")"'
)
_CHUNK_TIMEOUT = 120.0
#: Bytes sent by one command: as many as take about a second, so that a slice ends when it should.
_SMALLEST, _FIRST, _LARGEST = MIB // 4, MIB, 16 * MIB


@dataclass(frozen=True, slots=True)
class Sent:
    """How much of a file is on the builder, in bytes."""

    done: int
    total: int

    @property
    def complete(self) -> bool:
        """Whether the task can begin."""
        return self.done >= self.total


def upload(
    shell: Shell, task: Task, file: Path, name: str, *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Sent:
    """Send more of ``file`` to the work folder of ``task``, where it will be called ``name``; return how far it is.

    Takes about ``seconds``. Raises :class:`RemoteError`, and OSError where the file cannot be read.
    """
    ends = clock() + seconds
    with file.open("rb") as opened:
        stat = os.fstat(opened.fileno())
        identity = f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ino}"
        here, work = _begin(shell, task, name, identity, stat.st_size)
        chunk, sent = _FIRST, False
        while here < stat.st_size and (began := clock()) < ends:
            data = os.pread(opened.fileno(), min(chunk, stat.st_size - here), here)
            if not data:
                break  # it was cut off meanwhile; the next look finds another file
            here = _append(shell, work, name, here, data)
            taken = max(clock() - began, 0.001)
            chunk, sent = int(min(max(len(data) / taken, _SMALLEST), 4 * chunk, _LARGEST)), True
        if sent and here == stat.st_size:
            here, _ = _begin(shell, task, name, identity, stat.st_size)  # gives it its name
    return Sent(here, stat.st_size)


def _begin(shell: Shell, task: Task, name: str, identity: str, size: int) -> tuple[int, str]:
    """Return how many bytes are on the builder, and the path of the work folder there."""
    variables = {"task": task.name, "file": name, "identity": identity, "size": str(size)}
    done = run_program(shell, "control.sh", "begin_upload || exit 1", variables, timeout=120.0)
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        match = re.fullmatch(r"upload ([0-9]{1,18}) (/[!-~]{1,4000})", line)
        if match and int(match[1]) <= size:
            return int(match[1]), match[2]
    raise RemoteError("the builder's answer on what it has of the file cannot be read")


def _append(shell: Shell, work: str, name: str, offset: int, data: bytes) -> int:
    """Append ``data`` at ``offset``; return where the file ends now."""
    words = " ".join(shlex.quote(word) for word in (_APPEND, "sh", work, name, str(offset)))
    done = shell.run(as_root(f"sh -c {words}"), stdin=data, timeout=_CHUNK_TIMEOUT)
    match = re.search(rb"^size ([0-9]{1,18})$", done.stdout, re.MULTILINE)
    if done.status != 0 or match is None:
        said = clean(done.stderr[-400:].decode("utf-8", "replace")) or "it did not say why"
        raise RemoteError(f"the builder did not take the file (exit status {done.status}): {said}")
    end = int(match[1])
    if end != offset + len(data):
        raise RemoteError(f"the builder took {end - offset} of {len(data)} bytes")
    return end
