"""The specification's way: make a file system on the volume and copy the published image's tree to it.

ServerLucidEc2EBSRoot, "Implementation": download the published tarball, mkfs on the attached volume, extract the image,
mount it, copy its data to the volume, sync. The work itself is shell (`filesystem.sh` and the parts before it).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from ebspub.errors import ConfigError
from ebspub.populate.device import check_names
from ebspub.populate.method import PopulateFacts, checked_facts
from ebspub.remote.detached import Task, part
from ebspub.spec import JobSpec

_PARTS = ("device.sh", "download.sh", "extract.sh", "ext.sh", "xfs.sh", "copy.sh", "image.sh", "filesystem.sh")
#: What a URL may hold: nothing that ends it in the file that curl reads it from.
_URL = re.compile(r"[!#-\[\]-~]+", re.ASCII)


class FilesystemMethod:
    """See the module. The volume ends up with the image's own file system type, label, UUID and features."""

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
            "url": _plain_url(spec.source.url),
            "sha256": (spec.source.sha256 or "").lower(),
            "volume_id": volume_id,
            "requested": device,
            "download_seconds": str(int(spec.limits.populate)),
            "download_tries": str(self._tries),
            "download_pause": str(self._pause),
        }
        script = "\n".join(part(name, __package__) for name in _PARTS)
        return Task(_task_name(spec.job_id, attempt), script, parameters)

    def facts(self, found: Mapping[str, str]) -> PopulateFacts:
        return checked_facts(found)


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _URL.fullmatch(url):
        raise ConfigError(
            f"the source's URL is not a plain http(s) URL: {url!r}", todo="Percent-encode what is not ASCII."
        )
    return url


def _task_name(job_id: str, attempt: int) -> str:
    """Return a name for the work folder: the job's own where that will do, its hash where it is too long or odd."""
    name = f"{job_id}-{attempt}"
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name, re.ASCII):
        return name
    return f"{hashlib.sha256(job_id.encode()).hexdigest()[:32]}-{attempt}"
