"""A simulated EC2 region: what the steps use of it, with states that take time and things that stay invisible."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.chaos import Chaos, failure

#: How long (seconds) replicas may differ; limits.listing_lag is longer.
_SETTLED = 140.0


@dataclass
class Thing:
    """Anything in the region. ``states`` are (from when, state), oldest first."""

    id: str
    kind: str
    tags: dict[str, str]
    visible_at: float
    states: list[tuple[float, str]]
    data: dict[str, Any] = field(default_factory=dict)

    def state(self, now: float) -> str:
        """Return the state at ``now``."""
        return [name for since, name in self.states if since <= now][-1]

    def shown(self, now: float) -> str:
        """Return the state that a listing shows; of what is deleted, the one before."""
        return [name for since, name in self.states if since <= now and name != "deleted"][-1]

    def become(self, now: float, *states: tuple[float, str]) -> None:
        """Go through ``states``, each given as seconds from now."""
        self.states = [*[s for s in self.states if s[0] <= now], *((now + after, name) for after, name in states)]


class Region:
    """The control plane of one region, and what lies on its volumes."""

    def __init__(self, name: str, chaos: Chaos) -> None:
        self.name = name
        self.chaos = chaos
        self.things: dict[str, Thing] = {}
        self.tokens: dict[str, tuple[str, str]] = {}
        #: Instance types that nothing is left of, and actions that the credentials may not do.
        self.no_capacity: set[str] = set()
        self.denied: set[str] = set()
        #: The other regions of the account, by name; and how many snapshots may be on their way to this one.
        self.others: dict[str, Region] = {}
        self.copies_at_once = 2
        #: Whether the call that is being answered was under way for very long.
        self.late = False
        #: Told before each call that terminates an instance.
        self.on_terminate: Callable[[str], None] = lambda _: None
        self._ids = itertools.count(1)

    @property
    def now(self) -> float:
        """The virtual time."""
        return self.chaos.clock.now()

    def of(self, kind: str) -> list[Thing]:
        """Return all things of a kind, gone or not."""
        return [thing for thing in self.things.values() if thing.kind == kind]

    def alive(self, kind: str) -> list[Thing]:
        """Return the things of a kind that still exist."""
        return [t for t in self.of(kind) if t.state(self.now) not in ("terminated", "deleted", "shutting-down")]

    def get(self, action: str, name: str, kind: str, code: str) -> Thing:
        """Return a thing, or raise EC2's answer for one that does not exist."""
        found = self.things.get(name)
        if found is None or found.kind != kind or found.state(self.now) == "deleted":
            raise failure(action, code)
        return found

    def make(self, kind: str, tags: dict[str, str], *states: tuple[float, str], **data: Any) -> Thing:
        """Create a thing that may stay invisible for a while."""
        slow = self.chaos.weather.slow
        rng = self.chaos.rng
        hidden = 0.0 if self.chaos.calm else rng.random() * self.chaos.weather.visibility
        made = Thing(f"{_PREFIX[kind]}-{next(self._ids):08x}", kind, tags, self.now + hidden, [], data)
        made.become(self.now, *((after * slow, name) for after, name in states))
        self.things[made.id] = made
        self.chaos.tell(f"{self.name}: made {made.id} for {tags.get('ebspub:job', '?')}")
        return made

    def remove(self, thing: Thing, *states: tuple[float, str]) -> None:
        """Let a thing go."""
        thing.become(self.now, *(states or ((0.0, "deleted"),)))
        self.chaos.tell(f"{self.name}: removed {thing.id}")

    def settle(self) -> None:
        """Detach the volumes of instances that are gone."""
        for volume in self.of("volume"):
            holder = self.things.get(volume.data.get("instance") or "")
            if holder is not None and holder.state(self.now) == "terminated":
                volume.data["instance"] = None
                volume.become(self.now, (0.0, "available"))

    def _shown(self, thing: Thing) -> bool:
        """Whether a look shows a thing: for a while after a change another replica may answer with what was."""
        since, state = [s for s in thing.states if s[0] <= self.now][-1]
        there = thing.visible_at <= self.now and state != "deleted"
        lately = self.now < (since if state == "deleted" else thing.states[0][0]) + _SETTLED
        return there != (lately and self.chaos.happens(self.chaos.weather.stale))

    def listed(self, kind: str, filters: list[dict[str, Any]]) -> list[Thing]:
        """Return what a describe call shows."""
        self.settle()
        found = [t for t in self.of(kind) if self._shown(t)]
        for condition in filters:
            name, values = condition["Name"], condition["Values"]
            if name.startswith("tag:"):
                found = [t for t in found if t.tags.get(name[4:]) in values]
            elif name == "snapshot-id":
                found = [t for t in found if t.id in values]
            elif name == "name":
                found = [t for t in found if t.data["Name"] in values]
            else:
                raise AssertionError(name)
        return found


_PREFIX = {"instance": "i", "volume": "vol", "snapshot": "snap", "image": "ami", "group": "sg"}


def tags_of(arguments: dict[str, Any], kind: str) -> dict[str, str]:
    """Return the tags that a creating call asks for."""
    for specification in arguments.get("TagSpecifications", ()):
        if specification["ResourceType"] == kind:
            return {tag["Key"]: tag["Value"] for tag in specification["Tags"]}
    return {}
