"""The commands of the disk method's program. It works in the task's folder, and `disk.sh` calls it.

    pour DEVICE VIRTUALIZATION SHA256 TRIES PAUSE SECONDS <URL    the artefact's disk onto the volume
    convert DEVICE                                                where `pour` kept a container
    verify DEVICE                                                 what is on the volume against what came in
    relocate DEVICE                                               the GPT's backup to the volume's end
    layout DEVICE                                                 print TABLE NUMBER START SECTORS ROOM

Files in the folder: ``found`` (facts, key=value), ``refused`` (code and message, where the exit status is 3),
``counted`` (done and total), ``reach`` (how far anything was ever written), ``poured`` (what later commands need).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

from ebspub.populate.imaging import qemu, table
from ebspub.populate.imaging.artefact import Artefact, ChangedError, Local, Refusal, Web
from ebspub.populate.imaging.streams import Decoder, Inflater, Member, Stream, decoder
from ebspub.populate.imaging.volume import BLOCK, Pouring, Volume, digest
from ebspub.source import formats

#: Refusals that may come from bytes that are not those that were published.
_DOUBTFUL: Final = ("bad-image", "too-small", "builder")
_KEPT: Final = "image"


class _Progress:
    """Says in a file, once a second, how far the work is."""

    def __init__(self, total: int = 0) -> None:
        self.done, self.total = 0, total
        self._ask: Callable[[], tuple[int, int]] = lambda: (self.done, self.total)
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def follow(self, artefact: Artefact) -> None:
        """From now on, say how much of an artefact was read."""
        self._ask = lambda: (artefact.done, artefact.total)

    def count(self, done: int) -> None:
        """``done`` bytes are done."""
        self.done = done

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            _save("counted", "{} {}\n".format(*self._ask()))


def _save(name: str, text: str) -> None:
    with open(f"{name}.new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{name}.new", name)  # noqa: PTH105 - plain names in the working folder


def _load(name: str) -> str:
    try:
        with open(name, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _facts(**facts: object) -> None:
    with open("found", "a", encoding="utf-8") as file:
        file.writelines(f"{key}={value}\n" for key, value in facts.items())


def _clean(volume: Volume, progress: _Progress) -> None:
    """Take from the volume what an earlier start has written."""
    reach = int(_load("reach") or 0)
    if reach:
        progress.total = min(reach, volume.size)
        volume.scour(reach, progress.count)
        volume.flush()


class _Pour:
    """One try to write what an artefact holds."""

    def __init__(self, volume: Volume, artefact: Artefact, virtualization: str, sha256: str) -> None:
        self._volume = volume
        self._artefact = artefact
        self._virtualization = virtualization
        self._wanted = sha256
        self._decoder: Decoder | Inflater | None = None

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
            stream = Stream(Member(stream))
            content = formats.kind(stream.head(formats.LOOK))
        why = formats.refusal("disk", self._virtualization, formats.Format(compression, archive, content))
        if why or content not in ("disk", "filesystem", *formats.CONTAINERS):
            raise Refusal("bad-image", why or "the artefact holds nothing that is known as a disk")
        if content in formats.CONTAINERS:
            qemu.require()
            qemu.keep(stream, _KEPT, 16 * self._volume.size)
            return {"content": content}
        pouring = Pouring(self._volume, lambda reach: _save("reach", str(reach)))
        pouring.pour(stream)
        blocks = {str(index): each.hex() for index, each in pouring.found.items()}
        return {"content": content, "size": pouring.size, "bytes": pouring.written, "blocks": blocks}


def _pour(device: str, virtualization: str, sha256: str, tries: str, pause: str, seconds: str) -> None:
    url = sys.stdin.readline().strip()
    volume, progress = Volume(device), _Progress()
    most = 16 * volume.size
    for last in (False, True):
        _clean(volume, progress)
        artefact: Artefact = (
            Web(url, most, tries=int(tries), pause=float(pause), seconds=float(seconds))
            if url
            else Local("artefact", most)
        )
        progress.follow(artefact)
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
    _save("poured", json.dumps(found))
    _facts(sha256=found["sha256"], content=found["content"])


def _convert(device: str) -> None:
    poured = json.loads(_load("poured"))
    volume = Volume(device)
    fresh = not int(_load("reach") or 0)
    _clean(volume, _Progress())
    _save("reach", str(volume.size))
    size, indexes = qemu.convert(_KEPT, poured["content"], device, volume.size, fresh=fresh)
    _save("poured", json.dumps({**poured, "size": size, "indexes": indexes}))


def _verify(device: str) -> None:
    poured = json.loads(_load("poured"))
    volume, progress = Volume(device), _Progress()
    volume.flush()
    wanted = {int(index): bytes.fromhex(each) for index, each in poured.get("blocks", {}).items()}
    indexes = poured.get("indexes", sorted(wanted))
    progress.total = len(indexes) * BLOCK
    found = volume.digests(indexes, progress.count)
    if "indexes" in poured:
        qemu.compare(_KEPT, poured["content"], device, poured["size"])
    elif found != wanted:
        wrong = sorted(index for index in wanted if found.get(index) != wanted[index])
        raise Refusal("verify", f"{len(wrong)} blocks are not what was written, the first at byte {wrong[0] * BLOCK}")
    _facts(
        digest=digest(found),
        blocks=len(found),
        bytes=poured.get("bytes", len(found) * BLOCK),
        image_size=poured["size"],
        size=volume.size,
    )


def _relocate(device: str) -> None:
    volume = Volume(device)
    _save("reach", str(volume.size))  # from here on, anything may be written anywhere
    moved = table.relocate(volume, json.loads(_load("poured"))["size"])
    _facts(table=table.layout(volume).table, moved="yes" if moved else "no")


def _layout(device: str) -> None:
    found = table.layout(Volume(device))
    room = "yes" if found.room else "no"
    sys.stdout.write(f"{found.table} {found.number} {found.start} {found.sectors} {room}\n")


_COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "pour": _pour,
    "convert": _convert,
    "verify": _verify,
    "relocate": _relocate,
    "layout": _layout,
}


def main() -> None:
    """Do what the arguments say. Exit status 3: refused, and ``refused`` says why."""
    # The thread that reads takes the interpreter's lock back after every read: it would wait 5 ms for one that hashes.
    sys.setswitchinterval(0.0002)
    try:
        _COMMANDS[sys.argv[1]](*sys.argv[2:])
    except Refusal as error:
        _save("refused", f"{error.code} {error.message}\n")
        sys.exit(3)
    except OSError as error:
        _save("refused", f"io {error.strerror or type(error).__name__}\n")
        sys.exit(3)
