"""Measure the feeds: ``python -m tests.contract.feeds.measure [IMAGES]`` prints how long everything takes.

It renders, writes, writes again, finds, and loads the page in a real browser (20,000 images, whatever IMAGES is).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ebspub.feeds import every, files, locator, query
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.find import Wanted, find
from tests.contract.feeds.browser import chromium
from tests.unit.feeds.facts import many

T = TypeVar("T")


def timed(what: str, work: Callable[[], T]) -> T:
    begin = time.perf_counter()
    result = work()
    print(f"{what:45} {time.perf_counter() - begin:6.2f} s")
    return result


def main(count: int) -> None:
    """Measure with ``count`` images."""
    images = list(many(count))
    catalog = timed(f"a catalogue of {count:,} images", lambda: Catalog.of(images))
    for name, renderer in every.RENDERERS.items():
        timed(f"rendered: {name}", lambda renderer=renderer: renderer(catalog, every.Options()))  # type: ignore[misc]
    rendering = timed("rendered: everything", lambda: every.render(catalog, every.Options()))
    print(f"{'':45} {sum(map(len, rendering.values())) / 1e6:6.1f} MB in {len(rendering)} files")
    with tempfile.TemporaryDirectory() as folder:
        timed("written", lambda: files.write(rendering, Path(folder)))
        timed("written again", lambda: files.write(rendering, Path(folder)))
    kept = timed("merged with what was there", lambda: query.keep(catalog, rendering, {}))
    timed("rendered again: query data", lambda: query.render(kept))
    timed("found", lambda: find(images, Wanted(arch="arm64")))
    loading, typing = page(20_000)
    print(f"{'the page of 20,000 images, loaded':45} {loading:6.2f} s")
    print(f"{'the page of 20,000 images, a letter typed':45} {typing:6.3f} s")


def page(count: int) -> tuple[float, float]:
    """Return the seconds that a fresh browser takes to load the page of ``count`` images, and for a letter typed."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as profile:
        files.write(locator.render(Catalog.of(many(count)), every_serial=True), Path(folder))
        with chromium(Path(profile)) as browser:
            browser.open((Path(folder) / locator.PAGE).as_uri())
            loading = browser.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")
            typing = browser.run(
                "const begin = performance.now(), input = document.querySelectorAll('#filters input')[6];"
                "input.value = '4e'; input.dispatchEvent(new Event('input')); return performance.now() - begin"
            )
    return loading / 1000, typing / 1000


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
