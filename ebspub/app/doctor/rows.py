"""What the doctor says: rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How well something is."""

    GREEN = "green"  #: well
    YELLOW = "yellow"  #: works, or could not be told
    RED = "red"  #: publishing fails until it is mended


@dataclass(frozen=True, slots=True)
class Row:
    """One finding. ``subject``: a region, an account, or what is on this machine. Every red row says what to do."""

    subject: str
    check: str
    level: Level
    what: str
    todo: str = ""

    def document(self) -> Mapping[str, Any]:
        """Return it as JSON."""
        return {
            "subject": self.subject,
            "check": self.check,
            "level": self.level.value,
            "what": self.what,
            "todo": self.todo,
        }


def exit_code(rows: Sequence[Row]) -> int:
    """Return 3 where a row is red, else 0."""
    return 3 if any(row.level is Level.RED for row in rows) else 0
