"""Boots disks in QEMU until a login prompt shows on the serial console: the proof that what was published boots.

The disk is never modified (``snapshot=on``), the machine has no network, and it ends with the process that
started it, however that ends. Needs the Debian packages ``qemu-system-x86`` and, for UEFI, ``ovmf``; for arm64
``qemu-system-arm`` and ``qemu-efi-aarch64``.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

_TAIL_LINES = 60
_LOGIN = re.compile(rb"login: ")  # behind which the kernel may say something still
_DEAD = re.compile(
    rb"Kernel panic|\(initramfs\)|emergency mode|Failed to mount .*sysroot|No bootable device|grub rescue>|Shell> "
)
#: What Linux says of the emulated timer when it then panics ("IO-APIC + timer doesn't work!"): nothing of the image's.
_NO_TIMER = "8254 timer not connected to IO-APIC"
#: Seconds without a word after which a machine hangs: an emulated one on a busy host may lose an interrupt.
_SILENCE = 100.0
_TRIES = 3
_X86 = "qemu-system-x86_64"
_OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
AAVMF_CODE = Path("/usr/share/AAVMF/AAVMF_CODE.fd")
_AAVMF_VARS = Path("/usr/share/AAVMF/AAVMF_VARS.fd")


class BootFailed(Exception):  # noqa: N818 - it is the boot that failed, not the tool
    """No login prompt came; ``log`` is all that the serial console said, ``hangs`` whether it then fell silent."""

    def __init__(self, why: str, log: str, *, hangs: bool = False) -> None:
        self.log, self.hangs = log, hangs
        super().__init__(f"{why}; the serial console ended with:\n{_tail(log)}")


def boot_to_login(
    disk: Path,
    kernel: Path,
    initrd: Path,
    *,
    append: str = "root=LABEL=cloudimg-rootfs console=ttyS0",
    timeout: float = 240,
) -> str:
    """Boot ``kernel`` with ``disk`` (raw: a bare file system or a whole disk) as its only disk.

    Return the serial log up to the login prompt. Raise :class:`BootFailed` at a panic, or after ``timeout``
    seconds.
    """
    return _boot(disk, ["-kernel", str(kernel), "-initrd", str(initrd), "-append", append], timeout)


def boot_disk(disk: Path, firmware: Literal["bios", "uefi"], *, timeout: float = 300) -> str:
    """Boot ``disk`` (raw, a whole disk) by its own boot loader, which must talk to the serial console.

    Returns and raises as :func:`boot_to_login` does.
    """
    if firmware == "bios":
        return _boot(disk, ["-machine", "graphics=off"], timeout)  # SeaBIOS then talks to the serial port
    with _flash(_OVMF_CODE, _OVMF_VARS) as options:
        return _boot(disk, options, timeout)


def boot_arm64(disk: Path, *, timeout: float = 300) -> str:
    """Boot ``disk`` (raw, a whole disk) by its own boot loader on an emulated machine of arm64 with UEFI.

    As on EC2 its ttyS0 is on the PCI bus. The firmware talks to another port; what comes there is the beginning of what
    is returned. Returns and raises as :func:`boot_to_login` does.
    """
    with _flash(AAVMF_CODE, _AAVMF_VARS) as options, tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "firmware"
        said.touch()
        try:
            log = _boot(disk, [*_ARM64, *options, "-serial", f"file:{said}"], timeout, "qemu-system-aarch64")
        except BootFailed as error:
            error.add_note("the firmware's port ended with:\n" + _tail(_text(said.read_bytes())))
            raise
        return _text(said.read_bytes()) + log


@contextmanager
def _flash(code: Path, variables: Path) -> Iterator[list[str]]:
    """Yield the options for a firmware, which may write to its own copy of ``variables``."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(variables, folder))
        yield [
            *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={_escaped(code)}"),
            *("-drive", f"if=pflash,format=raw,unit=1,file={_escaped(copy)}"),
        ]


def _boot(disk: Path, options: Sequence[str], timeout: float, program: str = _X86) -> str:
    """Boot; again where the machine hangs, or the kernel gave up its timer.

    That it tries out against a clock that a busy host holds up.
    """
    for _ in range(_TRIES - 1):
        try:
            return _booted(disk, options, timeout, program)
        except BootFailed as error:
            if not error.hangs and _NO_TIMER not in error.log:
                raise
    return _booted(disk, options, timeout, program)


def _booted(disk: Path, options: Sequence[str], timeout: float, program: str) -> str:
    log = bytearray()
    deadline = time.monotonic() + timeout
    drive = f"file={_escaped(disk)},format=raw,if=virtio,snapshot=on"
    common = (*_accelerator(), "-serial", "stdio") if program == _X86 else ()
    with _machine([*common, "-drive", drive, *options], program) as process:
        assert process.stdout
        while True:
            data = _read(process.stdout.fileno(), min(deadline, time.monotonic() + _SILENCE))
            if data is None:
                hangs = time.monotonic() < deadline
                raise BootFailed(f"{disk} gave no login prompt in {timeout:g} s", _text(log), hangs=hangs)
            if not data:
                raise BootFailed(f"the machine of {disk} ended with status {process.wait()}", _text(log))
            log += data
            recent = log[-4096:]
            if _LOGIN.search(recent):
                return _text(log)
            if dead := _DEAD.search(recent):
                raise BootFailed(f"{disk} does not boot: {dead[0].decode()}", _text(log))


def _read(fd: int, deadline: float) -> bytes | None:
    """Return what came, nothing at the end, or None when the deadline has passed."""
    ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
    return os.read(fd, 65536) if ready else None


@contextmanager
def _machine(options: Sequence[str], program: str = _X86) -> Iterator[subprocess.Popen[bytes]]:
    """Run a virtual machine whose first 'stdio' is our pipe; it is gone when the context is left."""
    command = [
        *("setpriv", "--pdeathsig", "KILL"),  # so that even SIGKILL of the tests leaves no machine behind
        *(program, "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
        *("-no-reboot", "-m", "512", "-nic", "none", *options),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


_EMULATED = ("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2")
_KVM = ("-accel", "kvm", "-cpu", "host", "-smp", "2")
_ARM64 = (
    *("-machine", "virt", "-accel", "tcg,thread=multi", "-cpu", "cortex-a57", "-smp", "2"),
    *("-chardev", "stdio,id=console", "-device", "pci-serial,chardev=console"),
)


@cache
def _accelerator() -> tuple[str, ...]:
    """Return QEMU's options for the processor: KVM if it really runs here, else emulation."""
    return _KVM if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_runs() else _EMULATED


def _kvm_runs() -> bool:
    """Say whether the firmware greets on its debug port in good time: a /dev/kvm that opens proves nothing."""
    debug_port = ("-chardev", "stdio,id=debug", "-device", "isa-debugcon,iobase=0x402,chardev=debug")
    with _machine([*_KVM, *debug_port]) as process:
        assert process.stdout
        deadline, said = time.monotonic() + 5, b""
        while b"SeaBIOS (version" not in said:
            data = _read(process.stdout.fileno(), deadline)
            if not data:
                return False
            said += data
        return True


def _escaped(path: Path) -> str:
    """Return ``path`` as a value of QEMU's comma-separated options."""
    return str(path).replace(",", ",,")


def _tail(log: str) -> str:
    return "\n".join(log.splitlines()[-_TAIL_LINES:])


def _text(log: bytes | bytearray) -> str:
    return log.decode(errors="replace").replace("\r", "")
