"""Lets this machine run programs of arm64 where it is of another architecture: QEMU emulates their processor.

The kernel is told of them by binfmt_misc, for as long as that is asked for and no longer: what told it takes that back
when this process has gone, however it went. Needs root, and the Debian package ``qemu-user-static``.
"""

from __future__ import annotations

import platform
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EMULATOR = "qemu-aarch64-static"
#: Where binfmt_misc is mounted; the folder is there on every kernel that has it.
BINFMT = Path("/proc/sys/fs/binfmt_misc")
#: How a program of arm64 begins, and the bits of it that count: ELF, 64 bits, little-endian, executable or shared.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# F: the emulator is opened once and for all, so that programs run in a tree that does not hold it, too. The mount is
# the shell's own, and newer kernels forget a rule with the last mount; others must be told.
_HOLD = """
modprobe -q binfmt_misc 2>/dev/null || :
mount -t binfmt_misc binfmt_misc "$1"
printf %s ":$2:M::$3:$4:$(command -v "$5"):F" >"$1/register"
trap 'echo -1 >"$1/$2"' EXIT
echo held
read -r _ || :
"""


@contextmanager
def running_arm64() -> Iterator[str]:
    """Let programs of arm64 run in any tree of this machine; yield the name of the kernel's rule, if it needs one."""
    if platform.machine() == "aarch64":
        yield ""
        return
    rule = f"ebspub-test-{uuid.uuid4().hex}"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", _HOLD, "sh"]
    command += [str(BINFMT), rule, _MAGIC, _MASK, EMULATOR]
    # A session of its own: Ctrl-C is for this process, which then ends the shell.
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    with holder:  # at its end the shell's input is closed, and it is waited for
        assert holder.stdout
        if holder.stdout.readline() != b"held\n":
            raise RuntimeError(f"the kernel takes no rule for arm64: exit status {holder.wait()}")
        yield rule
