"""The buffers of blocks that all uploads of a process share: so many and no more, so that memory stays bounded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from ebspub.aws.blocks import SIZE

ZERO: Final = bytes(SIZE)
_LOOK = 0.2


class Pool:
    """At most ``most`` buffers, made when they are first needed; and up to ``workers`` threads that put them."""

    def __init__(self, most: int, workers: int) -> None:
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._unmade = most
        self._workers = workers
        self._lock = threading.Lock()

    def staff(self, count: int) -> None:
        """Start ``count`` threads more, as far as there may be more."""
        with self._lock:
            more = min(count, self._workers)
            self._workers -= more
        for _ in range(more):
            # Daemons: a put that hangs must not keep the process from ending.
            threading.Thread(target=self._run, name="ebspub-put", daemon=True).start()

    def submit(self, work: Callable[[], None]) -> None:
        """Do ``work``, which raises nothing, in one of the threads."""
        self._work.put(work)

    def take(self, alive: Callable[[], None]) -> bytearray:
        """Return a free buffer; ``alive`` is asked again and again meanwhile, and raises to give up."""
        while True:
            try:
                return self._free.get_nowait()
            except queue.Empty:
                pass
            with self._lock:
                if self._unmade:
                    self._unmade -= 1
                    return bytearray(SIZE)
            alive()
            try:
                return self._free.get(timeout=_LOOK)
            except queue.Empty:
                continue

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        self._free.put(buffer)

    def _run(self) -> None:
        while True:
            self._work.get()()
