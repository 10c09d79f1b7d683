"""The artefact's disk onto the volume: downloaded, proved, decompressed and written in one go."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from ebspub.populate.imaging import container
from ebspub.populate.imaging.artefact import Artefact, ChangedError, Local, Web
from ebspub.populate.imaging.container import Container
from ebspub.populate.imaging.notes import Progress, facts, load, save
from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.streams import Decoder, Member, Stream, Unpacked, decoder
from ebspub.populate.imaging.volume import Pouring, Volume
from ebspub.source import formats

#: Refusals that may come from bytes that are not those that were published.
_DOUBTFUL: Final = ("bad-image", "too-small", "builder")
_KEPT: Final = "image"


def pour(device: str, virtualization: str, sha256: str, tries: str, pause: str, seconds: str) -> None:
    """Write the disk in the artefact, whose URL is the first line of stdin, to the volume."""
    url = sys.stdin.readline().strip()
    volume, progress = Volume(device), Progress()
    most = 16 * volume.size
    for last in (False, True):
        _clean(volume, progress)
        artefact: Artefact = (
            Web(url, most, tries=int(tries), pause=float(pause), seconds=float(seconds))
            if url
            else Local("artefact", most)
        )
        progress.follow(partial(_read_of, artefact))
        try:
            found = _Pour(volume, artefact, virtualization, sha256).run()
            break
        except ChangedError as error:
            if last:
                raise Refusal("download", "the server's file changes while it is downloaded") from error
        finally:
            artefact.close()
    else:
        raise AssertionError("unreachable: the last try returns or raises")
    if "blocks" not in found:
        found.update(_unpacked(volume, progress, virtualization, found))
    volume.flush()
    save("poured", json.dumps(found))
    facts(sha256=found["sha256"], content=found["content"])


def _read_of(artefact: Artefact) -> tuple[int, int]:
    return artefact.done, artefact.total


def _clean(volume: Volume, progress: Progress) -> None:
    """Take from the volume what an earlier start has written."""
    reach = int(load("reach") or 0)
    if reach:
        progress.total = min(reach, volume.size)
        volume.scour(reach, progress.count)
        volume.flush()


def _unpacked(volume: Volume, progress: Progress, virtualization: str, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Write the disk in the container that was kept, and return what was poured."""
    disk = Container(_KEPT, kept["content"], ".", volume.size)
    try:
        progress.follow(lambda: (disk.here, disk.size))
        stream = Stream(disk)
        compression, archive = kept["format"]
        _check(virtualization, formats.Format(compression, archive, formats.kind(stream.head(formats.LOOK))))
        return _written(volume, stream)
    finally:
        disk.close()


def _check(virtualization: str, found: formats.Format, *more: str) -> None:
    """Refuse what is neither a disk nor one of the contents ``more``."""
    why = formats.refusal("disk", virtualization, found)
    if why or found.content not in ("disk", "filesystem", *more):
        raise Refusal("bad-image", why or "the artefact holds nothing that is known as a disk")


def _written(volume: Volume, stream: Stream) -> dict[str, Any]:
    pouring = Pouring(volume, lambda reach: save("reach", str(reach)))
    pouring.pour(stream)
    blocks = {str(index): each.hex() for index, each in pouring.found.items()}
    return {"size": pouring.size, "bytes": pouring.written, "blocks": blocks}


class _Pour:
    """One try to write what an artefact holds."""

    def __init__(self, volume: Volume, artefact: Artefact, virtualization: str, sha256: str) -> None:
        self._volume = volume
        self._most = 16 * volume.size
        self._artefact = artefact
        self._virtualization = virtualization
        self._wanted = sha256
        self._decoder: Decoder | Unpacked | None = None

    def run(self) -> dict[str, Any]:
        """Return what was poured. Raises :class:`Refusal`, :class:`ChangedError`."""
        try:
            found = self._poured()
            found["sha256"] = self._artefact.sha256()
        except Refusal as error:
            self._stop()
            if error.code in _DOUBTFUL and self._wanted:
                self._prove(self._artefact.sha256())
            raise
        except ChangedError:
            self._stop()
            raise
        self._prove(found["sha256"])
        return found

    def _stop(self) -> None:
        if self._decoder is not None:
            self._decoder.stop()

    def _prove(self, sha256: str) -> None:
        if self._wanted and sha256 != self._wanted:
            if self._artefact.resumed:
                raise ChangedError  # halves of two versions do not match either
            raise Refusal("checksum", f"the artefact's SHA-256 is {sha256} instead of {self._wanted}")

    def _poured(self) -> dict[str, Any]:
        stream = Stream(self._artefact)
        compression = archive = ""
        content = formats.kind(stream.head(formats.LOOK))
        if content in formats.COMPRESSED:
            compression = content
            self._decoder = decoder(stream, content)
            stream = Stream(self._decoder)
            content = formats.kind(stream.head(formats.LOOK))
        if content == "tar":
            archive = content
            stream = Stream(Member(stream, self._most))
            content = formats.kind(stream.head(formats.LOOK))
        _check(self._virtualization, formats.Format(compression, archive, content), *formats.CONTAINERS)
        if content in formats.CONTAINERS:
            if program := container.missing():
                raise Refusal(
                    "builder",
                    f"the builder has no {program}, which reads the artefact: install qemu-utils on its image",
                )
            container.keep(stream, _KEPT, self._most)
            return {"content": content, "format": (compression, archive)}
        return {"content": content, **_written(self._volume, stream)}
