"""What every way to fill a volume has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from pydantic import Field, ValidationError

from ebspub.errors import VerificationError
from ebspub.remote.detached import Task
from ebspub.spec import Document, JobSpec

#: Codes of a failed task that another attempt, on another builder and volume, would meet again.
#: The others (download, device, io, copy, verify, mkfs, vanished, cancelled, script) may be gone by then.
FATAL_CODES = frozenset({"bad-image", "checksum", "disk-full", "too-large", "too-small", "unsupported-fs"})


class PopulateFacts(Document):
    """What a method says of the volume that it filled and verified."""

    files: int = Field(ge=0, description="Entries of the tree, its root aside; blocks: inodes in use.")
    bytes: int = Field(ge=0, description="Content of its regular files, each counted once; blocks: once per name.")
    size: int = Field(gt=0, description="Size of the volume in bytes.")
    fs_type: Literal["ext2", "ext3", "ext4", "xfs"]
    label: str = Field(max_length=32)
    uuid: str = Field(max_length=40)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the artefact as it was downloaded.")
    digest: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="Of the tree: names, kinds, owners, modes, times, content."
    )
    xattrs: Literal["compared", "unchecked"] = Field(description="unchecked: the builder has no getfattr.")
    way: Literal["mounted", "blocks"] = Field(description="blocks: without root; the digest is then of files only.")


class Method(Protocol):
    """A way to fill a volume."""

    @property
    def name(self) -> str:
        """The word by which a job's ``method`` names it."""

    def task(self, spec: JobSpec, *, volume_id: str, device: str, attempt: int) -> Task:
        """Return the work for the builder of ``attempt``; ``device`` is the name that the attachment asked for."""

    def facts(self, found: Mapping[str, str]) -> PopulateFacts:
        """Return what the task's report says, checked; :class:`VerificationError` if it is not what it must be."""


def checked_facts(found: Mapping[str, str]) -> PopulateFacts:
    """Return ``found`` as :class:`PopulateFacts`; what else a builder says is left out."""
    known = {key: value for key, value in found.items() if key in PopulateFacts.model_fields}
    try:
        return PopulateFacts.model_validate(known)
    except ValidationError as error:
        wrong = ", ".join(sorted(str(one["loc"][0]) for one in error.errors() if one["loc"]))
        raise VerificationError(
            f"the builder's facts about the volume are not credible: {wrong}",
            todo="Nothing was made of this volume. Resume the job; if that lasts, look at the builder's image.",
            code="facts",
        ) from error
