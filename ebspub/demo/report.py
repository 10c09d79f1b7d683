"""What happens in the demonstration, as it is said and as it is written down."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ebspub.errors import EbspubError

Say = Callable[[str], None]


class DemoError(EbspubError):
    """The demonstration did not go as it must."""

    exit_code = 3


@dataclass
class Report:
    """What happened, as it is said and as it is written down."""

    say: Say
    lines: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def tell(self, line: str) -> None:
        """Say a line, with the seconds since the beginning."""
        text = f"[{time.monotonic() - self.began:5.1f} s] {line}"
        self.lines.append(text)
        self.say(text)

    def show(self, text: str) -> None:
        """Show what a command printed, indented."""
        for line in text.rstrip().splitlines():
            self.lines.append(f"    {line}")
            self.say(f"    {line}")
