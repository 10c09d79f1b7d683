"""The machine's clock."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.clock import Clock, SystemClock, isoformat


def test_now_is_seconds_since_the_epoch() -> None:
    clock: Clock = SystemClock()
    before = time.time()
    assert before <= clock.now() <= time.time()


def test_waiting_takes_as_long_as_it_says() -> None:
    before = time.monotonic()
    SystemClock().wait(0.05)
    assert time.monotonic() - before >= 0.05


@pytest.mark.parametrize("wake", [None, threading.Event()])
@pytest.mark.parametrize("seconds", [0.0, -1.0, -1e9])
def test_a_time_that_has_passed_is_not_waited_for(seconds: float, wake: threading.Event | None) -> None:
    before = time.monotonic()
    SystemClock().wait(seconds, wake)
    assert time.monotonic() - before < 1.0


def test_a_waiting_thread_is_woken() -> None:
    wake = threading.Event()
    timer = threading.Timer(0.05, wake.set)
    timer.start()
    before = time.monotonic()
    SystemClock().wait(60.0, wake)
    assert time.monotonic() - before < 30.0
    timer.join()


def test_who_was_woken_before_does_not_wait() -> None:
    wake = threading.Event()
    wake.set()
    before = time.monotonic()
    SystemClock().wait(60.0, wake)
    assert time.monotonic() - before < 30.0


def test_what_is_written_down_is_utc_in_whole_seconds() -> None:
    assert isoformat(0) == "1970-01-01T00:00:00Z"
    assert isoformat(1287576000.999) == "2010-10-20T12:00:00Z"


@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000))
def test_text_sorts_as_time_does(one: int, other: int) -> None:
    assert (one < other) == (isoformat(one) < isoformat(other))
