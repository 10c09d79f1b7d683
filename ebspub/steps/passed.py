"""States that a way has no work for: passed through and recorded, so that all ways know the same words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ebspub.engine.outcome import Back, Done, Outcome
from ebspub.engine.step import World
from ebspub.states import Kind
from ebspub.store import Job


class Pass:
    """The step ``name`` without work; ``facts`` say why there is none."""

    kinds: ClassVar[frozenset[Kind]] = frozenset()

    def __init__(self, name: str, facts: Mapping[str, Any]) -> None:
        self.name = name
        self._facts = facts

    def advance(self, job: Job, world: World) -> Outcome:
        """Pass."""
        del job, world
        return Done(dict(self._facts))

    def overdue(self, job: Job) -> Outcome:
        """It takes no time."""
        return Back("lose_builder", f"{job.id} was not driven for long")
