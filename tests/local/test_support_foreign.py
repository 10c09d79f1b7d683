"""Programs of arm64 run on this machine while that is asked for, and no longer."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Need
from tests.support.foreign import BINFMT, EMULATOR, running_arm64

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("unshare", EMULATOR)]
_BASE = 0x400000


@pytest.fixture(autouse=True)
def _binfmt(need: Need) -> None:
    need.that(BINFMT.is_dir(), "binfmt_misc")


def program(file: Path, status: int) -> None:
    """Write a program of arm64 that ends with ``status``, and does nothing else."""
    code = struct.pack("<3I", 0xD2800000 | status << 5, 0xD2800BA8, 0xD4000001)  # mov x0, status; mov x8, 93; svc 0
    size = 64 + 56 + len(code)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 2, 183, 1, _BASE + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    file.write_bytes(header + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096) + code)
    file.chmod(0o755)


def rules() -> set[str]:
    """Return the names of the kernel's rules."""
    script = 'mount -t binfmt_misc binfmt_misc "$1" && ls "$1"'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh", str(BINFMT)]
    return set(subprocess.run(words, capture_output=True, check=True, text=True).stdout.split())


def test_programs_of_arm64_run_in_any_tree_and_no_rule_is_left(tmp_path: Path) -> None:
    program(tmp_path / "program", 42)
    with running_arm64() as rule:
        assert subprocess.run(["chroot", tmp_path, "/program"], check=False).returncode == 42
        assert not rule or rule in rules()
    assert rule not in rules()


def test_no_rule_is_left_by_a_process_that_is_killed() -> None:
    script = (
        "import time\nfrom tests.support.foreign import running_arm64\n"
        "with running_arm64() as rule: print(rule, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout
        rule = process.stdout.readline().strip()
        process.kill()
    deadline = time.monotonic() + 10
    while rule in rules() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rule not in rules()
