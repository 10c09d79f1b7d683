"""One build in one region for one arch: the layers of the file become a :class:`JobSpec`, or a list of problems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ebspub.config import rules, templates
from ebspub.config.layers import Layers
from ebspub.config.model import Build, Config, PerArch, RegionTable
from ebspub.config.problems import from_validation, quoted
from ebspub.config.regions import partitions
from ebspub.spec import EC2_ARCHITECTURE, Arch, JobSpec

#: EC2 takes 50 tags a resource; these are left for the tool's own.
MAX_TAGS = 40
#: Client tokens have 64 ASCII characters at most, and a job's id is the readable part of everything we name.
MAX_JOB_ID = 64
#: The network of a temporary security group that is never made, because groups are given: nobody's.
_NOBODY = "127.0.0.1/32"
_DEFAULT_TYPES: Mapping[str, tuple[str, ...]] = {"amd64": ("t3.medium",), "arm64": ("t4g.medium",)}
#: Seconds; more where the launch limit is more.
_DEAD_MAN = 1800
#: Files are copied, not run: an i386 image is populated on an amd64 builder where there is none for i386.
_BUILDER_ARCHES: Mapping[str, tuple[str, ...]] = {"i386": ("i386", "amd64")}


@dataclass
class Cell:
    """Where a build, a region and an arch meet; ``problems`` collects what is wrong there."""

    config: Config
    index: int
    region: str
    arch: Arch
    serial: str
    problems: list[str] = field(default_factory=list)

    @property
    def build(self) -> Build:
        return self.config.builds[self.index]

    @property
    def here(self) -> str:
        """The build's path in the file."""
        return f"builds[{self.index}]"

    @property
    def regional(self) -> RegionTable:
        """The region's table; an empty one where the file has none."""
        return self.config.regions.get(self.region) or RegionTable()

    def layers(self, key: str) -> Layers:
        """Return the tables of ``key``: defaults, region, build."""
        return Layers(
            (key, getattr(self.config, key)),
            (f"regions.{self.region}.{key}", getattr(self.regional, key)),
            (f"{self.here}.{key}", getattr(self.build, key)),
        )

    def values(self) -> dict[str, str]:
        """Return the values of the templates' fields."""
        return {
            "suite": self.build.suite,
            "build": self.build.build,
            "label": self.build.label,
            "serial": self.serial,
            "version": self.build.version,
            "arch": self.arch,
            "region": self.region,
            "date": templates.serial_date(self.serial).isoformat(),
        }

    def fault(self, path: str, message: str) -> None:
        """Remember a problem."""
        self.problems.append(f"{path}: {message}")

    def __str__(self) -> str:
        return f"{self.build.suite} {self.build.build} {self.arch} in {self.region}"


def _source(cell: Cell) -> dict[str, Any]:
    path, table = f"{cell.here}.source", cell.build.source
    mine = getattr(table, cell.arch)
    layers = Layers((path, table), (f"{path}.{cell.arch}", mine))
    url, sums, sha256 = layers.get("url"), layers.get("sha256sums"), layers.get("sha256")
    if url is None:
        cell.fault(f"{path}.url", f"missing, expected the URL of the artefact of {cell.arch}")
        return {}
    used = templates.fields(url)
    if sha256 is not None and used & {"serial", "date"} and cell.serial != cell.build.serial:
        # The checksum in the file is that of the file's serial.
        sha256 = None
        if sums is None:
            cell.fault(f"{path}.sha256sums", "missing, expected a URL: a sha256 in the file is not that of --serial")
            return {}
    shared = sha256 is not None and (mine is None or mine.sha256 is None) and len(cell.build.arches) > 1
    if shared and ("arch" in used or (mine is not None and mine.url is not None)):
        cell.fault(f"{path}.sha256", f"one checksum for several artefacts, expected one in {path}.<arch> for each")
    if sha256 is None and sums is None:
        cell.fault(path, f"nothing proves the artefact of {cell.arch}, expected sha256sums (a URL) or sha256")
    values = cell.values()
    return {
        "url": templates.expand(url, values),
        "sha256": sha256,
        "sums_url": templates.expand(sums, values) if sums is not None else None,
    }


def _builder(cell: Cell) -> dict[str, Any]:
    layers = cell.layers("builder")
    arches = _BUILDER_ARCHES.get(cell.arch, (cell.arch,))
    image = layers.get_arch("images", *arches)
    if image is None:
        wanted = f"regions.{cell.region}.builder.images.{arches[-1]}"
        cell.fault(wanted, f"missing, expected an AMI id or ssm:/parameter/name; {cell.here} needs this builder image")
    instance_types = layers.get_arch("instance_types", *arches) or _DEFAULT_TYPES[arches[-1]]
    groups, cidr = layers.get("security_groups", ()), layers.get("ssh_cidr")
    if cidr is None and not groups:
        cell.fault(
            "builder.ssh_cidr",
            "missing, expected the IPv4 network from which the publisher connects, or security_groups",
        )
    place = layers.of_uppermost("zones", "subnets")
    if place.get("zones") and place.get("subnets"):
        cell.fault(layers.where("zones"), "found zones and subnets, expected one of the two (a subnet has its zone)")
    for zone in place.get("zones", ()):
        if not zone.startswith(cell.region) and cell.region in partitions():
            cell.fault(layers.where("zones"), f"found {quoted(zone)}, expected a zone of {cell.region}")
    plain = ("ssh_user", "ssh_port", "address", "root_size", "instance_profile")
    return {
        "image": image or "",
        "instance_types": instance_types,
        "security_groups": groups,
        "ssh_cidr": cidr or _NOBODY,
        "dead_man": _dead_man(cell, layers),
        **place,
        **{key: layers.get(key) for key in plain if layers.get(key) is not None},
    }


def _dead_man(cell: Cell, layers: Layers) -> int:
    """Return for how long a builder waits for a publisher: longer than any publisher keeps it waiting.

    Nobody can reach it before it answers SSH, for which it has the launch limit; then each look at EC2 reaches it, too.
    """
    launch, looks = cell.config.limits.launch, 3 * cell.config.engine.poll_interval
    least = math.ceil(max(launch, looks))
    found: int | None = layers.get("dead_man")
    if found is None:
        return max(least, _DEAD_MAN)
    if found < least:
        what = "limits.launch" if launch >= looks else "three times engine.poll_interval"
        cell.fault(layers.where("dead_man"), f"found {found}, expected at least {what} ({least} s)")
    return found


def _volume(cell: Cell) -> dict[str, Any]:
    layers = cell.layers("volume")
    return {
        "size": layers.get("size", 8),
        "type": layers.get("type", "gp3"),
        **layers.following("type", "iops", "throughput"),
    }


def _boot_image(cell: Cell, key: str, virtualization: str) -> str | None:
    """Return the kernel or ramdisk id. Those of a region are for its paravirtual images; those of a build are meant."""
    own: PerArch[str] | None = (getattr(cell.build, key) or {}).get(cell.region)
    mine = own.of(cell.arch) if own else None
    if virtualization != "paravirtual":
        if mine is not None:
            cell.fault(f"{cell.here}.{key}.{cell.region}.{cell.arch}", "found an id, expected none for hvm images")
        return None
    regional: PerArch[str] | None = getattr(cell.regional, key)
    found = mine or (regional.of(cell.arch) if regional else None)
    if found is None and key == "kernel_ids":
        cell.fault(
            f"regions.{cell.region}.{key}.{cell.arch}",
            f"missing, expected a kernel id (aki-...): {cell.here} is paravirtual",
        )
    return found


def _text(cell: Cell, key: str, default: str) -> str:
    return templates.expand(getattr(cell.build, key) or default, cell.values())


def _name(cell: Cell, default: str) -> str:
    name = _text(cell, "name", default)
    expected = rules.name_fault(name)
    if expected:
        cell.fault(f"{cell.here}.name", f"gives {quoted(name)}, expected {expected}")
    if cell.build.serial is None and cell.build.name and "serial" not in templates.fields(cell.build.name):
        cell.fault(
            f"{cell.here}.name",
            f"found {quoted(cell.build.name)}, expected {{serial}} in it: the serial comes from the command line",
        )
    return name


def _description(cell: Cell) -> str:
    text = _text(cell, "description", rules.default_description(cell.build.version))
    if len(text) > 255:
        cell.fault(f"{cell.here}.description", f"gives {len(text)} characters, expected at most 255")
    return text


def _registration(cell: Cell, volume: Mapping[str, Any]) -> dict[str, Any]:
    default, own = cell.config.registration, cell.build.registration
    layers = Layers(
        ("registration", default),
        (f"registration.{cell.arch}", getattr(default, cell.arch)),
        (f"{cell.here}.registration", own),
        (f"{cell.here}.registration.{cell.arch}", getattr(own, cell.arch) if own else None),
    )
    virtualization = layers.get("virtualization", "hvm")
    hvm = virtualization == "hvm"
    volume_type = layers.get("volume_type", volume["type"])
    found: dict[str, Any] = {
        "virtualization": virtualization,
        "volume_type": volume_type,
        "root_device": layers.get("root_device", "/dev/sda1"),
        "ephemeral": layers.get("ephemeral", rules.default_ephemeral(cell.arch, virtualization)),
        "ena": layers.get("ena", hvm),
        "sriov": layers.get("sriov", hvm),
        "boot_mode": layers.get("boot_mode", "uefi" if cell.arch == "arm64" and hvm else None),
        "imds": layers.get("imds"),
    }
    for key, message in rules.registration_faults(cell.arch, found):
        cell.fault(layers.where(key), f"{message} ({cell.here}, {cell.arch})")
    for key, message in rules.volume_faults(volume, volume_type):
        cell.fault(cell.layers("volume").where(key), f"{message} ({cell.here})")
    return {
        **found,
        "ephemeral": tuple((device, name) for name, device in found["ephemeral"].items()),
        "architecture": EC2_ARCHITECTURE[cell.arch],
        "kernel_id": _boot_image(cell, "kernel_ids", virtualization),
        "ramdisk_id": _boot_image(cell, "ramdisk_ids", virtualization),
        "name": _name(cell, rules.default_name(virtualization, volume_type)),
        "description": _description(cell),
    }


def _tags(cell: Cell) -> dict[str, str]:
    tags = {**cell.config.tags, **(cell.regional.tags or {}), **(cell.build.tags or {})}
    if len(tags) > MAX_TAGS:
        cell.fault(f"{cell.here}.tags", f"found {len(tags)} tags in all, expected at most {MAX_TAGS}")
    return tags


def expand(cell: Cell) -> JobSpec | None:
    """Return the job of ``cell``; None, and ``cell.problems`` says why, where the file does not describe one."""
    volume = _volume(cell)
    document = {
        "suite": cell.build.suite,
        "build": cell.build.build,
        "label": cell.build.label,
        "serial": cell.serial,
        "version": cell.build.version,
        "arch": cell.arch,
        "region": cell.region,
        "source": _source(cell),
        "builder": _builder(cell),
        "volume": volume,
        "registration": _registration(cell, volume),
        "method": cell.build.method,
        "tags": _tags(cell),
        "limits": cell.config.limits.document(),
    }
    if cell.problems:
        return None
    try:
        spec = JobSpec.model_validate(document)
    except ValidationError as error:
        # The tables above refuse what the document refuses; should they ever differ, it is still told, not thrown.
        cell.problems += [f"{cell.here}: {line}" for line in from_validation(JobSpec, error)]
        return None
    if len(spec.job_id) > MAX_JOB_ID:
        too_long = f"the job {spec.job_id} has an id of {len(spec.job_id)} characters, expected at most {MAX_JOB_ID}"
        cell.fault(cell.here, f"{too_long}; shorten suite or build")
        return None
    return spec
