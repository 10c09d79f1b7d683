"""What every way to fill a volume has in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, TypeVar

from pydantic import Field, ValidationError

from ebspub.errors import VerificationError
from ebspub.remote.detached import Task
from ebspub.spec import Document, JobSpec

#: Codes of a failed task that another attempt, on another builder and volume, would meet again.
#: The others (download, device, io, copy, verify, mkfs, vanished, cancelled, script) may be gone by then.
#: gone: the server's last word on the artefact (404, 403 and the like), whoever asks.
FATAL_CODES = frozenset(
    {"bad-image", "builder", "checksum", "disk-full", "gone", "too-large", "too-small", "unsupported-fs"}
)


class VolumeFacts(Document):
    """What every method says of the volume that it filled and verified."""

    bytes: int = Field(ge=0, description="Of content, as the method counts it.")
    size: int = Field(gt=0, description="Size of the volume in bytes.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the artefact as it was downloaded.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of what was written, compared with the source.")


class DiskFacts(VolumeFacts):
    """What the disk method says. ``digest``: over the disk's blocks of 512 KiB that are not all zeros, before it grew.

    It is SHA-256 over the number of each (8 bytes, big-endian) and its own SHA-256, as the direct method has it.
    """

    content: Literal["disk", "filesystem", "qcow2", "vmdk", "vhd"]
    way: Literal["disk"]
    image_size: int = Field(gt=0, description="Bytes of the disk in the artefact.")
    blocks: int = Field(ge=0, description="Blocks of 512 KiB that are not all zeros.")
    table: Literal["gpt", "dos", "none"]
    moved: Literal["yes", "no"] = Field(description="Whether the GPT's backup was moved to the volume's end.")
    grown: Literal["root", "no"] = Field(description="root: the last partition and its file system fill the volume.")
    fs_type: str = Field(default="", max_length=32, description="Of what was made to grow.")


class PopulateFacts(VolumeFacts):
    """What a method says of the tree that it copied and verified."""

    files: int = Field(ge=0, description="Entries of the tree, its root aside; blocks: inodes in use.")
    bytes: int = Field(ge=0, description="Content of its regular files, each counted once; blocks: once per name.")
    fs_type: Literal["ext2", "ext3", "ext4", "xfs", "btrfs"]
    label: str = Field(max_length=32)
    uuid: str = Field(max_length=40)
    digest: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="Of the tree: names, kinds, owners, modes, times, content."
    )
    xattrs: Literal["compared"]
    way: Literal["mounted", "blocks"] = Field(description="blocks: without root; the digest is then of files only.")
    boot_loader: str = Field(default="", max_length=32, description="Firmware for which GRUB was installed; HVM only.")
    grub_cfg: Literal["", "own", "minimal"] = Field(default="", description="own: by the image's grub-mkconfig.")
    changed: str = Field(
        default="", max_length=1000, description="Paths that installing GRUB changed; files and digest leave them out."
    )
    boot_digest: str = Field(
        default="", pattern=r"^([0-9a-f]{64})?$", description="Of what installing GRUB wrote: files, ESP, boot code."
    )


class Method(Protocol):
    """A way to fill a volume."""

    @property
    def name(self) -> str:
        """The word by which a job's ``method`` names it."""

    def task(self, spec: JobSpec, *, volume_id: str, device: str, attempt: int) -> Task:
        """Return the work for the builder of ``attempt``; ``device`` is the name that the attachment asked for."""

    def facts(self, found: Mapping[str, str]) -> VolumeFacts:
        """Return what the task's report says, checked; :class:`VerificationError` if it is not what it must be."""


F = TypeVar("F", bound=VolumeFacts)


def checked_facts(found: Mapping[str, str]) -> PopulateFacts:
    """Return ``found`` as :class:`PopulateFacts`; what else a builder says is left out."""
    return checked(found, PopulateFacts)


def checked(found: Mapping[str, str], model: type[F]) -> F:
    """Return ``found`` as what a method says; what else a builder says is left out. Raises VerificationError."""
    known = {key: value for key, value in found.items() if key in model.model_fields}
    try:
        return model.model_validate(known)
    except ValidationError as error:
        wrong = ", ".join(sorted(str(one["loc"][0]) for one in error.errors() if one["loc"]))
        raise VerificationError(
            f"the builder's facts about the volume are not credible: {wrong}",
            todo="Nothing was made of this volume. Resume the job; if that lasts, look at the builder's image.",
            code="facts",
        ) from error
