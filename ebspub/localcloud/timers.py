"""Things that happen later: one thread that keeps the time, and a pool that does the work."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

log = logging.getLogger(__name__)
Work = Callable[[], None]


class Timers:
    """Runs work now or later in threads that live as long as the cloud.

    The threads must not end earlier: builders are tied to the thread that started them (PR_SET_PDEATHSIG).
    """

    def __init__(self, workers: int = 24) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="cloud")
        self._due: list[tuple[float, int, Work]] = []
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._ended = False
        threading.Thread(target=self._run, name="timers", daemon=True).start()

    def now(self, work: Work) -> Future[None]:
        """Do ``work`` in a thread of the pool."""
        return self._pool.submit(_logged, work)

    def later(self, seconds: float, work: Work) -> None:
        """Do ``work`` in a thread of the pool, ``seconds`` from now."""
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), work))
            self._wake.notify()

    def end(self) -> None:
        """Start nothing any more; waits for what runs."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._ended and (not self._due or self._due[0][0] > time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._ended:
                    return
                _, _, work = heapq.heappop(self._due)
            self.now(work)


def _logged(work: Work) -> None:
    try:
        work()
    except Exception:
        # Raised again, whatever it is; but nobody may ever ask the future for it, and then only the log has told.
        log.exception("the embedded cloud failed in the background")
        raise
