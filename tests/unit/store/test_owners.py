"""The names of lease owners: whose death can be known, and whose cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ebspub.store import leases, tables

ROOT = Path(__file__).resolve().parents[3]
#: With /proc showing a user only his own processes, asks another user whether its parent is dead.
HIDDEN = """
import os, sys
from ebspub.store import leases
owner = sys.argv[1]
mine = leases.this_process()
assert not leases.is_dead(mine)
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
assert not os.path.exists(f"/proc/{owner.split('/')[2]}/stat"), "the owner is not hidden"
print(leases.is_dead(owner))
"""


def changed(field: int, value: str) -> str:
    """Return this process's name with one field changed."""
    parts = leases.this_process().split("/")
    parts[field] = value
    return "/".join(parts)


def test_two_owners_in_one_process_have_two_names() -> None:
    assert leases.this_process() != leases.this_process()


def test_a_name_fits_its_column() -> None:
    column: Any = tables.jobs.c.lease_owner.type
    assert len(leases.this_process()) < column.length


def test_a_living_process_is_not_dead() -> None:
    assert not leases.is_dead(leases.this_process())


def test_a_process_that_ended_is_dead_even_before_it_is_waited_for() -> None:
    script = "from ebspub.store import leases; print(leases.this_process(), flush=True)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert leases.is_dead(owner)
    assert leases.is_dead(owner)


def test_another_start_time_or_another_boot_is_another_process() -> None:
    assert leases.is_dead(changed(3, "1"))
    assert leases.is_dead(changed(1, "2f6d1b1c-0000-4000-8000-000000000000"))


@pytest.mark.parametrize(
    ("field", "value"),
    [(0, "elsewhere:000000000000:4026531836"), (2, "not-a-number"), (2, "0"), (3, "0"), (4, "more/fields")],
)
def test_of_whom_nothing_can_be_known_is_not_dead(field: int, value: str) -> None:
    assert not leases.is_dead(changed(field, value))


@pytest.mark.parametrize("owner", ["", "publisher-one", "a/b/c"])
def test_a_name_that_is_none_of_ours_is_not_dead(owner: str) -> None:
    assert not leases.is_dead(owner)


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare")
def test_the_processes_of_another_namespace_are_not_taken_for_dead() -> None:
    """A container shares the host's boot id, and may share its name; process ids mean something else in it."""
    script = "import sys; from ebspub.store import leases; print(leases.is_dead(sys.argv[1]))"
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    command += [sys.executable, "-c", script, leases.this_process()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout == "False\n"


@pytest.mark.needs_root
@pytest.mark.needs_tool("unshare", "mount")
def test_a_process_that_proc_hides_is_not_taken_for_dead() -> None:
    mount = 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", HIDDEN, leases.this_process()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout) == (0, "False\n"), run.stderr
