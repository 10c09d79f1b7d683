"""Faults: which calls go wrong, and how.

A rule matches calls (by action, region, parameters), picks some of the matching ones (the n-th and so many after it, or
at random with a seed), and has effects before or after the call takes effect.
"""

from __future__ import annotations

import itertools
import random
import threading
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ebspub.localcloud.calls import Incoming


class Effect(BaseModel):
    """One thing that goes wrong.

    ``error`` answers an error code, ``drop`` closes the connection without an answer, ``delay`` waits ``seconds``,
    ``kill`` sends SIGKILL to ``pid`` and gives no answer. *before*: the call does not take effect (but for ``delay``);
    *after*: it has taken effect, and its answer is replaced, lost or late.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["error", "drop", "delay", "kill"]
    when: Literal["before", "after"] = "before"
    code: str = "InternalError"
    status: int = Field(500, ge=400, le=599)
    message: str = "An internal error has occurred"
    seconds: float = Field(0.0, ge=0)
    pid: int = Field(0, ge=0)


class Rule(BaseModel):
    """Which calls have which effects. Empty ``actions``, ``regions`` and ``params`` match everything.

    Without ``rate``: all ``effects`` on the ``nth`` matching call since the rule was added and on the ``times - 1``
    after it (``times`` None: for ever). With ``rate``: one of ``effects``, drawn with ``seed``, on that share of calls.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    effects: tuple[Effect, ...] = Field(min_length=1)
    actions: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    params: dict[str, str] = {}
    mutating: bool = Field(False, description="match only calls that change something")
    nth: int = Field(1, ge=1)
    times: int | None = Field(1, ge=1)
    rate: float | None = Field(None, ge=0, le=1)
    seed: int = 0

    def matches(self, incoming: Incoming) -> bool:
        """Tell whether the rule is about this call."""
        return (
            (not self.actions or incoming.action in self.actions)
            and (not self.regions or incoming.region in self.regions)
            and (not self.mutating or incoming.mutating)
            and all(incoming.params.get(name) == value for name, value in self.params.items())
        )


class _Armed:
    """A rule and how often it matched."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.matched = 0
        self.struck = 0
        self._random = random.Random(rule.seed)  # noqa: S311 -- reproducible faults, no secrets

    def strike(self, incoming: Incoming) -> tuple[Effect, ...]:
        rule = self.rule
        if not rule.matches(incoming):
            return ()
        self.matched += 1
        if rule.rate is not None:
            # Both draws are made for every call, so that the n-th call fares alike whatever the rate.
            draw, effect = self._random.random(), self._random.choice(rule.effects)
            effects: tuple[Effect, ...] = (effect,) if draw < rule.rate else ()
        else:
            late = self.matched - rule.nth
            effects = rule.effects if late >= 0 and (rule.times is None or late < rule.times) else ()
        self.struck += bool(effects)
        return effects


class RuleStatus(BaseModel):
    """A rule in force: its id, how many calls it matched, and on how many it had an effect."""

    id: int
    rule: Rule
    matched: int
    struck: int


class FaultBook:
    """The rules in force."""

    def __init__(self) -> None:
        self._armed: dict[int, _Armed] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def add(self, rule: Rule) -> int:
        """Put a rule in force; returns its id."""
        with self._lock:
            number = next(self._ids)
            self._armed[number] = _Armed(rule)
        return number

    def remove(self, number: int | None = None) -> None:
        """Lift one rule, or all of them."""
        with self._lock:
            if number is None:
                self._armed.clear()
            else:
                self._armed.pop(number, None)

    def strike(self, incoming: Incoming) -> list[Effect]:
        """Return what goes wrong with this call. Counts: to be asked once per call."""
        with self._lock:
            return [effect for armed in self._armed.values() for effect in armed.strike(incoming)]

    def status(self) -> list[RuleStatus]:
        """Return the rules in force and what they did."""
        with self._lock:
            return [
                RuleStatus(id=number, rule=a.rule, matched=a.matched, struck=a.struck)
                for number, a in self._armed.items()
            ]
