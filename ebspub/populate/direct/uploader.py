"""The uploads of a process: started, looked at, stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ebspub.aws.clients import PUTS, UPLOADS
from ebspub.clock import Clock
from ebspub.engine.uploads import Ended, Failed, Order, Running
from ebspub.populate.direct.buffers import Pool
from ebspub.populate.direct.upload import Upload

#: Block buffers (50 MiB): each upload may have as many as it puts at a time, and two to read into.
BUFFERS: Final = UPLOADS * (PUTS + 2)
#: Seconds that the end of the process waits for what was put to get on record.
_PATIENCE: Final = 1.5


class Uploader:
    """Implements :class:`ebspub.engine.uploads.Uploads`. ``folder``: for sources that cannot be streamed."""

    def __init__(self, folder: Path, clock: Clock, stopping: Callable[[], bool]) -> None:
        self._folder = folder
        self._clock = clock
        self._stopping = stopping
        self._pool = Pool(BUFFERS, UPLOADS * PUTS)
        self._lock = threading.Lock()
        self._uploads: dict[str, Upload] = {}

    def look(self, order: Order) -> Running | Ended | Failed | None:
        with self._lock:
            found = self._uploads.get(order.key)
        return None if found is None else found.progress

    def start(self, order: Order) -> bool:
        with self._lock:
            if sum(1 for each in self._uploads.values() if each.running) >= UPLOADS:
                return False
            self._pool.staff(PUTS)
            upload = Upload(order, self._pool, self._folder, self._clock, self._stopping)
            self._uploads[order.key] = upload
        upload.start()
        return True

    def drop(self, job_id: str) -> None:
        with self._lock:
            mine = [key for key, each in self._uploads.items() if each.order.job.id == job_id]
            ending = [self._uploads.pop(key) for key in mine]
        for each in ending:
            each.stop()

    def close(self) -> None:
        with self._lock:
            ending = list(self._uploads.values())
            self._uploads.clear()
        for each in ending:
            each.stop()
        until = time.monotonic() + _PATIENCE
        for each in ending:
            each.join(max(0.0, until - time.monotonic()))
