"""What the builder says no to."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 - what the builder says no to
    """The work cannot be done: ``code`` as in :mod:`ebspub.populate.method`, and a message."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")
