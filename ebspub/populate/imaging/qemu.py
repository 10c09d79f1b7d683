"""Disks in containers that need random access (qcow2, VMDK, VHD): turned into the volume's content by qemu-img."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from typing import Any, Final

from ebspub.populate.imaging.artefact import Refusal
from ebspub.populate.imaging.streams import Stream
from ebspub.populate.imaging.volume import BLOCK
from ebspub.source import formats

_PIECE: Final = 1024 * 1024
_FORBIDDEN: Final = ("backing-filename", "full-backing-filename")


def require() -> None:
    """Raise :class:`Refusal` where the builder has no qemu-img."""
    if shutil.which("qemu-img") is None:
        raise Refusal(
            "builder", "the builder has no qemu-img, which reads the artefact: install qemu-utils on its image"
        )


def keep(stream: Stream, path: str, most: int) -> int:
    """Copy a container to a file; return its bytes. Pages of zeros become holes."""
    piece = memoryview(bytearray(_PIECE))
    zeros = bytes(_PIECE)
    size = 0
    try:
        with open(path, "wb") as file:
            while count := stream.fill(piece):
                size += count
                if size > most:
                    raise Refusal("too-large", f"the artefact unpacks to more than {most} bytes, 16 times the volume")
                if piece[:count].tobytes() == zeros[:count]:
                    file.seek(count, os.SEEK_CUR)
                else:
                    file.write(piece[:count])
            file.truncate(size)
    except OSError as error:
        raise Refusal("disk-full", f"the artefact cannot be kept on the builder's disk: {error.strerror}") from error
    return size


def convert(path: str, content: str, device: str, volume: int, *, fresh: bool) -> tuple[int, list[int]]:
    """Write the disk in a container to ``device`` (``volume`` bytes); return its size and the blocks with data.

    ``fresh``: the device reads as zeros. The container must stand for itself: one that names other files of the builder
    would publish them.
    """
    kind = formats.CONTAINERS[content]
    info = json.loads(_qemu("info", "--output=json", "-f", kind, path))
    details = info.get("format-specific", {}).get("data", {})
    extents = details.get("extents", ())
    if any(info.get(key) for key in _FORBIDDEN) or details.get("data-file") or len(extents) > 1:
        raise Refusal("bad-image", f"the artefact ({content}) names other files beside itself")
    if info.get("encrypted"):
        raise Refusal("bad-image", f"the artefact ({content}) is encrypted")
    size = int(info["virtual-size"])
    if size > volume:
        raise Refusal("too-small", f"the volume has {volume} bytes, the disk {size}")
    mapped: list[dict[str, Any]] = json.loads(_qemu("map", "--output=json", "-f", kind, path))
    indexes: set[int] = set()
    for extent in mapped:
        if extent["data"] and not extent["zero"]:
            indexes.update(range(extent["start"] // BLOCK, -(-(extent["start"] + extent["length"]) // BLOCK)))
    known = fresh and "target-is-zero" in _qemu("--help")
    zero = ["--target-is-zero"] if known else []
    _qemu("convert", "-n", *zero, "-S", "4k", "-f", kind, "-O", "raw", path, device)
    return size, sorted(indexes)


def compare(path: str, content: str, device: str, size: int) -> None:
    """See that the first ``size`` bytes of ``device`` are the disk in the container, zeros and all."""
    block = stat.S_ISBLK(os.stat(device).st_mode)
    # A device is read as it is, past the cache, by large pieces: through the cache its holes take longer than its data.
    past: dict[str, Any] = {"cache": {"direct": True}} if block else {}
    file = {"driver": "host_device" if block else "file", "filename": device, **past}
    target = {"driver": "raw", "size": size, "file": file}
    source = {"driver": formats.CONTAINERS[content], "file": {"driver": "file", "filename": path}}
    words = [f"json:{json.dumps(each)}" for each in (source, target)]
    done = subprocess.run(["qemu-img", "compare", *words], capture_output=True, check=False)
    if done.returncode == 1:
        raise Refusal("verify", "the volume does not hold the disk that is in the artefact")
    if done.returncode:
        raise Refusal("io", f"the volume cannot be compared: {_last(done.stderr)}")


def _qemu(*words: str) -> str:
    done = subprocess.run(["qemu-img", *words], capture_output=True, check=False)
    if done.returncode:
        raise Refusal("bad-image", f"qemu-img {words[0]}: {_last(done.stderr)}")
    return done.stdout.decode("utf-8", "replace")


def _last(said: bytes) -> str:
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it did not say why"
