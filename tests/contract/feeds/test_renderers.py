"""What every format promises, whichever it is: a new one is picked up from the registry."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ebspub.feeds import every, query
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import in_order, write
from tests.unit.feeds.facts import image, lucid, many

BAD = image(serial="20240601", ami="ami-0bad0bad", released=1800000000.0)
IMAGES = [*lucid(), *many(400), image(region="cn-north-1", ami="ami-2"), image(label="daily", ami="ami-3")]
EVERY = every.Options(every_serial=True, url="https://images.example.com")
#: Prints what each format gives, by a process of its own.
_DIGESTS = """
import hashlib
from ebspub.feeds import every
from tests.contract.feeds.test_renderers import EVERY, IMAGES
from ebspub.feeds.catalog import Catalog
for name, renderer in every.RENDERERS.items():
    for path, content in renderer(Catalog.of(IMAGES), EVERY).items():
        print(name, path, hashlib.sha256(content).hexdigest())
"""

pytestmark = pytest.mark.parametrize("renderer", every.RENDERERS.values(), ids=every.RENDERERS)


def test_nothing_is_rendered_of_nothing(renderer: every.Renderer) -> None:
    assert renderer(Catalog(), every.Options()) == {}


def test_the_order_of_images_makes_no_difference(renderer: every.Renderer) -> None:
    images = list(IMAGES)
    first = renderer(Catalog.of(images), EVERY)
    random.Random(3).shuffle(images)
    assert renderer(Catalog.of(images), EVERY) == first
    assert first


def test_every_path_can_be_written(renderer: every.Renderer, tmp_path: Path) -> None:
    rendering = renderer(Catalog.of(IMAGES), EVERY)
    assert write(rendering, tmp_path).written == tuple(in_order(rendering))


def test_a_withdrawn_image_is_named_nowhere(renderer: every.Renderer) -> None:
    catalog = Catalog.of([*IMAGES, BAD])
    before = renderer(catalog, EVERY)
    assert any(b"ami-0bad0bad" in content for content in before.values())
    kept = {path: content for path, content in before.items() if query.is_query(path)}
    after = renderer(query.keep(catalog.withdraw([replace(BAD, released=1800000100.0)]), kept, {}), EVERY)
    assert not any(b"ami-0bad0bad" in content for content in after.values())
    assert any(b"ami-2" in content for content in after.values())


def test_all_images_withdrawn_leave_files_that_name_none(renderer: every.Renderer) -> None:
    after = renderer(Catalog.of(IMAGES).withdraw(IMAGES), EVERY)
    assert not any(b"ami-" in content for path, content in after.items() if not path.endswith((".html", ".js", ".css")))


@functools.cache
def elsewhere(seed: str, zone: str) -> str:
    """Return what a process with other hashes, in another time zone and language, renders."""
    env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", _DIGESTS], cwd=root, env=env, capture_output=True, text=True, check=True, timeout=100
    )
    return done.stdout


def test_neither_time_nor_place_nor_chance_is_in_it(renderer: every.Renderer) -> None:
    (name,) = [name for name, each in every.RENDERERS.items() if each is renderer]
    one, other = (
        [line for line in elsewhere(*where).splitlines() if line.startswith(f"{name} ")]
        for where in (("1", "Pacific/Auckland"), ("2", "America/Los_Angeles"))
    )
    assert one == other != []
