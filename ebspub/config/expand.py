"""One build in one region for one arch: the layers of the file become a :class:`JobSpec`, or a list of problems."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ebspub.config import fanout, rules, sources, templates
from ebspub.config.cell import Cell
from ebspub.config.layers import Layers
from ebspub.config.model import PerArch
from ebspub.config.problems import from_validation, quoted
from ebspub.config.regions import partitions
from ebspub.spec import EC2_ARCHITECTURE, JobSpec

#: EC2 takes 50 tags a resource; these are left for the tool's own.
MAX_TAGS = 40
#: Client tokens have 64 ASCII characters at most, and a job's id is the readable part of everything we name.
MAX_JOB_ID = 64
#: RegisterImage: "UefiData: Length Constraints: Maximum length of 64000", in Base64.
MAX_UEFI_DATA = 64000
#: The network of a temporary security group that is never made, because groups are given: nobody's.
_NOBODY = "127.0.0.1/32"
_DEFAULT_TYPES: Mapping[str, tuple[str, ...]] = {"amd64": ("t3.medium",), "arm64": ("t4g.medium",)}
#: Seconds; more where the launch limit is more.
_DEAD_MAN = 1800
#: Files are copied, not run: an i386 image is populated on an amd64 builder where there is none for i386.
_BUILDER_ARCHES: Mapping[str, tuple[str, ...]] = {"i386": ("i386", "amd64")}

#: Keys that only one method has a use for.
_OF_METHOD: Mapping[str, str] = {"grow": "disk", "parent": "direct"}
#: Whose builder image jobs that share one take, where any arch's will do: the first that is configured.
_COMMON_ARCHES = ("amd64", "arm64", "i386")

#: What stands in the document of a job that launches none.
_NO_BUILDER: Mapping[str, Any] = {"image": "", "instance_types": ("none",), "ssh_cidr": _NOBODY}


def _may_need_builder(cell: Cell) -> bool:
    return cell.build.method != "direct" and not fanout.surely_copies(cell)


def _builder_arches(cell: Cell, layers: Layers) -> tuple[str, ...]:
    """Return the arches whose builder image will do, the best first.

    Of a shared builder the first in one order for all jobs, where it only copies: what it fills is then the same for
    all arches of a region. A boot loader is installed by the image's own programs, which its own arch must run.
    """
    own = _BUILDER_ARCHES.get(cell.arch, (cell.arch,))
    virtualization = _registration_layers(cell).get("virtualization", "hvm")
    copies = cell.build.method == "disk" or virtualization == "paravirtual"
    if not (layers.get("shared", False) and copies):
        return own
    common = next((arch for arch in _COMMON_ARCHES if layers.get_arch("images", arch) is not None), None)
    return own if common is None else _BUILDER_ARCHES.get(common, (common,))


def _builder(cell: Cell) -> dict[str, Any]:
    layers = cell.layers("builder")
    arches = _builder_arches(cell, layers)
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
    plain = ("ssh_user", "ssh_port", "address", "root_size", "instance_profile", "http_proxy", "shared")
    return {
        "image": image or "",
        "instance_types": instance_types,
        "security_groups": groups,
        "ssh_cidr": cidr or _NOBODY,
        "dead_man": _dead_man(cell, layers),
        **place,
        **{key: layers.get(key) for key in plain if layers.get(key) not in (None, "")},
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
        "encrypted": layers.get("encrypted", False),
        **layers.following("encrypted", "kms_key"),
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
    if cell.build.fixed_serial is None and cell.build.name and "serial" not in templates.fields(cell.build.name):
        cell.fault(
            f"{cell.here}.name",
            f"found {quoted(cell.build.name)}, expected {{serial}} in it: its serial is not in the file",
        )
    return name


def _description(cell: Cell) -> str:
    text = _text(cell, "description", rules.default_description(cell.build.version))
    if len(text) > 255:
        cell.fault(f"{cell.here}.description", f"gives {len(text)} characters, expected at most 255")
    return text


def _registration_layers(cell: Cell) -> Layers:
    default, own = cell.config.registration, cell.build.registration
    return Layers(
        ("registration", default),
        (f"registration.{cell.arch}", getattr(default, cell.arch)),
        (f"{cell.here}.registration", own),
        (f"{cell.here}.registration.{cell.arch}", getattr(own, cell.arch) if own else None),
    )


def _registration(cell: Cell, volume: Mapping[str, Any]) -> dict[str, Any]:
    layers = _registration_layers(cell)
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
        "tpm": layers.get("tpm"),
        "uefi_data": layers.get("uefi_data"),
    }
    for key, message in rules.registration_faults(cell.arch, cell.build.method, found):
        cell.fault(layers.where(key), f"{message} ({cell.here}, {cell.arch})")
    volume_faults = (
        *rules.volume_faults(volume, volume_type),
        *rules.key_faults(volume, cell.region, cell.build.method),
    )
    for key, message in volume_faults:
        cell.fault(cell.layers("volume").where(key), f"{message} ({cell.here})")
    return {
        **found,
        "uefi_data": _uefi_data(cell, layers),
        "ephemeral": tuple((device, name) for name, device in found["ephemeral"].items()),
        "architecture": EC2_ARCHITECTURE[cell.arch],
        "kernel_id": _boot_image(cell, "kernel_ids", virtualization),
        "ramdisk_id": _boot_image(cell, "ramdisk_ids", virtualization),
        "name": _name(cell, rules.default_name(virtualization, volume_type)),
        "description": _description(cell),
    }


def _uefi_data(cell: Cell, layers: Layers) -> str | None:
    """Return the UEFI variable store in Base64: what tools for EC2 write is so already, a bare one is encoded."""
    named = layers.get("uefi_data")
    if named is None:
        return None
    file = Path(sources.beside(cell.config, named))
    try:
        with file.open("rb") as opened:
            held = opened.read(MAX_UEFI_DATA + 1024)
    except OSError as error:
        cell.fault(layers.where("uefi_data"), f"{quoted(str(file))} cannot be read: {error.strerror}")
        return None
    text = b"".join(held.split())
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        text = base64.b64encode(held)
    if not 0 < len(text) <= MAX_UEFI_DATA:
        expected = f"1 to {MAX_UEFI_DATA} characters of Base64"
        cell.fault(layers.where("uefi_data"), f"{quoted(str(file))} has {len(text)}, expected {expected}")
        return None
    return text.decode("ascii")


def _tags(cell: Cell) -> dict[str, str]:
    tags = {**cell.config.tags, **(cell.regional.tags or {}), **(cell.build.tags or {})}
    if len(tags) > MAX_TAGS:
        cell.fault(f"{cell.here}.tags", f"found {len(tags)} tags in all, expected at most {MAX_TAGS}")
    return tags


def expand(cell: Cell) -> JobSpec | None:
    """Return the job of ``cell``; None, and ``cell.problems`` says why, where the file does not describe one."""
    volume = _volume(cell)
    for key, owner in _OF_METHOD.items():
        if getattr(cell.build, key) not in (None, "none") and cell.build.method != owner:
            cell.fault(f"{cell.here}.{key}", f'found a value, expected none: it belongs to method "{owner}"')
    document = {
        "suite": cell.build.suite,
        "build": cell.build.build,
        "label": cell.build.label,
        "serial": cell.serial,
        "version": cell.build.version,
        "arch": cell.arch,
        "region": cell.region,
        "source": sources.document(cell),
        "builder": _builder(cell) if _may_need_builder(cell) else _NO_BUILDER,
        "volume": volume,
        "registration": _registration(cell, volume),
        "method": cell.build.method,
        "grow": cell.build.grow is not False,
        "parent": cell.build.parent,
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
