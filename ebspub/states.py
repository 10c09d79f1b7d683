"""The words of a publish job (states, statuses, kinds of resource), and the table of what may follow what.

``state`` is the last completed step and one of six words. Whether anybody is at the job is its ``status``; a failure
therefore never forgets how far the job got. :class:`Lifecycle` holds the table as a `transitions` machine:
triggers are the steps, and every other way (back to pending with a lost builder, adopted because the AMI already
exists) is an explicit edge. No work is done in callbacks; the machine has no model and is never fired, only read, so
that any number of threads may ask it at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from transitions import Machine, MachineError


class State(StrEnum):
    """The last completed step of a job."""

    PENDING = "pending"
    LAUNCHED = "launched"
    ATTACHED = "attached"
    POPULATED = "populated"
    SNAPSHOTTED = "snapshotted"
    REGISTERED = "registered"


class Status(StrEnum):
    """Whether anybody is at the job."""

    WAITING = "waiting"  #: to be driven; nobody is at it
    RUNNING = "running"  #: a process holds its lease and drives it
    FAILED = "failed"  #: stopped by an error; `resume` goes on
    CANCELLING = "cancelling"  #: being cleaned up
    CANCELLED = "cancelled"  #: ended without an AMI, everything cleaned up
    DONE = "done"  #: ended with an AMI


class Kind(StrEnum):
    """What we make in EC2."""

    INSTANCE = "instance"
    VOLUME = "volume"
    SNAPSHOT = "snapshot"
    IMAGE = "image"
    GROUP = "security-group"


#: The step that leads out of each state.
STEP_AFTER: dict[State, str] = {
    State.PENDING: "launch",
    State.LAUNCHED: "attach",
    State.ATTACHED: "populate",
    State.POPULATED: "snapshot",
    State.SNAPSHOTTED: "register",
}

_FORWARD: list[dict[str, Any]] = [
    {"trigger": step, "source": source, "dest": dest}
    for (source, step), dest in zip(STEP_AFTER.items(), list(State)[1:], strict=True)
]
_BACK: list[dict[str, Any]] = [
    # A lost builder: its volume goes with it, the next attempt starts with a new one.
    {"trigger": "lose_builder", "source": [State.PENDING, State.LAUNCHED, State.ATTACHED], "dest": State.PENDING},
    # A lost volume: what was on it is lost. The builder that filled it is not reused: its work folder may be full.
    {
        "trigger": "lose_volume",
        "source": [State.LAUNCHED, State.ATTACHED, State.POPULATED],
        "dest": State.PENDING,
    },
    # A lost snapshot, its volume already deleted: everything but the identity is gone. Out of attached: the direct
    # method's, which is still being written and which EC2 gave up.
    {
        "trigger": "lose_snapshot",
        "source": [State.ATTACHED, State.POPULATED, State.SNAPSHOTTED],
        "dest": State.PENDING,
    },
    # A cancelled job that is asked for again: it starts from the beginning.
    {"trigger": "revive", "source": [s for s in State if s is not State.REGISTERED], "dest": State.PENDING},
    # The AMI exists: another database, or an earlier life of this one, registered it.
    {"trigger": "adopt", "source": [s for s in State if s is not State.REGISTERED], "dest": State.REGISTERED},
]


class Lifecycle:
    """Judge whether a trigger may fire from a state, and where it leads. Safe to share between threads.

    >>> Lifecycle().target(State.PENDING, "launch")
    <State.LAUNCHED: 'launched'>
    """

    def __init__(self) -> None:
        self._machine = Machine(
            model=None,
            states=State,
            transitions=[*_FORWARD, *_BACK],
            initial=State.PENDING,
            auto_transitions=False,
            send_event=False,
        )
        self._targets = {(source, trigger): dest for source, trigger, dest in self.edges}

    def target(self, source: State, trigger: str) -> State:
        """Return the state that ``trigger`` leads to from ``source``.

        Raises :class:`transitions.MachineError` for an edge that is not in the table, which is a defect of the caller.
        """
        if (source, trigger) not in self._targets:
            raise MachineError(f"no edge {trigger!r} out of {source!r}")
        return self._targets[source, trigger]

    @property
    def edges(self) -> frozenset[tuple[State, str, State]]:
        """Every edge of the table: (source, trigger, dest)."""
        return frozenset(
            (State[t.source], name, State[str(t.dest)])
            for name, event in self._machine.events.items()
            for ts in event.transitions.values()
            for t in ts
        )
