"""Is what booted the image that was published? Its own files say: suite by code name, serial by build.info."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ebspub.spec import JobSpec

#: What prints the files that say who an image is, those there are.
ASK = "for f in /etc/cloud/build.info /etc/lsb-release /etc/os-release; do [ ! -r $f ] || cat $f; echo; done"
_CODENAME = re.compile(r"^(?:DISTRIB_CODENAME|VERSION_CODENAME|UBUNTU_CODENAME)=[\"']?([^\"'\s]+)", re.MULTILINE)
_SERIAL = re.compile(r"^serial: *[\"']?([0-9][0-9.]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Identity:
    """What an instance says it is. ``fault``: why that is not the published build; empty where nothing speaks against.

    ``known``: code name and serial as far as it tells them, or `unknown`.
    """

    known: str
    fault: str = ""


def judge(told: str, spec: JobSpec) -> Identity:
    """Compare what :data:`ASK` printed with what was published."""
    names, serials = set(_CODENAME.findall(told)), set(_SERIAL.findall(told))
    known = " ".join([*sorted(names), *sorted(serials)]) or "unknown"
    for what, found, expected in (("suite", names, spec.suite), ("serial", serials, spec.serial)):
        if found - {expected}:
            return Identity(
                known, f"it says that its {what} is {', '.join(sorted(found))}, and {expected} was published"
            )
    return Identity(known)
