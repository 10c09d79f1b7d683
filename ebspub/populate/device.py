"""Find an attached volume on its builder.

By the volume's id on Nitro (udev's link, or the NVMe serial number), by the requested name on Xen, where it is the
volume's own. Never by size or by the order of letters: the wrong disk is then one race away.
"""

from __future__ import annotations

import re
import shlex

from ebspub.errors import JobError, RemoteError
from ebspub.remote.detached import run_program
from ebspub.remote.report import clean
from ebspub.remote.shell import Shell

_VOLUME = re.compile(r"vol-[0-9A-Za-z]{1,40}", re.ASCII)
_DEVICE = re.compile(r"/dev/[a-z0-9]{2,16}", re.ASCII)
_PATH = re.compile(r"/[!-~]{1,4000}", re.ASCII)


class DeviceError(JobError):
    """The device under the volume's name is not the fresh volume that it should be; nothing was written to it."""


def find_device(shell: Shell, volume_id: str, device: str) -> str | None:
    """Return the path at which the builder sees ``volume_id``, or None while it does not (yet).

    ``device`` is the name that the attachment asked for (``/dev/sdf``). On a builder without root, volumes are plain
    files in the folder that its environment variable ``EBSPUB_DEVICES`` names. Raises :class:`DeviceError` for a device
    that is mounted, partitioned, part of something else, or not empty.
    """
    check_names(volume_id, device)
    call = f"report_device {shlex.quote(volume_id)} {shlex.quote(device)}"
    done = run_program(shell, "device.sh", call, {}, timeout=120.0, package=__package__)
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        word, _, rest = line.partition(" ")
        path, _, reason = rest.partition(" ")
        if word not in ("device", "surprise"):
            continue  # a login shell's greeting
        if not _PATH.fullmatch(path):
            raise RemoteError(f"the builder's answer on volume {volume_id} cannot be read")
        if word == "surprise":
            raise DeviceError(
                f"volume {volume_id} is {path} on its builder, but is not fresh: {clean(reason)}",
                todo="Nothing was written to it. Resume the job with a new attempt.",
                code="device",
            )
        return path
    return None


def check_names(volume_id: str, device: str) -> None:
    """Refuse (:class:`ValueError`) what is no volume id or device name of EC2's."""
    if not _VOLUME.fullmatch(volume_id):
        raise ValueError(f"not a volume id: {volume_id!r}")
    if not _DEVICE.fullmatch(device):
        raise ValueError(f"not a device name: {device!r}")
