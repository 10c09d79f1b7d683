"""What a sweep found and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ebspub.states import Kind


class Action(StrEnum):
    """What was done about a thing, or is to be done (in a dry run)."""

    REMOVE = "remove"  #: a dry run: would be removed
    REMOVED = "removed"
    LATER = "later"  #: cannot go yet: the next sweep removes it
    FAILED = "failed"  #: EC2 refused to remove it
    YOUNG = "young"  #: left, because it is younger than the grace time
    REPORT = "report"  #: left, because nobody can tell whether it is needed
    GONE = "gone"  #: the database believed in it; it is marked as gone
    LOST = "lost"  #: published, and gone from the account
    MISSING = "missing"  #: gone, of a job that has not ended; marked as gone, and `ebspub resume` goes on without it
    UNSURE = "unsure"  #: EC2 neither shows it nor says that it is gone: left as it is


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: why, and what it costs in dollars a month (None: not known)."""

    region: str
    kind: Kind
    id: str
    job: str
    action: Action
    reason: str
    monthly: float | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "region": self.region,
            "kind": self.kind.value,
            "id": self.id,
            "job": self.job,
            "action": self.action.value,
            "reason": self.reason,
            "monthly": None if self.monthly is None else round(self.monthly, 2),
        }


@dataclass
class Report:
    """A sweep of some regions. ``errors``: by region, why it could not be looked at to the end."""

    dry_run: bool
    regions: tuple[str, ...] = ()
    needed: int = 0
    findings: list[Finding] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)

    def of(self, *actions: Action) -> list[Finding]:
        """Return the findings of some actions."""
        return [finding for finding in self.findings if finding.action in actions]

    @property
    def saved(self) -> float:
        """Dollars a month that are saved, or (dry run) would be; what is not known counts as nothing."""
        return sum(finding.monthly or 0.0 for finding in self.of(Action.REMOVED, Action.REMOVE))

    @property
    def exit_code(self) -> int:
        """0, or 3 where a region or a removal failed."""
        return 3 if self.errors or self.of(Action.FAILED) else 0

    def document(self) -> Mapping[str, Any]:
        """Return it as JSON."""
        return {
            "dry_run": self.dry_run,
            "regions": list(self.regions),
            "needed": self.needed,
            "things": [finding.document() for finding in self.findings],
            "monthly_saved": round(self.saved, 2),
            "errors": dict(self.errors),
        }
