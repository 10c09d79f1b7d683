"""The step protocol, and the world in which a step is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ebspub.aws.clients import RegionClients
from ebspub.aws.view import RegionView
from ebspub.clock import Clock
from ebspub.engine.effects import Effects
from ebspub.engine.outcome import Outcome
from ebspub.engine.shells import Shells
from ebspub.engine.uploads import Uploads
from ebspub.remote.keys import Keyring
from ebspub.states import Kind, State
from ebspub.store import Job


@dataclass(frozen=True)
class World:
    """All that a step sees and can do, for one job at one moment."""

    clock: Clock
    view: RegionView
    clients: RegionClients
    effects: Effects
    shells: Shells
    uploads: Uploads
    keyring: Keyring


class Step(Protocol):
    """The work that leads out of one state. Raises AwsError, RemoteError (tried again) or JobError (the job fails)."""

    @property
    def name(self) -> str:
        """The verb: launch, attach, populate, snapshot, register."""

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of resource that it must see in the view."""

    def advance(self, job: Job, world: World) -> Outcome:
        """Look, make at most the one effect that is missing, and say what comes next."""

    def overdue(self, job: Job) -> Outcome:
        """Say what to do when the step has taken longer than its limit; or raise JobError."""


Steps = Mapping[State, Step]
