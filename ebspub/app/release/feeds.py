"""The seam between releases and what is written about them: query text, streams, pages.

A release calls it when all that is to be found may be used already, and takes what must not be found any more out of it
before it takes anything back. What is to be found are the rows of :func:`ebspub.store.releases.announced`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ebspub.config import Config
from ebspub.store import Store


class Feeds(Protocol):
    """Files rendered from the store.

    Several processes may publish different builds at once: whoever writes takes a lock of its own first, and reads the
    store after that, so that the last one to write has seen what all before it did.
    """

    def write(self, store: Store) -> Sequence[str]:
        """Bring the files to what the store says; return those that changed. Raises EbspubError."""

    def check(self, store: Store) -> Sequence[str]:
        """Return the files that are stale or missing, one line each; writes nothing. Raises EbspubError."""


class NoFeeds:
    """Nothing is configured to be written."""

    def write(self, store: Store) -> Sequence[str]:
        """Write nothing."""
        del store
        return ()

    def check(self, store: Store) -> Sequence[str]:
        """Find nothing amiss."""
        del store
        return ()


def configured(config: Config) -> Feeds:
    """Return the feeds that the configuration asks for."""
    del config
    return NoFeeds()
