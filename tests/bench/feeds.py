"""How long the feeds take: every format rendered, and the locator's page in a fresh browser."""

from __future__ import annotations

import shutil
import statistics
import time

from ebspub.feeds import every
from ebspub.feeds.catalog import Catalog
from tests.bench.report import FEEDS, Timed
from tests.contract.feeds.measure import page
from tests.unit.feeds.facts import many


def measured(rounds: int, most: int) -> list[Timed]:
    """Return medians of ``rounds``, of at most ``most`` AMIs; of the page only where there is a browser."""
    taken: dict[str, list[float]] = {name: [] for name in FEEDS}
    for _ in range(rounds):
        taken["rendered"].append(_rendered(min(most, FEEDS["rendered"][0])))
        if shutil.which("chromium") and shutil.which("chromedriver"):
            taken["page loaded"].append(page(min(most, FEEDS["page loaded"][0]))[0])
    return [
        Timed(name, min(most, FEEDS[name][0]), statistics.median(seconds), FEEDS[name][1])
        for name, seconds in taken.items()
        if seconds
    ]


def _rendered(count: int) -> float:
    catalog = Catalog.of(many(count))
    begin = time.perf_counter()
    every.render(catalog)
    return time.perf_counter() - begin
