"""One upload: the blocks of a source that its snapshot does not have yet."""

from __future__ import annotations

import hashlib
import logging
import random
import struct
import threading
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ebspub.aws import blocks as ebs
from ebspub.aws.clients import PUTS
from ebspub.aws.failures import RETRYABLE, AwsError, Cause
from ebspub.clock import Clock
from ebspub.engine.uploads import Ended, Failed, Order, Running
from ebspub.errors import EbspubError, JobError, VerificationError
from ebspub.populate import gpt
from ebspub.populate.direct import disk
from ebspub.populate.direct.buffers import ZERO, Pool
from ebspub.populate.direct.download import Download
from ebspub.populate.direct.journal import Journal
from ebspub.populate.gpt import Patch

log = logging.getLogger(__name__)

ZERO_SHA256: Final = hashlib.sha256(ZERO).digest()
#: Seconds between two tries of a put: doubled each time, up to the second.
_PAUSE, _LONGEST = 0.25, 20.0


class StoppedError(EbspubError):
    """The upload was told to stop; nothing is wrong."""


class Upload:
    """Runs in a thread of its own, which reads; the pool's threads put."""

    def __init__(self, order: Order, pool: Pool, folder: Path, clock: Clock, stopping: Callable[[], bool]) -> None:
        self.order = order
        self._pool = pool
        self._folder = folder
        self._clock = clock
        self._stopping = stopping
        self._stop = threading.Event()
        #: So many blocks of this upload are in the pool at a time: none waits for another region.
        self._places = threading.Semaphore(PUTS)
        self._began = clock.now()
        self._download = Download(order.job.spec.source.url, self._pause)
        self._journal = Journal(order, self._halted, self._halt)
        self._outcome: Ended | Failed | None = None
        self._error: EbspubError | None = None
        self._phase = "start"
        self._parent: Mapping[int, bytes] = {}
        #: Of blocks that are patched, the digests of what the source has in them.
        self._plain: dict[int, bytes] = {}
        self._thread = threading.Thread(target=self._run, name=f"ebspub-upload {order.job.id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new; does not wait."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for what was put to get on record."""
        self._thread.join(seconds)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._outcome is None and not self._stop.is_set()

    @property
    def progress(self) -> Running | Ended | Failed:
        """How far it is."""
        return self._outcome or Running(self._phase, self._download.done, self._download.total)

    # The thread that reads ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._outcome = Ended(self._work())
        except StoppedError:
            log.info("%s: the upload was stopped", self.order.job.id)
        except EbspubError as error:
            # What went wrong first is the reason; what it broke is not.
            self._outcome = Failed(self._error or error)
        except Exception as error:
            # A defect of ours in one upload must not take the others down; the log has the traceback.
            log.exception("%s: unexpected error in its upload", self.order.job.id)
            what = f"{self.order.job.id}: unexpected {type(error).__name__}: {error}"
            self._outcome = Failed(JobError(what, todo="Please report this with the log.", code="defect"))

    def _work(self) -> dict[str, Any]:
        order = self.order
        self._journal.load()
        if order.parent is not None:
            blocks = order.ledger.load(order.parent).content
            self._parent = {index: digest for index, digest in blocks.items() if digest != ZERO_SHA256}
        self._journal.start()
        try:
            found, sha256, moved = self._read()
        finally:
            self._download.close()
            self._journal.finish()
        if self._error is not None:
            raise self._error
        self._alive()
        return self._facts(sha256, found, moved=moved)

    def _read(self) -> tuple[str, str, bool]:
        """Read the source to its end and hand out its blocks; return what it holds, its SHA-256, and the GPT's fate."""
        spec = self.order.job.spec
        try:
            self._phase = "open"
            found = disk.opened(spec, self._download, self._folder, self._alive)
            try:
                self._phase = "upload"
                moved = self._put_all(found)
                self._phase = "prove"
                return found.content, found.prove(spec), moved
            finally:
                found.stream.close()
        except VerificationError:
            raise
        except JobError:
            # What is damaged, or holds something else, is first of all not what was published.
            disk.accuse(spec, self._download)
            raise

    def _put_all(self, found: disk.Disk) -> bool:
        """Put every block that the snapshot does not have; return whether the GPT was moved."""
        spec = self.order.job.spec
        end = spec.volume.size * ebs.PER_GIB
        head = found.stream.head(gpt.HEAD) if found.content == "disk" else b""
        patches = gpt.grown(head, end * ebs.SIZE)
        patched = {at // ebs.SIZE for p in patches for at in (p.offset, p.offset + len(p.data) - 1)}
        special = sorted(self._parent.keys() | self._journal.sent.keys() | patched)
        following = 0
        for index, buffer in found.blocks(ebs.SIZE, self):
            try:
                if index >= end:
                    raise JobError(
                        f"{self.order.job.id}: the source is larger than the volume of {spec.volume.size} GiB",
                        todo="Raise volume.size, then `ebspub run`.",
                        code="too-small",
                    )
                self._blank(special, following, index, patches)
            except BaseException:
                self.give(buffer)
                raise
            self._dispatch(index, buffer, patches)
            following = index + 1
        gpt.whole(head, found.size)
        self._blank(special, following, end, patches)
        return bool(patches)

    def _blank(self, special: Sequence[int], first: int, end: int, patches: Sequence[Patch]) -> None:
        """Take care of blocks that the source has no data in: of those that hold some already, or are patched."""
        for index in special[bisect_left(special, first) : bisect_left(special, end)]:
            buffer = self.take()
            buffer[:] = ZERO
            self._dispatch(index, buffer, patches)

    def take(self) -> bytearray:
        """Return a buffer (:class:`ebspub.populate.direct.disk.Buffers`)."""
        return self._pool.take(self._alive)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back."""
        self._pool.give(buffer)

    def _dispatch(self, index: int, buffer: bytearray, patches: Sequence[Patch]) -> None:
        """Hand a block to the pool; blocks of zeros only where something else would be read. Takes the buffer over."""
        try:
            if any(offset // ebs.SIZE <= index <= (offset + len(data) - 1) // ebs.SIZE for offset, data in patches):
                self._plain[index] = hashlib.sha256(buffer).digest()
                _apply(patches, index, buffer)
            self._alive()
            empty = buffer == ZERO and index not in self._parent and index not in self._journal.sent
            if not empty:
                self._enter()
        except BaseException:
            self.give(buffer)
            raise
        if empty:
            self.give(buffer)
        else:
            self._pool.submit(partial(self._block, index, buffer))

    def _enter(self) -> None:
        while not self._places.acquire(timeout=0.2):
            self._alive()
        self._journal.enter(self._alive)

    # The threads that put -------------------------------------------------------------------------------------------

    def _block(self, index: int, buffer: bytearray) -> None:
        try:
            digest = hashlib.sha256(buffer).digest()
            before = self._journal.sent.get(index)
            if before is None and self._parent.get(index) == digest:
                self._journal.same(index, digest)
            elif before == digest:
                self._journal.leave()
            else:
                self._put(index, buffer, digest)
                self._journal.put(index, digest)
        except EbspubError as error:
            self._halt(error)
            self._journal.leave()
        except Exception as error:  # a defect of ours: it ends this upload, and no other
            log.exception("%s: unexpected error in a put", self.order.job.id)
            self._halt(JobError(f"{self.order.job.id}: unexpected {type(error).__name__}: {error}", code="defect"))
            self._journal.leave()
        finally:
            self.give(buffer)
            self._places.release()

    def _put(self, index: int, buffer: bytearray, digest: bytes) -> None:
        order = self.order
        assert order.snapshot.resource_id is not None
        tries = 0
        while True:
            self._alive()
            while order.ledger.doubtful:  # another process may be about to take the job over
                self._pause(0.1)
            try:
                ebs.put(order.clients.ebs, order.snapshot.resource_id, index, buffer, digest)
            except AwsError as error:
                hidden = self._clock.now() < self._began + order.job.spec.limits.listing_lag
                if error.cause not in RETRYABLE or (error.cause is Cause.NOT_YET and not hidden):
                    raise
                tries += 1
                self._pause(random.uniform(0.5, 1.0) * min(_LONGEST, _PAUSE * 2.0 ** min(tries, 10)))  # noqa: S311
            else:
                return

    # Stopping -------------------------------------------------------------------------------------------------------

    def _halted(self) -> bool:
        return self._stop.is_set() or self._stopping()

    def _halt(self, error: EbspubError) -> None:
        """End the upload with the first error."""
        if self._error is None:
            self._error = error
        self._stop.set()

    def _alive(self) -> None:
        """Raise where the upload is to stop."""
        if self._halted():
            raise self._error or StoppedError(f"{self.order.job.id}: the upload was stopped")

    def _pause(self, seconds: float) -> None:
        """Wait, or raise where the upload is to stop."""
        left = seconds
        while left > 0:
            self._alive()
            self._stop.wait(min(left, 0.2))
            left -= 0.2
        self._alive()

    def _facts(self, sha256: str, content: str, *, moved: bool) -> dict[str, Any]:
        """Return what is told of the snapshot, and what sealing it takes."""
        sent, same = self._journal.sent, self._journal.unchanged
        held = {index: digest for index, digest in {**same, **sent}.items() if digest != ZERO_SHA256}
        # Of the source, not of the snapshot: whatever the volume's size, the digest of an image is the same.
        source = {index: digest for index, digest in {**held, **self._plain}.items() if digest != ZERO_SHA256}
        listed = b"".join(struct.pack(">Q32s", index, source[index]) for index in sorted(source))
        parent = self.order.snapshot.request.get("parent")
        return {
            "way": "direct",
            "content": content,
            "sha256": sha256,
            "digest": hashlib.sha256(listed).hexdigest(),
            "bytes": len(held) * ebs.SIZE,
            "size": self.order.job.spec.volume.size * 1024**3,
            "blocks": len(held),
            "blocks_sent": len(sent),
            "checksum": ebs.linear(sent),
            "gpt": "moved" if moved else "as it was",
            "upload_seconds": round(self._clock.now() - self._began, 3),
            **({"parent": parent} if parent else {}),
        }


def _apply(patches: Sequence[Patch], index: int, buffer: bytearray) -> None:
    """Write those parts of the patches into a block that lie in it."""
    start = index * ebs.SIZE
    for offset, data in patches:
        low, high = max(offset, start), min(offset + len(data), start + ebs.SIZE)
        if low < high:
            buffer[low - start : high - start] = data[low - offset : high - offset]
