"""The one clock: wall time for what is written down, monotonic time for what is measured.

Everything that asks for the time or waits takes a :class:`Clock`, so that a simulated clock can drive the
engine through hours in milliseconds.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time, and the one way to wait for it."""

    def now(self) -> float:
        """Return seconds since the epoch (UTC)."""

    def wait(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait ``seconds``, or until ``wake`` is set."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float, wake: threading.Event | None = None) -> None:
        if wake is None:
            time.sleep(max(0.0, seconds))
        else:
            wake.wait(max(0.0, seconds))


def isoformat(when: float) -> str:
    """Return ``when`` (seconds since the epoch) as RFC 3339 in UTC with whole seconds: 2010-10-20T12:00:00Z."""
    # strftime takes ten times as long.
    return f"{datetime.fromtimestamp(when, UTC).isoformat(timespec='seconds').removesuffix('+00:00')}Z"
