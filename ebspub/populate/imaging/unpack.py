"""The one image in the file `artefact` as the sparse file `image`, for the filesystem method.

Several times as fast as programs and pipes, through which an image's zeros would go as well. Only what is beyond doubt
is taken: a sound artefact that is an image, compressed or not, or an archive that holds one and nothing of a system's
tree. Of anything else `extract.sh` finds out what it is and says so.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ebspub.populate.imaging.artefact import ChangedError
from ebspub.populate.imaging.notes import Progress
from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.streams import Decoder, Member, Stream, Unpacked, decoder
from ebspub.populate.imaging.volume import BLOCK, runs
from ebspub.source import formats

if TYPE_CHECKING:
    import tarfile

_ZEROS: Final = bytes(BLOCK)
#: Names in the archive of a whole system.
_SYSTEM: Final = re.compile(r"(\./|/)?(usr|lib|boot|etc|var)(/|$)")


class DoubtError(Exception):
    """It is to be looked at in full."""


def unpack(most: str) -> None:
    """Write `image`, of at most ``most`` bytes. Raises :class:`DoubtError`, and leaves none, where it is not sure."""
    progress = Progress()
    engine: Decoder | Unpacked | None = None
    try:
        with open("artefact", "rb", buffering=0) as file, open("image", "wb", buffering=0) as image:
            source = _File(file.fileno())
            stream = Stream(source)
            content = formats.kind(stream.head(formats.LOOK))
            if content in formats.COMPRESSED:
                engine = decoder(stream, content)
                stream = Stream(engine)
                content = formats.kind(stream.head(formats.LOOK))
            if content == "tar":
                stream = Stream(_Only(stream, int(most)))
            progress.follow(lambda: (source.done, os.fstat(file.fileno()).st_size))
            _write(stream, image.fileno(), int(most))
            engine = None
    except (Refusal, ChangedError, OSError) as error:
        with suppress(FileNotFoundError):
            os.unlink("image")  # noqa: PTH108 - a plain name in the working folder
        raise DoubtError from error
    finally:
        if engine is not None:
            engine.stop()


def _write(stream: Stream, number: int, most: int) -> None:
    """Write what has data; what is zeros becomes holes."""
    block = bytearray(BLOCK)
    size = 0
    with memoryview(block) as view:
        count = BLOCK
        while count == BLOCK:  # behind its end a stream is not asked again
            count = stream.fill(view)
            if size + count > most:
                raise Refusal("too-large", "more than there may be")
            if count < BLOCK:
                view[count:] = bytes(BLOCK - count)
            if not block.startswith(_ZEROS):
                for start, end in runs(view):
                    _put(number, view[start : min(end, count)], size + start)
            size += count
    os.ftruncate(number, size)


def _put(number: int, left: memoryview, at: int) -> None:
    while left:
        count = os.pwrite(number, left, at)
        left, at = left[count:], at + count


class _File:
    """A file as bytes in order, counted."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.done = 0

    def readinto(self, view: memoryview) -> int:
        """Take up to ``len(view)`` bytes."""
        count = os.readv(self._number, [view])
        self.done += count
        return count


class _Only(Member):
    """The image in an archive of nothing that may be taken for a system's tree."""

    def _next(self) -> tarfile.TarInfo | None:
        while (member := self._tar.next()) is not None:
            if _SYSTEM.match(member.name):
                raise Refusal("bad-image", "it may be a system's tree")
            if member.name.endswith(".img"):
                if ".." in member.name.split("/"):
                    raise Refusal("bad-image", "its image's name leads upwards")
                if not member.isreg():
                    raise Refusal("bad-image", "its image is no file")
                return member
        return None
