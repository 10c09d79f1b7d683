"""The yardsticks: what every way to fill a volume has to do, each by itself, and the specification's literal sequence.

What is written counts when it is on the device: each ends with fsync of the device, as the methods do. Caches are left
as they are, for all alike: artefacts are in memory after the first round.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.bench.artefacts import Artefacts
from tests.bench.meter import BenchError, Meter, Taken, device

#: Decoders of a form, to standard output; those that there are compete, and the fastest one counts.
_DECODERS: dict[str, tuple[tuple[str, ...], ...]] = {
    ".gz": (("igzip", "-dc"), ("pigz", "-dc"), ("gzip", "-dc")),
    ".xz": (("xz", "-dc", "-T0"), ("pixz", "-d", "-i")),
    ".zst": (("zstd", "-dcq"), ("pzstd", "-dcq")),
}
#: Those that are looked at only where the better ones are not there.
_LAST = {"gzip"}
#: ServerLucidEc2EBSRoot, "Implementation": download, mkfs, extract, mount, copy, sync; the copy by a pipe of two tars.
_LITERAL = """set -e
cd "$1"
curl -sSf -o artefact "$2"
mkfs.ext4 -q -F -L cloudimg-rootfs "$3"
tar -xzf artefact "$4"
mkdir source target
mount -o loop,ro "$4" source
mount "$3" target
tar -C source -cf - . | tar -C target -xpf -
sync -f target
umount target source
sync "$3"
"""
#: What one would type: no copy between the programs, holes left out, and nothing proved.
_PIPE = 'curl -sSf "$1" | {} | dd of="$2" bs=512k iflag=fullblock conv=sparse,notrunc status=none && sync "$2"'


class Parts:
    """Measures the parts. ``folder``: for devices and what is downloaded."""

    def __init__(self, meter: Meter, artefacts: Artefacts, url: str, folder: Path, volume: int) -> None:
        self._meter = meter
        self._artefacts = artefacts
        self._url = url
        self._folder = folder
        self._volume = volume

    def download(self, name: str) -> Taken:
        """The artefact from the server, to nowhere."""
        return self._meter.run("curl", "-sSf", "-o", "/dev/null", f"{self._url}/{name}")

    def decoders(self, name: str) -> list[str]:
        """Return the names of the decoders that this machine has for an artefact."""
        if name.endswith(".qcow2"):
            return ["qemu-img"]
        found = [each[0] for each in _DECODERS[Path(name).suffix] if shutil.which(each[0])]
        return [each for each in found if each not in _LAST] or found

    def decompress(self, name: str, decoder: str) -> Taken:
        """The artefact unpacked, to nowhere."""
        path = str(self._artefacts.path(name))
        if decoder == "qemu-img":
            size = self._artefacts.path(Artefacts.raw).stat().st_size
            options = f"driver=null-co,size={size},read-zeroes=on"
            return self._meter.run("qemu-img", "convert", "-n", "--target-image-opts", path, options)
        command = next(each for each in _DECODERS[Path(name).suffix] if each[0] == decoder)
        return self._meter.run("sh", "-c", f'exec {" ".join(command)} <"$0" >/dev/null', path)

    def write(self, way: str, pace: int = 0) -> Taken:
        """The allocated bytes of the whole disk onto a device: by qemu-img, or plainly copied; then fsync."""
        disk = str(self._artefacts.path(Artefacts.raw))
        with device(self._folder / "volume", self._volume, pace) as target:
            if way == "copy":
                words = [sys.executable, "-m", "tests.bench.copying", disk, str(target.path)]
            elif way == "qemu-img":
                flags = "-n --target-is-zero -S 4k -t writeback -f raw -O raw"
                words = ["sh", "-c", f'qemu-img convert {flags} "$0" "$1" && sync "$1"', disk, str(target.path)]
            else:
                raise BenchError(f"no way to write: {way}")
            taken = self._meter.run(*words, environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
            return Taken(taken.seconds, taken.cpu, target.written, target.allocated)

    def pipe(self, name: str) -> Taken:
        """The artefact onto a device by programs in a pipe: the server, the fastest decoder, dd; then fsync."""
        decoder = self.decoders(name)[0]
        words = " ".join(next(each for each in _DECODERS[Path(name).suffix] if each[0] == decoder))
        with device(self._folder / "volume", self._volume) as target:
            taken = self._meter.run("sh", "-c", _PIPE.format(words), "sh", f"{self._url}/{name}", str(target.path))
            return Taken(taken.seconds, taken.cpu, target.written, target.allocated)

    def literal(self) -> Taken:
        """The specification's sequence, word for word."""
        folder = self._folder / "literal"
        folder.mkdir()
        try:
            with device(self._folder / "volume", self._volume) as target:
                words = [f"{self._url}/{Artefacts.tarball}", str(target.path), Artefacts.member]
                # The mounts end with their namespace, whatever happens.
                taken = self._meter.run("unshare", "-m", "sh", "-c", _LITERAL, "sh", str(folder), *words)
                return Taken(taken.seconds, taken.cpu, target.written, target.allocated)
        finally:
            shutil.rmtree(folder)
