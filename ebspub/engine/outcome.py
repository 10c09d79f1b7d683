"""What a step may answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Done:
    """The step is complete. ``facts`` are kept with the job; ``ids`` are columns of it: instance_id, ami_id."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    ids: Mapping[str, str] = field(default_factory=dict)
    #: The edge to take: the step's own, or `adopt`.
    trigger: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again when the region has been looked at once more, ``after`` seconds from now at the earliest."""

    why: str
    after: float = 0.0
    progress: Mapping[str, Any] | None = None
    #: Because something was refused: the tries so far still count, so that trouble is asked for more and more rarely.
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class Back:
    """What the job stood on is lost: go back by an explicit edge (``lose_builder``...) and start the next attempt."""

    trigger: str
    reason: str
    code: str = ""
    request_id: str = ""
    #: What a person is to do where no attempt is left; empty: what a lost builder asks for.
    todo: str = ""


Outcome = Done | Wait | Back
