"""What the rest of the house knows of a host that takes commands.

Two protocols, so that a test or a simulator can bring its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ebspub.remote.keys import Key

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ended: its exit status, and the bytes that it wrote."""

    status: int
    stdout: bytes
    stderr: bytes


class Shell(Protocol):
    """A host that takes commands, one at a time."""

    def run(self, command: str, *, stdin: bytes = b"", timeout: float, limit: int = MIB) -> Completed:
        """Run ``command`` (a line for the login shell) and return how it ended.

        ``timeout`` is in seconds and bounds the whole run; ``limit`` in bytes bounds stdout and stderr together.
        Raises :class:`ebspub.errors.RemoteError` where there is no exit status, the deadline passed or more came.
        """

    def close(self) -> None:
        """End the connection; safe to call twice."""


class Connect(Protocol):
    """Open a :class:`Shell`; `ebspub.remote.ssh.connect` is the one for real hosts."""

    def __call__(self, address: str, port: int, user: str, client_key: Key, host_key: Key, timeout: float) -> Shell:
        """Return a shell on the host that proved to hold ``host_key``.

        Raises :class:`ebspub.errors.HostKeyError` for any other host and :class:`ebspub.errors.RemoteError` for one
        that cannot be reached or does not (yet) accept ``client_key``.
        """
