"""Work on a builder that goes on without a connection, and that any later connection finds again.

A task is a POSIX sh script that a leader process runs in a session of its own, in a work folder that only root (or,
on a host without sudo, the login user) can enter. What keeps it single:

- ``start`` calls take turns (a lock file), and do nothing while the recorded leader lives or a result is there;
- the leader holds a second lock for as long as it lives, so that even a leader that no record names keeps others out;
- before a leader is started, every process that carries the task's mark in its environment is ended: a half dead
  earlier start never works beside a new one.

The leader is recorded as boot id, pid and start time, so that neither a reboot nor a reused pid passes for it.
Programs and parameters travel over stdin, as one compound command each: a connection that breaks half way has run
nothing, and nothing of them is in a process list.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from ebspub.errors import RemoteError
from ebspub.remote.report import REPLY_LIMIT, Report, clean, parse_report
from ebspub.remote.shell import Completed, Shell

_TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}", re.ASCII)
_PARAMETER = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


def as_root(command: str) -> str:
    """Return the command line that runs ``command`` as root if the login user may become root, else as that user.

    EBSPUB_DEVICES (see populate.device) would be lost in sudo's clean environment.
    """
    script = (
        'if [ "$(id -u)" -ne 0 ] && sudo -n true </dev/null >/dev/null 2>&1; then '
        f'exec sudo -n env "EBSPUB_DEVICES=${{EBSPUB_DEVICES:-/dev}}" {command}; fi; exec {command}'
    )
    return f"sh -c {shlex.quote(script)}"


@dataclass(frozen=True, slots=True)
class Task:
    """A script to run, and its parameters, which it finds as shell variables.

    ``name`` names the work folder: letters, digits, ``. _ -``, at most 120. The script begins with what `prelude.sh`
    defines (``phase``, ``progress``, ``fact``, ``fail``, ``try``, ``ticker``, ``cleanup``) and succeeds with exit
    status 0.
    """

    name: str
    script: str = field(repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not _TASK_NAME.fullmatch(self.name):
            raise ValueError(f"not a task name: {self.name!r}")
        for key, value in self.parameters.items():
            if not _PARAMETER.fullmatch(key) or "\0" in value:
                raise ValueError(f"not a parameter of a task: {key!r}")


def start(shell: Shell, task: Task, *, again: bool = False) -> None:
    """Make it so that ``task`` is at work or has ended with a result; does nothing if that is so already.

    May be called any number of times, by several callers at once, and after a start that was cut short. A task that
    vanished is started again; one that failed only with ``again``; one that succeeded never.
    """
    run_program(
        shell,
        "control.sh",
        "start_task || exit 1",
        {
            "task": task.name,
            "again": "yes" if again else "no",
            "parameters": assignments(task.parameters),
            "script": part("common.sh") + part("prelude.sh") + task.script,
            "runner": part("common.sh") + part("runner.sh"),
        },
        timeout=180.0,
    )


def poll(shell: Shell, task: Task) -> Report:
    """Return how ``task`` is getting on, and tell the builder's dead-man timer that a publisher is there."""
    done = run_program(shell, "control.sh", "poll_task", {"task": task.name}, timeout=60.0, limit=REPLY_LIMIT)
    return parse_report(done.stdout)


def attend(shell: Shell) -> None:
    """Tell the builder's dead-man timer that a publisher is there: for the time before there is a task to poll."""
    run_program(shell, "control.sh", "true", {"task": "none"}, timeout=60.0)


def cancel(shell: Shell, task: Task) -> None:
    """End ``task`` with all of its processes; `poll` then reports it as failed with code ``cancelled``.

    A task that has ended keeps its result, one that was never started stays absent. :class:`RemoteError` if some
    process does not end (one that waits for a dead disk cannot).
    """
    run_program(shell, "control.sh", "cancel_task || exit 1", {"task": task.name}, timeout=120.0)


def clear(shell: Shell, task: Task) -> None:
    """Like :func:`cancel`, and delete the big files in its work folder: for a builder on which others go on."""
    run_program(shell, "control.sh", "clear_task || exit 1", {"task": task.name}, timeout=120.0)


def run_program(
    shell: Shell,
    body: str,
    call: str,
    variables: Mapping[str, str],
    *,
    timeout: float,
    limit: int = REPLY_LIMIT,
    package: str = __package__,
) -> Completed:
    """Run ``call`` after `common.sh` and the package data file ``body`` on the builder, as root where the user may.

    ``variables`` are set before. :class:`RemoteError` with the last of its stderr for an exit status other than 0.
    """
    program = "\n".join(
        # A shell runs a compound command once it has read all of it; and no child may read the program as its input.
        [
            "{",
            "exec </dev/null",
            part("common.sh"),
            assignments(variables),
            part(body, package),
            call,
            "exit 0",
            "}",
            "",
        ]
    )
    done = shell.run(as_root("sh"), stdin=program.encode("utf-8", "surrogateescape"), timeout=timeout, limit=limit)
    if done.status != 0:
        said = clean(done.stderr[-400:].decode("utf-8", "replace")) or "it did not say why"
        raise RemoteError(f"the builder could not do `{call.split(maxsplit=1)[0]}` (exit status {done.status}): {said}")
    return done


def assignments(variables: Mapping[str, str]) -> str:
    """Return ``variables`` as lines of shell assignments, quoted."""
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in variables.items())


@cache
def part(name: str, package: str = __package__) -> str:
    """Return a shell file of ours."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
