"""How long something took that must not take long, less the time for which the machine let nobody on.

Tests run beside others on machines that have nothing to spare. While the clock runs, a thread does little, again and
again: a short sleep, a small write to disk. By what that took too long, the machine was late.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from types import TracebackType
from typing import Self

#: Seconds between two looks, and what a look may take on a machine that has time for us.
_PAUSE, _USUAL = 0.02, 0.03


class Stopwatch:
    """A context; ``seconds`` is what it took, less the stalls of the machine, which are nothing on a quiet one."""

    def __enter__(self) -> Self:
        self._stalled = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended = time.monotonic()
        self._over.set()
        self._thread.join()
        self.elapsed = ended - self._began

    @property
    def seconds(self) -> float:
        """What it took, less the stalls."""
        return self.elapsed - self._stalled

    def _look(self) -> None:
        with tempfile.TemporaryFile() as file:
            while not self._over.is_set():
                began = time.monotonic()
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
                time.sleep(_PAUSE)
                self._stalled += max(0.0, time.monotonic() - began - _PAUSE - _USUAL)
