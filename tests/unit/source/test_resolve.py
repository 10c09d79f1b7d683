"""Every job gets the checksum of its artefact; every SHA256SUMS is fetched once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebspub.config import load, select
from ebspub.errors import ConfigError, SourceError
from ebspub.source import resolve
from ebspub.spec import JobSpec, Source

EXAMPLES = Path(__file__).parents[3] / "examples"
AMD64, I386 = "a" * 64, "b" * 64
SUMS = f"{AMD64} *lucid-server-uec-amd64.tar.gz\n{I386} *lucid-server-uec-i386.tar.gz\n".encode()


@pytest.fixture
def specs() -> tuple[JobSpec, ...]:
    return select(load(EXAMPLES / "lucid.toml"))


class Fetched:
    """A fetch that remembers what it was asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.urls: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.urls.append(url)
        return self.content


def test_each_arch_gets_its_own_checksum_from_one_look(specs: tuple[JobSpec, ...]) -> None:
    fetch = Fetched(SUMS)
    resolved = resolve(specs, fetch)
    assert [spec.job_id for spec in resolved] == [spec.job_id for spec in specs]
    assert {(spec.arch, spec.source.sha256) for spec in resolved} == {("amd64", AMD64), ("i386", I386)}
    assert fetch.urls == ["https://mirror.example.com/releases/lucid/release-20100427.1/SHA256SUMS"]
    assert all(spec.source.sha256 is None for spec in specs)


def test_a_checksum_that_is_there_costs_no_look(specs: tuple[JobSpec, ...]) -> None:
    fetch = Fetched(SUMS)
    resolved = resolve(specs, fetch)
    assert resolve(resolved, fetch) == resolved
    assert len(fetch.urls) == 1


def test_an_artefact_that_is_not_listed_is_named_with_its_neighbours(specs: tuple[JobSpec, ...]) -> None:
    with pytest.raises(SourceError) as caught:
        resolve(specs, Fetched(f"{AMD64} *lucid-server-cloudimg-amd64.tar.gz\n".encode()))
    assert "does not list 'lucid-server-uec-amd64.tar.gz'" in caught.value.what
    assert "it lists 'lucid-server-cloudimg-amd64.tar.gz'" in caught.value.what
    assert caught.value.exit_code == 2


def test_a_source_without_proof_is_a_config_error(specs: tuple[JobSpec, ...]) -> None:
    bare = specs[0].model_copy(update={"source": Source(url="https://example.com/x.img")})
    with pytest.raises(ConfigError, match=r"nothing proves https://example\.com/x\.img"):
        resolve([bare], Fetched(b""))


def test_nothing_to_resolve_is_nothing() -> None:
    assert resolve([], Fetched(b"")) == ()
