"""What came of publishing builds, or of taking them back."""

from __future__ import annotations

from dataclasses import dataclass, field

from ebspub.app.release.wanted import Change
from ebspub.errors import BusyError, EbspubError


@dataclass
class Released:
    """What came of one release. ``errors``: what stands in the way, by region; those of no region under an empty name.

    ``missing``: ids of jobs of its regions that are not registered; ``files``: what changed in the feeds; ``warnings``:
    what is probably not meant.
    """

    id: str
    label: str = ""
    state: str = ""
    made: list[Change] = field(default_factory=list)
    errors: dict[str, EbspubError] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    busy: bool = False


@dataclass
class Result:
    """What came of a command."""

    releases: list[Released] = field(default_factory=list)
    signal: int = 0

    @property
    def exit_code(self) -> int:
        """The documented exit code (:mod:`ebspub.errors`)."""
        if self.signal:
            return 128 + self.signal
        if any(each.errors for each in self.releases):
            return 3
        return BusyError.exit_code if any(each.busy for each in self.releases) else 0
