"""What an upload has done, and getting it on record while it goes on.

A block is *entered* before it is hashed and put, and *left* when it is on record, or had nothing to put. No more than
:data:`WINDOW` blocks are between the two: so many are put again at most by the process that goes on after a kill.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ebspub.engine.uploads import Order
from ebspub.errors import EbspubError

#: Blocks of one upload that are being put, or are put and not yet on record.
WINDOW: Final = 64
#: Seconds after which what was put goes on record at the latest, and after which the lease is looked at anyway.
_SOON, _LEASE = 0.1, 1.0
#: Seconds for which an upload that is stopped waits for puts under way, so that they get on record.
_GRACE = 1.0
_LOOK = 0.2


class Journal:
    """The record of one upload, kept by a thread of its own."""

    def __init__(self, order: Order, halted: Callable[[], bool], halt: Callable[[EbspubError], None]) -> None:
        self._order = order
        self._halted = halted
        self._halt = halt
        self._window = threading.Semaphore(WINDOW)
        self._changed = threading.Condition()
        self._finishing = False
        self._inside = 0
        self._new_sent: dict[int, bytes] = {}
        self._new_same: dict[int, bytes] = {}
        #: Index and SHA-256 of the blocks that were put, by this process or an earlier one, and of the parent's.
        self.sent: dict[int, bytes] = {}
        self.unchanged: dict[int, bytes] = {}
        self._thread = threading.Thread(target=self._keep, name=f"ebspub-journal {order.job.id}", daemon=True)

    def load(self) -> None:
        """Read what earlier processes put. Raises StoreError."""
        found = self._order.ledger.load(self._order.snapshot.id)
        self.sent, self.unchanged = found.sent, found.same

    def start(self) -> None:
        """Begin to record."""
        self._thread.start()

    def finish(self) -> None:
        """Wait until every block that was entered has left, and all is on record."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()
        self._thread.join()

    def enter(self, alive: Callable[[], None]) -> None:
        """Wait for a place in the window; ``alive`` raises where the upload is to stop."""
        while not self._window.acquire(timeout=_LOOK):
            alive()
        with self._changed:
            self._inside += 1

    def leave(self) -> None:
        """A block had nothing to be put, or was not put."""
        self._left(1)

    def put(self, index: int, digest: bytes) -> None:
        """A block was put."""
        with self._changed:
            self.sent[index] = self._new_sent[index] = digest
            self._tell()

    def same(self, index: int, digest: bytes) -> None:
        """A block is the parent's."""
        with self._changed:
            if self.unchanged.get(index) != digest:
                self.unchanged[index] = self._new_same[index] = digest
                self._tell()
                return
        self._left(1)

    def _tell(self) -> None:
        """Wake the thread that records, if it has something to do now: each time is one that a put waits for."""
        new = len(self._new_sent) + len(self._new_same)
        if self._finishing or new == 1 or new >= WINDOW // 2:
            self._changed.notify_all()

    def _left(self, count: int) -> None:
        with self._changed:
            self._inside -= count
            self._changed.notify_all()
        self._window.release(count)

    def _keep(self) -> None:
        try:
            while self._wait():
                with self._changed:
                    sent, self._new_sent = self._new_sent, {}
                    same, self._new_same = self._new_same, {}
                self._order.ledger.record(self._order.job, self._order.snapshot.id, sent, same)
                if sent or same:
                    self._left(len(sent) + len(same))
        except EbspubError as error:
            # LeaseLostError: another process drives the job; StoreError: nothing can be recorded any more.
            self._halt(error)

    def _wait(self) -> bool:
        """Wait until there is something to record, or the lease is to be looked at; False where all is done."""
        began = time.monotonic()
        with self._changed:
            while True:
                waited = time.monotonic() - began
                new = len(self._new_sent) + len(self._new_same)
                if self._finishing and (self._inside == new or (self._halted() and waited >= _GRACE)):
                    return new > 0
                if new and not self._finishing and (waited >= _SOON or new >= WINDOW // 2):
                    return True
                if waited >= _LEASE:
                    return True
                self._changed.wait(_SOON if new or self._finishing else _LOOK)
