"""What is known of a suite besides its name: Ubuntu's releases; of any other only what its images say."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from types import MappingProxyType

from ebspub.feeds.catalog import Image


@dataclass(frozen=True, slots=True)
class Suite:
    """A release: ``title`` is `10.04 LTS`, ``codename`` `Lucid Lynx`; ``eol`` is None where it is not known."""

    name: str
    version: str
    title: str
    codename: str
    eol: date | None = None

    def supported(self, at: float) -> bool:
        """Whether it was supported at ``at``, in seconds since the epoch."""
        return self.eol is None or datetime.fromtimestamp(at, UTC).date() <= self.eol


@cache
def known() -> Mapping[str, Suite]:
    """Return Ubuntu's releases by name."""
    text = (resources.files(__package__) / "suites.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    found = {}
    for row in rows:
        name, title = row["suite"], row["version"]
        eol = date.fromisoformat(row["eol"])
        found[name] = Suite(name, title.removesuffix(" LTS"), title, row["codename"], eol)
    return MappingProxyType(found)


def of(image: Image) -> Suite:
    """Return what is known of the suite of ``image``: of another version than Ubuntu's only what the image says."""
    found = known().get(image.suite)
    if found is not None and image.version in ("", found.version):
        return found
    return Suite(image.suite, image.version, image.version or image.suite, image.suite.capitalize())


def versions(images: Iterable[Image]) -> dict[str, str]:
    """Return the version of every suite: those of ``images`` by what these say, Ubuntu's others as they are known."""
    told = {each.suite: each.version for each in images if each.version}
    return {name: suite.version for name, suite in known().items()} | told
