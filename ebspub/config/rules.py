"""What EC2 takes and what it does not, and what Ubuntu calls things: judged before anything is asked of EC2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

#: RegisterImage: "3-128 characters, letters, numbers, parentheses, square brackets, spaces, periods, slashes, dashes,
#: single quotes, at-signs and underscores". No ``+``.
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")
_NAME_CHARACTER = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]")
#: What EBS provisions at most (user guide, "Amazon EBS volume types"): IOPS, and IOPS a GiB; gp3's first 3000 are free.
_MOST_IOPS: Mapping[str, tuple[int, int]] = {"gp3": (80_000, 500), "io1": (64_000, 50), "io2": (256_000, 1_000)}
_GP3_IOPS = 3000
_KEY_ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(key|alias)/.+")
_LTS = re.compile(r"6\.06|([89]|[1-9][0-9])\.04")

#: The part of Ubuntu's AMI names that says virtualization and root volume.
_NAME_FOLDERS: Mapping[tuple[str, str], str] = {
    ("hvm", "standard"): "hvm",
    ("hvm", "gp2"): "hvm-ssd",
    ("hvm", "gp3"): "hvm-ssd-gp3",
    ("hvm", "io1"): "hvm-io1",
    ("hvm", "io2"): "hvm-io2",
    ("paravirtual", "standard"): "ebs",
    ("paravirtual", "gp2"): "ebs-ssd",
    ("paravirtual", "gp3"): "ebs-ssd-gp3",
    ("paravirtual", "io1"): "ebs-io1",
    ("paravirtual", "io2"): "ebs-io2",
}


def default_name(virtualization: str, volume_type: str) -> str:
    """Return the template of an AMI name in Ubuntu's current convention.

    The label has no part in it: promoting a daily build to a release keeps its name, so that EC2's own rule of unique
    names still protects the build when the state database is lost.
    """
    folder = _NAME_FOLDERS[virtualization, volume_type]
    return f"ubuntu/images/{folder}/ubuntu-{{suite}}-{{version}}-{{arch}}-{{build}}-{{serial}}"


def default_description(version: str) -> str:
    """Return the template of an AMI description in Ubuntu's convention.

    `Canonical, Ubuntu, 18.04 LTS, amd64 bionic image build on 2019-04-29`.
    LTS are 6.06 and every April of an even year since.
    """
    release = re.match(r"[0-9]+\.[0-9]+", version)
    lts = release and _LTS.fullmatch(release[0]) and int(release[0].split(".")[0]) % 2 == 0
    return f"Canonical, Ubuntu, {{version}}{' LTS' if lts else ''}, {{arch}} {{suite}} image build on {{date}}"


def default_ephemeral(arch: str, virtualization: str) -> dict[str, str]:
    """Return Ubuntu's instance store mapping: the small i386 types had their disk as the second partition of sda."""
    return {"ephemeral0": "/dev/sda2" if (arch, virtualization) == ("i386", "paravirtual") else "/dev/sdb"}


def name_fault(name: str) -> str | None:
    """Return what is expected instead of the AMI name ``name``, or None."""
    if _NAME.fullmatch(name):
        return None
    refused = sorted({c for c in name if not _NAME_CHARACTER.fullmatch(c)})
    if refused:
        return f"letters, digits and ( ) [ ] space . / - ' @ _ (EC2 refuses {' '.join(map(ascii, refused))})"
    return f"3 to 128 characters (these are {len(name)})"


def _disk(device: str) -> tuple[str, str]:
    """Return disk letter(s) and partition: sda1 and xvda1 are two names of one device."""
    match = re.fullmatch(r"/dev/(?:sd|xvd)([a-z]+)([0-9]*)", device)
    return (match[1], match[2]) if match else (device, "")


def clash(one: str, other: str) -> bool:
    """Return whether two devices are the same, or one is a partition of the other."""
    (disk, partition), (other_disk, other_partition) = _disk(one), _disk(other)
    return disk == other_disk and (partition == other_partition or not partition or not other_partition)


def _device_faults(root: str, ephemeral: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    taken = {"the root device": root}
    for name, device in ephemeral.items():
        for owner, other in taken.items():
            if clash(device, other):
                yield "ephemeral", f"{name} on {device} clashes with {owner} ({other}), expected another device"
        taken[name] = device


def _found(key: str, value: Any, expected: str) -> tuple[str, str]:
    shown = str(value).lower() if isinstance(value, bool) else f'"{value}"'
    return key, f"found {shown}, expected {expected}"


def registration_faults(arch: str, method: str, registration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for everything in ``registration`` that EC2 would refuse, or that would never boot."""
    boot = registration["boot_mode"]
    if registration["virtualization"] == "paravirtual":
        if arch == "arm64":
            yield _found("virtualization", "paravirtual", '"hvm": arm64 has nothing else')
        for key in ("ena", "sriov"):
            if registration[key]:
                yield _found(key, True, "false for paravirtual images")
        if boot not in (None, "legacy-bios"):
            yield _found("boot_mode", boot, "none for paravirtual images: their kernel is started by the hypervisor")
    elif arch == "i386" and boot in ("uefi", "uefi-preferred"):
        yield _found("boot_mode", boot, '"legacy-bios" or none for i386')
    elif arch == "arm64" and boot != "uefi":
        yield _found("boot_mode", boot, '"uefi" for arm64')
    if registration["tpm"] is not None and boot != "uefi":
        yield _found("tpm", registration["tpm"], 'none without boot_mode = "uefi": a TPM is for UEFI only')
    if registration["uefi_data"] is not None and boot not in ("uefi", "uefi-preferred"):
        yield _found("uefi_data", registration["uefi_data"], 'none without boot_mode "uefi" or "uefi-preferred"')
    elif registration["uefi_data"] is not None and method == "filesystem":
        expected = (
            'none: the boot loader that method "filesystem" installs has no signature that Secure Boot would take'
        )
        yield _found("uefi_data", registration["uefi_data"], f"{expected} (a disk that has one: disk, direct)")
    yield from _device_faults(registration["root_device"], registration["ephemeral"])


def volume_faults(volume: Mapping[str, Any], volume_type: str) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for what EC2 would refuse; ``volume_type`` is the one that is registered."""
    kinds = {volume["type"], volume_type}
    iops, kind, size = volume.get("iops"), volume["type"], volume["size"]
    if iops is None and kinds & {"io1", "io2"}:
        yield "iops", "missing, expected IOPS: io1 and io2 need them"
    if iops is not None and not kinds & {"io1", "io2", "gp3"}:
        yield _found("iops", iops, f"none for {kind}")
    if iops is not None and "gp3" in kinds and iops < _GP3_IOPS:
        yield _found("iops", iops, f"at least {_GP3_IOPS} for gp3")
    elif iops is not None:
        yield from _iops_faults(sorted(kinds & set(_MOST_IOPS)), iops, size)
    if volume.get("throughput") is not None and kind != "gp3":
        yield _found("throughput", volume["throughput"], f"none for {kind}: only gp3 has it")
    elif (volume.get("throughput") or 0) * 4 > (iops or _GP3_IOPS):
        least = volume["throughput"] * 4
        yield _found("throughput", volume["throughput"], f"a quarter of the IOPS at most ({least} IOPS for so much)")
    if "standard" in kinds and size > 1024:
        yield _found("size", size, "at most 1024 GiB for standard")
    if kinds & {"io1", "io2"} and size < 4:
        yield _found("size", size, "at least 4 GiB for io1 and io2")


def _iops_faults(kinds: Iterable[str], iops: int, size: int) -> Iterator[tuple[str, str]]:
    for kind in kinds:
        most, ratio = _MOST_IOPS[kind]
        if iops > most:
            yield _found("iops", iops, f"at most {most} for {kind}")
        elif iops > max(ratio * size, _GP3_IOPS if kind == "gp3" else 0):
            yield _found("iops", iops, f"at most {ratio} a GiB for {kind} (so many need {-(-iops // ratio)} GiB)")


def key_faults(volume: Mapping[str, Any], region: str, method: str) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for a KMS key with which the volume could not be encrypted in ``region``."""
    key = volume.get("kms_key")
    if key is None:
        return
    if not volume["encrypted"]:
        yield _found("kms_key", key, "none without encrypted = true")
    arn = _KEY_ARN.fullmatch(key)
    if arn is not None and arn[1] != region:
        yield _found("kms_key", key, f"a key of {region}: EBS takes none of another region (regions.{region}.volume)")
    elif method == "direct" and (arn is None or arn[2] != "key"):
        yield _found("kms_key", key, 'the ARN of a key (arn:aws:kms:...:key/...): method "direct" takes nothing else')


def sharing_fault(*, encrypted: bool, everybody: bool) -> str | None:
    """Return why an AMI cannot be shared so, or None. What is encrypted is never public: EC2 refuses it."""
    if encrypted and everybody:
        return "its snapshot is encrypted, and EC2 shares nothing encrypted with everybody"
    return None
