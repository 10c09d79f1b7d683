"""SIGINT and SIGTERM: stop within five seconds with everything resumable, whatever the main thread is doing.

A thread of its own reads the signals' numbers from a pipe to which the interpreter writes them at once, so that a main
thread that waits inside a library (for a database's lock, for a name server) keeps nobody waiting. Killing the process
is always safe: that is what the state database is for. Leaving in an orderly way only saves the next run some looks.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds that an orderly end may take; five are promised.
PATIENCE = 4.0
_SHOW_CURSOR = b"\x1b[?25h"

Request = Callable[[int], None]


class Watch:
    """Waits for signals beside the main thread.

    Until :meth:`arm` there is nothing to stop in an orderly way: a signal ends the process at once. Afterwards the
    first one is a request, and the process is ended when that takes too long, or by the second one.
    """

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self._request: Request | None = None
        self._parting: Callable[[], str] = lambda: "interrupted; nothing was started"
        self._first = 0

    def arm(self, request: Request, parting: Callable[[], str]) -> None:
        """Pass the first signal's number to ``request``; ``parting`` gives the line to print when all must end now."""
        self._parting = parting
        self._request = request

    def read(self) -> None:
        """Take signals until the pipe is closed."""
        while numbers := os.read(self._reader, 64):
            for number in numbers:
                if number in SIGNALS:
                    self._received(number)

    def _received(self, number: int) -> None:
        if self._first or self._request is None:
            self._leave(number)
        self._first = number
        timer = threading.Timer(PATIENCE, self._leave, (number,))
        timer.daemon = True
        timer.start()
        self._request(number)

    def _leave(self, number: int) -> NoReturn:
        # No lock is taken and no buffer flushed: whoever holds one may be what hangs.
        for stream, text in ((1, _SHOW_CURSOR if sys.stdout.isatty() else b""), (2, f"{self._parting()}\n".encode())):
            try:
                os.write(stream, text)
            except OSError:
                continue  # Nobody reads it; the process ends all the same.
        os._exit(128 + number)


@contextmanager
def watch() -> Iterator[Watch]:
    """Watch for SIGINT and SIGTERM; what was in force before is put back at the end. Main thread only."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = {each: signal.signal(each, lambda _number, _frame: None) for each in SIGNALS}
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    found = Watch(reader)
    thread = threading.Thread(target=found.read, name="ebspub-signals", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        signal.set_wakeup_fd(old)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(writer)
        thread.join()
        os.close(reader)
