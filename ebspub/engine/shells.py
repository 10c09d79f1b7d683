"""Connections to builders, kept while a job is driven."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ebspub.errors import RemoteError
from ebspub.remote.keys import Keyring
from ebspub.remote.shell import Shell
from ebspub.store import Job

#: address, port, user, client key, host key, timeout -> an authenticated shell
Connector = Callable[[Job, str, Keyring], Shell]


class Shells:
    """One connection per job; a broken one is dropped, and the next look makes another."""

    def __init__(self, connector: Connector, keyring: Keyring) -> None:
        self._connector = connector
        self._keyring = keyring
        self._lock = threading.Lock()
        self._open: dict[tuple[str, str], Shell] = {}

    def get(self, job: Job) -> Shell:
        """Return an authenticated shell on the job's builder. Raises RemoteError or HostKeyError."""
        address = str(job.facts.get("address", ""))
        if not address:
            raise RemoteError(f"{job.id}: the builder has no address yet")
        key = (job.id, address)
        with self._lock:
            shell = self._open.get(key)
        if shell is None:
            shell = self._connector(job, address, self._keyring)
            with self._lock:
                self._open[key] = shell
        return shell

    def drop(self, job_id: str) -> None:
        """Close the connections of a job."""
        with self._lock:
            closing = [self._open.pop(key) for key in list(self._open) if key[0] == job_id]
        for shell in closing:
            shell.close()

    def close(self) -> None:
        """Close all connections."""
        for job_id in {key[0] for key in list(self._open)}:
            self.drop(job_id)
