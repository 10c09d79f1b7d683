"""What every builder host is, whichever way it is made."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ebspub.localcloud.hosts.userdata import Seed

#: Families of instance types that show volumes the Xen way (/dev/xvdf); all others are Nitro (/dev/nvme1n1).
XEN_FAMILIES = frozenset(
    [
        "t1",
        "t2",
        "m1",
        "m2",
        "m3",
        "m4",
        "c1",
        "c3",
        "c4",
        "cc2",
        "cr1",
        "d2",
        "g2",
        "g3",
        "h1",
        "hs1",
        "i2",
        "i3",
        "p2",
        "p3",
        "r3",
        "r4",
        "x1",
        "x1e",
    ]
)


@dataclass(frozen=True)
class Attached:
    """A volume that a host is to show: its id, the device name asked for (/dev/sdf), and its file."""

    volume_id: str
    device: str
    file: Path


@dataclass
class HostSpec:
    """All that a host is made of."""

    instance_id: str
    instance_type: str
    address: str
    port: int
    folder: Path
    seed: Seed
    authorized_keys: list[str] = field(default_factory=list)
    #: The root volume's file, where the host boots from it; None for a builder, which has a root of its own.
    root: Path | None = None

    @property
    def hostname(self) -> str:
        """The name in EC2's manner: ip-127-1-2-3."""
        return "ip-" + self.address.replace(".", "-")

    @property
    def nitro(self) -> bool:
        """Whether volumes appear as NVMe devices."""
        return self.instance_type.partition(".")[0] not in XEN_FAMILIES


#: Called when the host's first process has ended: "poweroff", "reboot" (asked for inside) or "gone".
ExitCallback = Callable[[str], None]


class Host(Protocol):
    """A running builder."""

    def start(self, on_exit: ExitCallback) -> None:
        """Boot; returns when the host's first process runs. SSH answers a little later."""

    def stop(self) -> None:
        """End every process of the host and release what it held; returns when that is done."""

    def reboot(self) -> None:
        """End every process; ``on_exit`` is told "reboot". Volumes stay plugged in."""

    def plug(self, volume: Attached) -> None:
        """Make the volume appear as a device, if it does not already."""

    def busy(self, volume_id: str) -> bool:
        """Tell whether the volume's device is mounted inside."""

    def unplug(self, volume_id: str) -> None:
        """Take the volume's device away, with all that was written to it."""

    def discard(self) -> None:
        """Delete the folder of a stopped host."""

    def console(self) -> str:
        """Return the boot log."""


class DeviceNames:
    """Names of attached volumes, in the order of their attachment."""

    def __init__(self, *, nitro: bool) -> None:
        self._nitro = nitro
        self._names: dict[str, str] = {}

    def add(self, volume: Attached) -> str:
        """Return the device's name below /dev (``nvme1n1``, ``xvdf``); Nitro gives the lowest number that is free."""
        if known := self._names.get(volume.volume_id):
            return known
        if self._nitro:
            taken = set(self._names.values())
            name = next(n for n in (f"nvme{i}n1" for i in range(1, 1000)) if n not in taken)
        else:
            name = xen_name(volume.device)
        self._names[volume.volume_id] = name
        return name

    def remove(self, volume_id: str) -> str | None:
        """Forget the volume; returns the name that it had."""
        return self._names.pop(volume_id, None)


def xen_name(device: str) -> str:
    """Return what Linux on Xen calls the device that was asked for: /dev/sdf is xvdf."""
    name = device.removeprefix("/dev/")
    return "xvd" + name.removeprefix("sd") if name.startswith("sd") else name


def by_id_name(volume_id: str) -> str:
    """Return the name below /dev/disk/by-id that udev gives an EBS volume on Nitro."""
    return "nvme-Amazon_Elastic_Block_Store_" + volume_id.replace("-", "")


def write_host_keys(seed: Seed, folder: Path) -> list[Path]:
    """Write the host keys into ``folder``; returns the private files.

    Only keys that the user data gives are offered. Without any, and unless ``ssh_genkeytypes`` is empty, fresh ones are
    made, so that a client that expects its own keys is turned away instead of being let in.
    """
    given = seed.host_keys()
    files = []
    for kind, key in given.items():
        file = folder / f"ssh_host_{kind}_key"
        _write_private(file, key if key.endswith("\n") else key + "\n")
        files.append(file)
    if given:
        return files
    for kind in ["ed25519"] if seed.ssh_genkeytypes is None else seed.ssh_genkeytypes:
        file = folder / f"ssh_host_{kind}_key"
        if not file.exists():
            command = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(file)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
        files.append(file)
    return files


def _write_private(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    file.touch(0o600)
    file.write_text(text)


def watch(process: subprocess.Popen[bytes], report: Callable[[], None]) -> None:
    """Call ``report`` in a thread of its own when ``process`` has ended."""

    def wait() -> None:
        process.wait()
        report()

    threading.Thread(target=wait, name=f"watch-{process.pid}", daemon=True).start()


def remove_tree(folder: Path) -> None:
    """Delete the folder if it exists; a file that a dying process still makes in it is met by trying again."""
    for attempt in range(5):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError:
            if attempt == 4:
                raise
