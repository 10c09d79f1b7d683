"""The specification's way: make a file system on the volume and copy the published image's tree to it.

ServerLucidEc2EBSRoot, "Implementation": download the published tarball, mkfs on the attached volume, extract the image,
mount it, copy its data to the volume, sync. The work itself is shell (`filesystem.sh` and the parts before it).

A paravirtual image is a bare file system on the whole volume. HVM firmware wants a disk that boots by itself: there the
file system lies in a partition (`gpt.sh`), and GRUB comes from the image's own packages (`bootloader.sh`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from ebspub.errors import ConfigError
from ebspub.populate import artefact
from ebspub.populate.device import check_names
from ebspub.populate.method import PopulateFacts, checked_facts
from ebspub.populate.program import program
from ebspub.remote.detached import Task, part
from ebspub.spec import JobSpec

_PARTS = (
    *("device.sh", "mounts.sh", "download.sh", "extract.sh", "tree.sh"),
    *("ext.sh", "xfs.sh", "btrfs.sh", "copy.sh", "image.sh"),
    *("gpt.sh", "fstab.sh", "esp.sh", "chroot.sh", "bootloader.sh", "filesystem.sh"),
)
#: Firmware for which an HVM image must bring a boot loader, and for which one is installed if it does, by architecture
#: and boot mode. EC2 starts images without a boot mode as x86 did before UEFI, and arm64 by UEFI only.
_FIRMWARE: Mapping[tuple[str, str | None], tuple[str, str]] = {
    ("amd64", None): ("bios", "uefi"),
    ("amd64", "legacy-bios"): ("bios", "uefi"),
    ("amd64", "uefi"): ("uefi", "bios"),
    ("amd64", "uefi-preferred"): ("bios uefi", ""),
    ("arm64", None): ("uefi", ""),
    ("arm64", "uefi"): ("uefi", ""),
    ("i386", None): ("bios", ""),
    ("i386", "legacy-bios"): ("bios", ""),
}


class FilesystemMethod:
    """See the module. The file system has the image's own type, label, UUID and features."""

    def __init__(self, *, download_tries: int = 6, download_pause: int = 3) -> None:
        self._tries = download_tries
        self._pause = download_pause

    @property
    def name(self) -> str:
        return "filesystem"

    def task(self, spec: JobSpec, *, volume_id: str, device: str, attempt: int) -> Task:
        """Return the work; :class:`ConfigError` for a source URL that is not plain http(s)."""
        check_names(volume_id, device)
        parameters = {
            **artefact.parameters(spec, tries=self._tries, pause=self._pause),
            "volume_id": volume_id,
            "requested": device,
            "unpacker": base64.b64encode(program()).decode("ascii"),
            **_boot(spec),
        }
        script = "\n".join(part(name, __package__) for name in _PARTS)
        return Task(task_name(spec.job_id, attempt), script, parameters)

    def facts(self, found: Mapping[str, str]) -> PopulateFacts:
        return checked_facts(found)


def _boot(spec: JobSpec) -> dict[str, str]:
    """Return what the script is told of how the volume will be started."""
    boot_mode = spec.registration.boot_mode
    try:
        firmware, optional = _FIRMWARE[spec.arch, boot_mode]
    except KeyError as error:
        raise ConfigError(
            f"{spec.job_id}: no boot loader is known for {spec.arch} with boot_mode {boot_mode}",
            todo="Change boot_mode in the build's registration.",
        ) from error
    return {
        "virtualization": spec.registration.virtualization,
        "arch": spec.arch,
        "firmware": firmware,
        "optional": optional,
    }


def task_name(job_id: str, attempt: int) -> str:
    """Return a name for the work folder: the job's own where that will do, its hash where it is too long or odd."""
    name = f"{job_id}-{attempt}"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name, re.ASCII):
        return name
    return f"{hashlib.sha256(job_id.encode()).hexdigest()[:32]}-{attempt}"
