"""One test boot on one instance type: launch, up and the right image, stop, start, up again with its file, terminate.

A trial never sleeps: each step looks at the view, makes at most the call that is missing, and returns. Its phase lives
in this process only; what it makes is on record before it is made, and a later `verify` removes what it finds and
begins anew.
"""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ebspub.app.verify import identity
from ebspub.app.verify.settings import Place
from ebspub.aws import instances
from ebspub.aws.failures import RETRYABLE, AwsError, Cause
from ebspub.aws.instances import Console, Instance
from ebspub.clock import isoformat
from ebspub.engine.effects import Making
from ebspub.engine.outcome import Wait
from ebspub.engine.step import World
from ebspub.errors import EbspubError, HostKeyError, LeaseLostError, RemoteError, StoreError
from ebspub.remote.shell import Shell
from ebspub.remote.ssh import connect
from ebspub.remote.userdata import user_data
from ebspub.states import Kind
from ebspub.steps import remains
from ebspub.store import Job, Presence, Resource, verifications

log = logging.getLogger(__name__)

#: Written before the instance is stopped; /var/tmp is kept over a reboot, and everybody may write there.
_FILE = "/var/tmp/ebspub-verify"  # noqa: S108 - on the instance
_CONNECT = 10.0
_COMMAND = 60.0
#: How often all places are asked for an instance while none has room for it.
_ROUNDS = 30
#: Characters of the console that are kept with a failure.
_TAIL = 3000


class _Failed(Exception):  # noqa: N818 - no error of the program: what a trial is there to find out
    """The AMI did not pass."""


@dataclass
class Trial:
    """The test boot of one AMI on one instance type. ``number`` tells apart those under one lease."""

    place: Place
    instance_type: str
    epoch: int
    number: int
    phase: str = "launch"
    #: Why it failed; empty while it has not.
    fault: str = ""
    console: str = ""
    identity: str = "unknown"
    done: bool = False
    result: dict[str, Any] = field(default_factory=dict)
    _began: float = 0.0
    _since: float = 0.0
    _boot_id: str = ""
    #: What EC2 showed of the console when the instance had stopped.
    _before: Console = field(default_factory=Console)
    _last: str = ""
    _not_before: float = 0.0

    def step(self, job: Job, world: World, groups: tuple[str, ...]) -> None:
        """Go on as far as can be. Raises LeaseLostError and StoreError only."""
        now = world.clock.now()
        self._began = self._began or now
        self._since = self._since or now
        try:
            self._try(job, world, groups)
            self._mind_the_time(world.clock.now())
        except _Failed as failed:
            self._give_up(job, world, str(failed))
        if self.done:
            self._finish(job, world)

    def _try(self, job: Job, world: World, groups: tuple[str, ...]) -> None:
        """Advance; what may mend itself becomes the reason why it takes so long, all else is raised as _Failed."""
        try:
            self._advance(job, world, groups)
        except (LeaseLostError, StoreError):
            raise
        except AwsError as error:
            self._last = f"{error.action}: {error.message} ({error.code})"
            mends = error.cause in RETRYABLE or error.code.startswith("Incorrect") or self.phase == "end"
            if not mends:
                raise _Failed(self._last) from error
        except RemoteError as error:
            self._last = error.what
        except EbspubError as error:
            raise _Failed(error.what) from error

    def _advance(self, job: Job, world: World, groups: tuple[str, ...]) -> None:
        if self.phase == "launch":
            return self._launch(job, world, groups)
        if self.phase == "end":
            return self._end(job, world)
        seen = self._seen(job, world)
        if seen is None:
            return None
        if self.phase == "boot":
            return self._boot(job, world, seen)
        if self.phase == "stop":
            return self._stop(job, world, seen)
        return self._start(job, world, seen)

    # --- the phases --------------------------------------------------------------------------------------

    def _launch(self, job: Job, world: World, groups: tuple[str, ...]) -> None:
        if world.clock.now() < self._not_before:
            return
        spent = sum(1 for row in job.resources if self._is_mine(row) and row.presence is Presence.GONE)
        zone, subnet = self.place.places[spent % len(self.place.places)]
        request = {
            "image": job.ami_id,
            "instance_type": self.instance_type,
            "zone": zone,
            "subnet": subnet,
            "groups": list(groups),
            "public": self.place.public,
            "profile": None,
            "root": None,
            "old_imds": job.spec.registration.imds != "v2.0",
        }
        text = user_data(*self._keys(job, world), self.place.dead_man)

        def call(told: Any, token: str, marks: dict[str, str]) -> str:
            return instances.run(world.clients.writer, told, token=token, tags=marks, user_data=text)

        purpose = f"{self._prefix}.{spent}"
        making = Making(Kind.INSTANCE, purpose, "RunInstances", request, call, token_honoured=True)
        try:
            made = world.effects.make(job, world.view, making)
        except AwsError as error:
            if error.cause is Cause.CAPACITY and (spent + 1) % len(self.place.places) == 0:
                self._not_before = world.clock.now() + self.place.boot / _ROUNDS
            raise
        if not isinstance(made, Wait):
            self._enter("boot", world)

    def _boot(self, job: Job, world: World, seen: Instance) -> None:
        if seen.state != "running" or not self._up(job, world, seen):
            return
        if self.place.console is None:
            with self._shell(job, world, seen) as shell:
                found = identity.judge(_run(shell, identity.ASK), job.spec)
                self.identity = found.known
                if found.fault:
                    raise _Failed(f"{job.ami_id} is not the image that was published: {found.fault}")
                _run(shell, f"printf %s {shlex.quote(self._mark(job, world))} >{_FILE} && sync")
                self._boot_id = _run(shell, "cat /proc/sys/kernel/random/boot_id")
        self._enter("stop", world)

    def _stop(self, job: Job, world: World, seen: Instance) -> None:
        if seen.state == "running":
            self._act(job, world, "StopInstances", partial(instances.stop, world.clients.writer, seen.id), seen.id)
        elif seen.state == "stopped":
            if self.place.console is not None:
                self._before = instances.console(world.clients.reader, seen.id)
            self._act(job, world, "StartInstances", partial(instances.start, world.clients.writer, seen.id), seen.id)
            self._enter("start", world)

    def _start(self, job: Job, world: World, seen: Instance) -> None:
        if seen.state == "stopped" and world.view.at > self._since + self.place.stop / 4:
            self._act(job, world, "StartInstances", partial(instances.start, world.clients.writer, seen.id), seen.id)
        if seen.state != "running" or not self._up(job, world, seen):
            return
        if self.place.console is None:
            with self._shell(job, world, seen) as shell:
                if _run(shell, "cat /proc/sys/kernel/random/boot_id") == self._boot_id:
                    self._last = "it shows the boot from before it was stopped"
                    return
                if _run(shell, f"cat {_FILE} 2>&1 || :") != self._mark(job, world):
                    raise _Failed("a file written before it was stopped is not there after its start")
        self._enter("end", world)

    def _end(self, job: Job, world: World) -> None:
        rows = [row for row in job.live(Kind.INSTANCE) if self._is_mine(row)]
        self.done = remains.remove(job, world, rows) is None

    # --- what they share ---------------------------------------------------------------------------------

    def _seen(self, job: Job, world: World) -> Instance | None:
        """Return the instance; None while EC2 may be hiding it. Raises _Failed for one that is lost."""
        row = self._row(job)
        seen = world.view.instance(row.resource_id) if row is not None else None
        if row is None or seen is None:
            lag = job.spec.limits.listing_lag
            if row is None or world.view.at > (row.made_at or 0.0) + lag:
                raise _Failed("the instance no longer exists")
            return None
        ending = ("shutting-down", "terminated")
        if seen.state in ending or (self.phase == "boot" and seen.state in instances.LOST):
            raise _Failed(f"the instance is {seen.state}: {seen.reason or 'no reason given'}")
        return seen

    def _up(self, job: Job, world: World, seen: Instance) -> bool:
        """Whether the instance says that it is up: on its console, or by taking a command."""
        if self.place.console is not None:
            said = instances.console(world.clients.reader, seen.id).since(self._before)
            nothing = "shows nothing from after its start" if self.phase == "start" else "shows nothing"
            self._last = f"its console {nothing if not said else f'does not say {self.place.console!r}'}"
            return self.place.console in said
        try:
            with self._shell(job, world, seen) as shell:
                return shell.run("true", timeout=_COMMAND).status == 0
        except (RemoteError, HostKeyError) as error:
            self._last = error.what
            return False

    def _shell(self, job: Job, world: World, seen: Instance) -> _Closing:
        where = seen.public_address if self.place.public else seen.private_address
        if not where:
            raise RemoteError("the instance has no address yet")
        host_key, client_key = self._keys(job, world)
        return _Closing(connect(where, self.place.ssh_port, self.place.ssh_user, client_key, host_key, _CONNECT))

    def _keys(self, job: Job, world: World) -> tuple[Any, Any]:
        """Return keys of this test boot alone: its host key lies in its user data."""
        name = f"{job.id}/{self._prefix}"
        return world.keyring.host_key(name, job.attempt), world.keyring.client_key(name, job.attempt)

    def _mark(self, job: Job, world: World) -> str:
        return f"{world.effects.store_id} {job.id} {self._prefix}"

    def _act(self, job: Job, world: World, action: str, call: Any, target: str) -> None:
        world.effects.act(job, action, call, target=target, resource=self._row(job))

    @property
    def _prefix(self) -> str:
        return f"{verifications.PURPOSE}{self.epoch}.{self.number}"

    def _is_mine(self, row: Resource) -> bool:
        return row.purpose.startswith(f"{self._prefix}.")

    def _row(self, job: Job) -> Resource | None:
        return next((row for row in job.live(Kind.INSTANCE) if self._is_mine(row)), None)

    def _enter(self, phase: str, world: World) -> None:
        log.info("%s: %s", self.instance_type, phase)
        self.phase, self._since, self._last = phase, world.clock.now(), ""

    def _mind_the_time(self, now: float) -> None:
        limit = self.place.stop if self.phase in ("stop", "end") else self.place.boot
        if self.done or now <= self._since + limit:
            return
        if self.phase == "end":
            # It stays on record: the next `verify`, or a sweep, removes it.
            self.fault = self.fault or f"the instance was not gone within {limit:.0f} s"
            self.done = True
            return
        what = {"stop": "was not stopped", "launch": "could not be launched"}.get(self.phase, "did not come up")
        raise _Failed(f"the instance {what} within {limit:.0f} s{': ' + self._last if self._last else ''}")

    def _give_up(self, job: Job, world: World, why: str) -> None:
        self.fault = self.fault or why
        row = self._row(job)
        if row is not None and row.resource_id is not None and not self.console:
            try:
                self.console = instances.console(world.clients.reader, row.resource_id).text[-_TAIL:]
            except AwsError as error:
                log.info("%s: no console: %s", self.instance_type, error.message)
        self._enter("end", world)

    def _finish(self, job: Job, world: World) -> None:
        now = world.clock.now()
        by_ssh = self.place.console is None
        self.result = {
            "result": "failed" if self.fault else "verified",
            "ami": job.ami_id,
            "at": isoformat(now),
            "seconds": round(now - self._began, 1),
            "by": "ssh" if by_ssh else "console",
            "identity": self.identity,
            "file": "not reached" if self.fault else "kept" if by_ssh else "not looked at",
            "message": self.fault,
        }


class _Closing:
    """A connection for the length of a block."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def __enter__(self) -> Shell:
        return self._shell

    def __exit__(self, *_: object) -> None:
        self._shell.close()


def _run(shell: Shell, command: str) -> str:
    """Return what a command prints; it must succeed."""
    answer = shell.run(command, timeout=_COMMAND)
    if answer.status != 0:
        said = (answer.stderr or answer.stdout)[:200].decode("utf-8", "replace").strip()
        raise _Failed(f"`{command[:60]}` ended with status {answer.status}: {said}")
    return answer.stdout.decode("utf-8", "replace").strip()
