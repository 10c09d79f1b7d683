"""A configuration that is right, as text, for tests that break one thing in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import Config, parse
from ebspub.errors import ConfigError

HEAD = """
[builder]
images.amd64 = "ami-0a1b2c3d4e5f60718"
images.arm64 = "ssm:/images/arm64"
ssh_cidr = "203.0.113.0/24"
"""
REGIONS = """
[regions.us-east-1]
[regions.eu-west-1]
"""
BUILD = """
[[builds]]
suite = "lucid"
label = "release"
version = "10.04"
serial = "20101020"
arches = ["amd64"]
[builds.source]
url = "https://example.com/{suite}/{serial}/{suite}-server-uec-{arch}.tar.gz"
sha256sums = "https://example.com/{suite}/{serial}/SHA256SUMS"
keyring = "keys.gpg"
"""

Problems = Callable[[str], tuple[str, ...]]
Texts = Callable[..., str]


@pytest.fixture
def text() -> Texts:
    """Return a function that gives a right configuration's text, with replacements: ``text(("a", "b"), end="")``."""

    def make(*replacements: tuple[str, str], head: str = HEAD, regions: str = REGIONS, end: str = "") -> str:
        whole = head + regions + BUILD + end
        for old, new in replacements:
            assert old in whole
            whole = whole.replace(old, new)
        return whole

    return make


@pytest.fixture
def config(text: Texts) -> Callable[..., Config]:
    """Return a function that parses what ``text`` gives."""
    return lambda *args, **kwargs: parse(text(*args, **kwargs))


@pytest.fixture
def problems() -> Problems:
    """Return a function that gives the problems of a text; it must have some."""

    def of(document: str) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            parse(document, origin="here.toml")
        assert caught.value.exit_code == 2
        return caught.value.problems

    return of
