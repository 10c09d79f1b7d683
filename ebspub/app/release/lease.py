"""Keep a release while something takes long that cannot be divided: a copy of the feeds to a slow machine."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ebspub.app.runtime import Runtime
from ebspub.errors import LeaseLostError, StoreError
from ebspub.store import Lease, releases

log = logging.getLogger(__name__)


@contextmanager
def renewed(runtime: Runtime, release_id: str, lease: Lease) -> Iterator[None]:
    """Renew ``lease`` at each third of its time, from a thread that ends with the block.

    One that is lost all the same is told by the next write under it: LeaseLostError.
    """
    ended = threading.Event()
    thread = threading.Thread(target=_renew, args=(runtime, release_id, lease, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _renew(runtime: Runtime, release_id: str, lease: Lease, ended: threading.Event) -> None:
    seconds = runtime.config.engine.lease
    while not ended.wait(seconds / 3):
        now = runtime.clock.now()
        try:
            with runtime.store.write() as conn:
                releases.change(conn, release_id, lease, now, lease_until=now + seconds)
        except LeaseLostError:
            return
        except StoreError as error:
            log.warning("%s: its lease was not renewed: %s", release_id, error.what)
