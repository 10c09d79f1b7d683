"""The embedded cloud with an image to publish, shared by the tests of a worker; each test has a database of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebspub.demo.image import make_images, serve
from ebspub.demo.setting import ARCHES, SERIAL, SUITE
from ebspub.demo.signing import sign_sums
from ebspub.demo.verify import source_tree
from ebspub.localcloud import Delays, Settings, running
from tests.conftest import Need
from tests.local.publisher import Publisher


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, need: Need, _session_isolation: None) -> Iterator[Publisher]:
    """Yield a publisher without a database: a running cloud, a web server with images, and the trees in them."""
    need.loop()
    need.tool("sshd", "sudo", "mke2fs", "curl", "gpg", "gpgv")
    folder = tmp_path_factory.mktemp("stage")
    images = make_images(folder / "images", suite=SUITE, serial=SERIAL, arches=ARCHES, content_mib=4, size_mib=64)
    sign_sums(images)
    trees = {arch: source_tree(images, SUITE, arch, folder) for arch in ARCHES}
    with ExitStack() as stack:
        url = stack.enter_context(serve(folder / "images"))
        cloud = stack.enter_context(running(folder / "cloud", Settings(delays=Delays.all(0.2))))
        yield Publisher(folder, cloud, url, trees, images)


@pytest.fixture
def publisher(stage: Publisher, tmp_path: Path) -> Iterator[Publisher]:
    """Yield a publisher with an empty database and a serial of its own; the cloud is well and empty afterwards."""
    fresh = stage.at(tmp_path)
    yield fresh
    fresh.end()
    stage.cloud.heal()
