"""What the disk method's program leaves in the task's folder, in which it works, for its script and for itself.

``found``: facts, key=value; ``counted``: done and total; ``reach``: how far anything was ever written; ``poured``: what
was poured, as JSON; ``layout``: what of the disk can grow; ``refused``: code and message, where the exit status is 3.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Progress:
    """Says in a file, once a second, how far the work is."""

    def __init__(self) -> None:
        self.done, self.total = 0, 0
        self._ask: Callable[[], tuple[int, int]] = lambda: (self.done, self.total)
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def follow(self, ask: Callable[[], tuple[int, int]]) -> None:
        """From now on, say what ``ask`` returns: bytes done, and their total."""
        self._ask = ask

    def count(self, done: int) -> None:
        """``done`` bytes are done."""
        self.done = done

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            save("counted", "{} {}\n".format(*self._ask()))


def save(name: str, text: str) -> None:
    """Write a file, all of it or nothing."""
    with open(f"{name}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{name}.new", name)  # noqa: PTH105 - plain names in the working folder


def load(name: str) -> str:
    """Return what a file holds; nothing where there is none."""
    try:
        with open(name, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def facts(**found: object) -> None:
    """Add facts to those that the task reports."""
    with open("found", "a", encoding="utf-8") as file:
        file.writelines(f"{key}={value}\n" for key, value in found.items())
