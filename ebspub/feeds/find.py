"""Which AMI do I launch: the newest serial of what is asked for, out of any list of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ebspub.feeds.catalog import Image, Stream, serial_key

#: The better one first, where an AMI is there in several kinds and nobody asked for one.
_VIRTUALIZATIONS = ("hvm", "paravirtual")
_ROOT_STORES = ("ebs-ssd", "ebs", "ebs-io1", "instance-store")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; an empty string is anything.

    ``suite`` is a name or a version (`lucid`, `10.04`), ``build`` is `server` unless said otherwise, ``label`` one
    within the stream (`beta2`), ``serial`` a certain one instead of the newest.
    """

    suite: str = ""
    arch: str = ""
    region: str = ""
    build: str = "server"
    stream: Stream = "released"
    label: str = ""
    serial: str = ""
    virtualization: str = ""
    root_store: str = ""

    def takes(self, image: Image) -> bool:
        """Whether an image is of what is asked for, newest or not."""
        return (
            self.suite in ("", image.suite, image.version)
            and self.arch in ("", image.arch)
            and self.region in ("", image.region)
            and self.build in ("", image.build)
            and self.stream == image.stream
            and self.label in ("", image.label)
            and self.serial in ("", image.serial)
            and self.virtualization in ("", image.virtualization)
            and self.root_store in ("", image.root_store)
        )


def find(images: Iterable[Image], wanted: Wanted) -> tuple[Image, ...]:
    """Return the newest AMI of each suite, build, arch and region that is wanted, newest suite first.

    Where one serial is there in several kinds, hvm comes before paravirtual and SSD before the others.
    """
    best: dict[tuple[str, str, str, str], Image] = {}
    for each in images:
        if not wanted.takes(each):
            continue
        where = (each.suite, each.build, each.arch, each.region)
        there = best.get(where)
        if there is None or _rank(each) > _rank(there):
            best[where] = each
    found = sorted(best.values(), key=lambda each: (each.suite, each.build, each.arch, each.region))
    return tuple(sorted(found, key=lambda each: _version_key(each.version), reverse=True))


def _rank(image: Image) -> tuple[tuple[int, int, str], int, int, str]:
    """Return what the best of several is the greatest of."""
    return (
        serial_key(image.serial),
        -_place(image.virtualization, _VIRTUALIZATIONS),
        -_place(image.root_store, _ROOT_STORES),
        image.ami,
    )


def _place(word: str, words: tuple[str, ...]) -> int:
    return words.index(word) if word in words else len(words)


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
