"""A cloud that is quick but hides what was just made, a recorded run, and the table of all points at the end.

``--whole`` (`make crash`) tries every point instead of a share of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any, cast

import pytest

from ebspub.demo.image import make_images, serve
from ebspub.demo.setting import ARCHES, SERIAL, SUITE
from ebspub.demo.signing import sign_sums
from ebspub.demo.verify import source_tree
from ebspub.localcloud import running
from tests.conftest import Need
from tests.crash.points import QUICK, Quick, Recording, record

_WIDTHS = (8, 38, 7, 8)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, need: Need, _session_isolation: None) -> Iterator[Quick]:
    """Yield a publisher without a database: a running cloud, a web server with a small image, and its tree."""
    need.loop()
    need.tool("sshd", "sudo", "mke2fs", "curl", "gpg", "gpgv")
    folder = tmp_path_factory.mktemp("crash")
    images = make_images(folder / "images", suite=SUITE, serial=SERIAL, arches=ARCHES, content_mib=1, size_mib=32)
    sign_sums(images)
    trees = {arch: source_tree(images, SUITE, arch, folder) for arch in ARCHES}
    with ExitStack() as stack:
        url = stack.enter_context(serve(folder / "images"))
        cloud = stack.enter_context(running(folder / "cloud", QUICK))
        yield Quick(folder, cloud, url, trees, images)


@pytest.fixture(scope="session")
def recording(stage: Quick, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Yield what a run does that nobody disturbs."""
    publisher = stage.at(tmp_path_factory.mktemp("recording"))
    try:
        yield record(publisher, "us-east-1")
    finally:
        publisher.end()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    rows: list[Sequence[str]] = [
        row
        for reports in terminalreporter.stats.values()
        for report in reports
        if type(report) is pytest.TestReport and report.when == "call"
        for name, rows in report.user_properties
        if name == "crash-points"
        for row in cast(list[Sequence[str]], rows)
    ]
    if not rows:
        return
    terminalreporter.section("the publisher was killed at")
    for kind, action, when, seconds, result in [("point", "action", "when", "seconds", "result"), *rows]:
        columns = "  ".join(
            text.ljust(width) for text, width in zip((kind, action, when, seconds), _WIDTHS, strict=True)
        )
        terminalreporter.write_line(f"{columns}  {result}")
    terminalreporter.write_line(f"{len(rows)} points")
