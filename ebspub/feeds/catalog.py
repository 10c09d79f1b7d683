"""The catalogue: every published AMI as one frozen value, and what others published beside it.

The words are those of Ubuntu's query interface (``amd64``, ``ebs-ssd``, ``paravirtual``). An absent kernel, ramdisk or
name is an empty string, an unknown time is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

Stream = Literal["released", "daily"]
STREAMS: tuple[Stream, ...] = ("released", "daily")
#: What query data calls the root of an AMI whose root volume has this type. The format knows `instance-store`, `ebs`,
#: `ebs-ssd` and `ebs-io1`, and readers compare: who asks for `ebs-ssd` would not find a word of its own for gp3, an SSD
#: as gp2 is, nor would item keys of simplestreams have letters for it. The type itself is in images.json.
ROOT_STORE: Mapping[str, str] = MappingProxyType(
    {
        "standard": "ebs",
        "gp2": "ebs-ssd",
        "gp3": "ebs-ssd",
        "io1": "ebs-io1",
        "io2": "ebs-io1",
    }
)
_SERIAL = re.compile(r"([0-9]{8})(?:\.([0-9]{1,9}))?")
#: A serial in an order: those that are none come first, by themselves.
SerialKey = tuple[int, int, str]


@lru_cache(maxsize=4096)
def serial_key(serial: str) -> SerialKey:
    """Return what serials are ordered by: `20100427.10` is newer than `20100427.9`, and that than `20100427`."""
    found = _SERIAL.fullmatch(serial)
    return (int(found[1]), int(found[2] or 0), serial) if found else (0, 0, serial)


def stream_of(label: str) -> Stream:
    """Return the stream in which a label is published: dailies by themselves, milestones and releases together."""
    return "daily" if label == "daily" else "released"


@dataclass(frozen=True, slots=True)
class Image:
    """One AMI. ``created`` and ``released`` are seconds since the epoch (UTC): registered, and published."""

    suite: str
    build: str
    label: str
    serial: str
    arch: str
    region: str
    ami: str
    root_store: str = "ebs-ssd"
    virtualization: str = "hvm"
    aki: str = ""
    ari: str = ""
    version: str = ""
    snapshot: str = ""
    name: str = ""
    description: str = ""
    boot_mode: str = ""
    volume_type: str = ""
    partition: str = ""
    created: float | None = None
    released: float | None = None

    @property
    def stream(self) -> Stream:
        """The stream in which it is published."""
        return stream_of(self.label)

    @property
    def place(self) -> tuple[str, str]:
        """What names the AMI: its region and its id."""
        return self.region, self.ami

    @property
    def order(self) -> tuple[str, str, str, str]:
        """The order of rows within a serial: region, root store, arch, virtualization."""
        return self.region, self.root_store, self.arch, self.virtualization

    @property
    def key(self) -> tuple[str, ...]:
        """What there may be but one AMI of."""
        return self.suite, self.build, self.serial, *self.order

    @property
    def at(self) -> float | None:
        """When it was published; when it was registered, where that is not known."""
        return self.created if self.released is None else self.released


@dataclass(frozen=True, slots=True)
class Download:
    """A published artefact: ``path`` below the mirror's root, and the name that is suggested for an image of it."""

    suite: str
    build: str
    label: str
    serial: str
    arch: str
    path: str
    name: str

    @property
    def stream(self) -> Stream:
        """The stream in which it is published."""
        return stream_of(self.label)

    @property
    def key(self) -> tuple[str, ...]:
        """What there may be but one artefact of."""
        return self.suite, self.build, self.serial, self.arch


def _no_files() -> Mapping[str, bytes]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything that is published.

    ``images`` are ours, made of ``downloads``. ``withdrawn`` are ours, too, but must not be named any more, nor their
    artefacts, ``gone``; ``released`` of a withdrawn one is when it was withdrawn. ``kept`` are files of query data that
    others wrote, or earlier versions of ours, by path; ``others`` are the AMIs in them that are not ours
    (:func:`ebspub.feeds.query.keep` fills both).
    """

    images: tuple[Image, ...] = ()
    downloads: tuple[Download, ...] = ()
    others: tuple[Image, ...] = ()
    kept: Mapping[str, bytes] = field(default_factory=_no_files)
    withdrawn: tuple[Image, ...] = ()
    gone: tuple[Download, ...] = ()

    @classmethod
    def of(cls, images: Iterable[Image], downloads: Iterable[Download] = ()) -> Catalog:
        """Return the catalogue of ``images``. Raises ValueError for two AMIs of the same."""
        mine = _sorted(images)
        twice = {each.key for each, other in pairwise(mine) if each.order == other.order and each.key == other.key}
        if twice:
            raise ValueError(f"two AMIs of {', '.join('/'.join(key) for key in sorted(twice))}")
        files = tuple(sorted(downloads, key=lambda each: (each.key[:2], serial_key(each.serial), each.arch)))
        return cls(mine, files)

    def withdraw(self, images: Iterable[Image]) -> Catalog:
        """Return the catalogue without ``images``, and without the artefacts of which nothing else was made."""
        bad = {each.place: each for each in (*self.withdrawn, *images)}
        good = tuple(each for each in self.images if each.place not in bad)
        made = {(each.suite, each.build, each.serial, each.arch) for each in good}
        return replace(
            self,
            images=good,
            downloads=tuple(each for each in self.downloads if each.key in made),
            others=tuple(each for each in self.others if each.place not in bad),
            withdrawn=tuple(bad[place] for place in sorted(bad)),
            gone=(*self.gone, *(each for each in self.downloads if each.key not in made)),
        )

    @property
    def every(self) -> tuple[Image, ...]:
        """Every AMI, ours and those of others, in order."""
        return _sorted((*self.images, *self.others)) if self.others else self.images

    @property
    def changed(self) -> float:
        """When anything of ours was last published or withdrawn, in seconds since the epoch; 0 where nothing was."""
        return changed(*self.images, *self.withdrawn)

    @property
    def published(self) -> tuple[str, ...]:
        """The suites of which we publish anything, sorted."""
        return tuple(sorted({each.suite for each in self.images}))


def _sorted(images: Iterable[Image]) -> tuple[Image, ...]:
    return tuple(sorted(images, key=lambda each: (each.suite, each.build, serial_key(each.serial), each.order)))


def changed(*images: Image) -> float:
    """Return the latest time of ``images``; 0 where none has one."""
    return max((each.at or 0.0 for each in images), default=0.0)


def newest(images: Iterable[Image]) -> tuple[Image, ...]:
    """Return those of the newest serial of each suite, build and stream."""
    held: dict[tuple[str, str, str], list[Image]] = {}
    for each in images:
        there = held.setdefault((each.suite, each.build, each.stream), [])
        if there and serial_key(each.serial) > serial_key(there[0].serial):
            there.clear()
        if not there or each.serial == there[0].serial:
            there.append(each)
    return tuple(image for group in held.values() for image in group)
