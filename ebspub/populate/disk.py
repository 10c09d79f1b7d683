"""The whole-disk image written to the volume as it is, and made to fill it.

The builder streams: download, decompress, write, in one go and without a copy between them; blocks of zeros are never
written (a new EBS volume reads as zeros). What needs random access (qcow2, VMDK, VHD) is kept as a file, and streamed
from there by qemu-nbd. The work is a Python program that is sent along (:mod:`ebspub.populate.imaging`), with shell
around it (`disk.sh`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from ebspub.populate import artefact
from ebspub.populate.device import check_names
from ebspub.populate.filesystem import task_name
from ebspub.populate.method import DiskFacts, checked
from ebspub.populate.program import program
from ebspub.remote.detached import Task, part
from ebspub.spec import JobSpec

_PARTS: Final = ("device.sh", "mounts.sh", "download.sh", "gpt.sh", "disk.sh")


class DiskMethod:
    """See the module."""

    def __init__(self, *, download_tries: int = 6, download_pause: int = 3) -> None:
        self._tries = download_tries
        self._pause = download_pause

    @property
    def name(self) -> str:
        return "disk"

    def task(self, spec: JobSpec, *, volume_id: str, device: str, attempt: int) -> Task:
        """Return the work; :class:`ConfigError` for a source URL that is not plain http(s)."""
        check_names(volume_id, device)
        parameters = {
            **artefact.parameters(spec, tries=self._tries, pause=self._pause),
            "volume_id": volume_id,
            "requested": device,
            "virtualization": spec.registration.virtualization,
            "grow": "yes" if spec.grow else "no",
            "program": base64.b64encode(program()).decode("ascii"),
        }
        script = "\n".join(part(name, __package__) for name in _PARTS)
        return Task(task_name(spec.job_id, attempt), script, parameters)

    def facts(self, found: Mapping[str, str]) -> DiskFacts:
        return checked(found, DiskFacts)
