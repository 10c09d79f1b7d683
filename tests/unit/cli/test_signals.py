"""Signals: the process is gone within five seconds, whatever it is doing, and says what can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.stopwatch import Stopwatch
from tests.unit.cli.stories import ROOT

HEAD = """
import signal, sys, threading, time
from ebspub.cli.signals import watch
stop = threading.Event()
def request(number):
    print("asked", number, flush=True)
    stop.set()
with watch() as signals:
    {body}
print("through", flush=True)
"""
ARMED = 'signals.arm(request, lambda: "interrupted; 3 jobs resumable"); print("ready", flush=True); '
HOLD_GIL_FREE = "import ctypes; ctypes.CDLL(None).pause(); ctypes.CDLL(None).sleep(60)"


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line and not a byte more: what follows is for `communicate`, which reads beside any buffer."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line.decode()


@contextmanager
def program(body: str) -> Iterator[subprocess.Popen[str]]:
    script = HEAD.format(body=body)
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            assert line_of(process) == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(number: signal.Signals) -> None:
    with program(ARMED + "stop.wait()") as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == (f"asked {int(number)}\nthrough\n", "", 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_anything_was_started_it_ends_at_once(number: signal.Signals) -> None:
    with program('print("ready", flush=True); time.sleep(60)') as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    assert (out, err, process.returncode) == ("", "interrupted; nothing was started\n", 128 + number)


@pytest.mark.parametrize("hang", ["time.sleep(60)", HOLD_GIL_FREE], ids=["python", "library"])
def test_who_does_not_stop_is_ended_within_five_seconds(hang: str) -> None:
    with program(ARMED + hang) as process:
        with Stopwatch() as watch:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
        assert watch.elapsed > 3.5
        assert watch.seconds < 5
    assert (out, err, process.returncode) == ("asked 15\n", "interrupted; 3 jobs resumable\n", 143)


def test_the_second_signal_ends_it_at_once() -> None:
    with program(ARMED + "time.sleep(60)") as process:
        process.send_signal(signal.SIGINT)
        assert line_of(process) == "asked 2\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - begin < 2
    assert (err, process.returncode) == ("interrupted; 3 jobs resumable\n", 130)


def test_afterwards_the_signals_are_what_they_were() -> None:
    body = "pass\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    body += "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
    body += "assert signal.set_wakeup_fd(-1) == -1\n"
    body += 'assert [t.name for t in threading.enumerate()] == ["MainThread"]\nprint("ready", flush=True)'
    with program(body) as process:
        out, err = process.communicate(timeout=10)
    assert (out, err, process.returncode) == ("through\n", "", 0)
