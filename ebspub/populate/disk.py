"""The whole-disk image written to the volume as it is, and made to fill it.

The builder streams: download, decompress, write, in one go and without a copy between them; blocks of zeros are never
written (a new EBS volume reads as zeros). What needs random access (qcow2, VMDK, VHD) is kept as a file, and streamed
from there by qemu-nbd. The work is a Python program that is sent along (:mod:`ebspub.populate.imaging`), with shell
around it (`disk.sh`).
"""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

from ebspub.populate import artefact
from ebspub.populate.device import check_names
from ebspub.populate.filesystem import task_name
from ebspub.populate.method import DiskFacts, checked
from ebspub.remote.detached import Task, part
from ebspub.spec import JobSpec

_PARTS: Final = ("device.sh", "mounts.sh", "download.sh", "gpt.sh", "disk.sh")
#: What the program is made of. Packages are empty on the builder: nothing of ours is imported by the way.
_MODULES: Final = (
    "ebspub/errors.py",
    "ebspub/source/formats.py",
    "ebspub/populate/gpt.py",
    *(
        f"ebspub/populate/imaging/{name}.py"
        for name in (
            *("artefact", "container", "libraries", "nbd", "notes", "pour", "program", "prove", "refusal", "sift"),
            *("streams", "table", "volume"),
        )
    ),
)
_PACKAGES: Final = ("ebspub", "ebspub/source", "ebspub/populate", "ebspub/populate/imaging")
#: What any Python of the last twenty years understands, up to where it knows that it is too old.
_MAIN: Final = """import sys
if sys.version_info < (3, 8):
    sys.exit(4)
from ebspub.populate.imaging.program import main
main()
"""


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


@cache
def program() -> bytes:
    """Return the builder's program: a zip file that Python runs. The same bytes for the same version."""
    root = resources.files("ebspub")
    files = {f"{package}/__init__.py": "" for package in _PACKAGES}
    files |= {name: root.joinpath(name.removeprefix("ebspub/")).read_text(encoding="utf-8") for name in _MODULES}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted({**files, "__main__.py": _MAIN}.items()):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
