"""Every command of the README is executed, in its order, in an empty folder, as a new user would."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ebspub.demo.image import make_images, serve
from ebspub.demo.signing import sign_sums
from tests.local.publisher import Publisher

pytestmark = [pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
#: `make demo` and `make test` are what CI itself runs (.ci/run): a test that ran the tests would never end.
#: `make bench` takes minutes; its own test runs it with a tiny image.
BY_CI = {"make demo", "make test", "make bench"}
#: Lines of literal blocks that are no commands.
NO_COMMANDS = re.compile(r"pending ->|\*/10 \* \* \* \*")


def commands() -> list[str]:
    """Return the lines of the README's literal blocks that are commands."""
    found: list[str] = []
    opened: int | None = None  # the indentation of the paragraph that ended with `::`
    for line in (ROOT / "README.rst").read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if opened is not None and line.strip() and indent <= opened:
            opened = None
        if opened is not None and line.strip() and not NO_COMMANDS.search(line):
            found.append(line.strip())
        if opened is None and line.rstrip().endswith("::"):
            opened = indent
    return found


def test_the_commands_of_the_readme_are_found() -> None:
    assert [c for c in commands() if c.startswith("ebspub run")] == ["ebspub run --serial 20100427.1"]
    assert set(commands()) >= BY_CI
    assert "bash .ci/run" not in commands()
    assert "make demo" in (ROOT / ".ci/run").read_text()
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "make test-long" in (ROOT / ".ci/run").read_text()  # which passes the next one


@pytest.mark.long
def test_the_commands_of_the_readme_do_what_it_says(publisher: Publisher, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("ebspub", "migrations", "examples"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("constraints.txt", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, checkout / name)
    images = tmp_path / "mirror"
    release = make_images(images, suite="lucid", serial="20100427.1", arches=["amd64"], content_mib=2, size_mib=64)
    sign_sums(release).rename(checkout / "mirror-keyring.gpg")
    release.rename(images / "lucid" / "release-20100427.1")
    (images / "releases").mkdir()
    (images / "lucid").rename(images / "releases" / "lucid")
    with serve(images) as mirror:
        for command in commands():
            if command not in BY_CI:
                _run(publisher, checkout, command)
            if command.startswith("cp "):
                _edit(checkout / "ebspub.toml", mirror, publisher)
    assert publisher.mine(publisher.cloud.inventory().images) == []
    (image,) = [i for i in publisher.cloud.inventory().images if "20100427.1" in i.name]
    assert image.name.endswith("ubuntu-lucid-10.04-amd64-server-20100427.1")


def _run(publisher: Publisher, folder: Path, command: str) -> None:
    binaries = f"{os.environ['HOME']}/ebspub/bin:{Path(sys.executable).parent}"
    environment = {**publisher.environment, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONPATH": ""}
    process = subprocess.Popen(
        ["/bin/bash", "-c", command if command.startswith("export ") else f"exec {command}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    told = ""
    if "--watch" in command:
        assert process.stdout is not None
        told = process.stdout.readline()  # it watches
        process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, f"{command}\n{told}{out}"


def _edit(config: Path, mirror: str, publisher: Publisher) -> None:
    """Do what the README asks for: put the mirror, the network and the regions in. The rest is the embedded cloud's."""
    text = config.read_text().replace("https://mirror.example.com", mirror).replace("203.0.113.0/24", "127.0.0.1/32")
    text = text.replace("[builder]", f"[builder]\nssh_port = {publisher.cloud.ssh_port}", 1)
    config.write_text(f"[engine]\npoll_interval = 0.5\n[limits]\nlisting_lag = 5\n[volume]\nsize = 1\n{text}")
