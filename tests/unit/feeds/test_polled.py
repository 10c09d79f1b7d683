"""The feeds as they are, signed, read over and over while one build after the other is published."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebspub.demo.signing import Signer, signer
from ebspub.feeds import every, files
from tests.unit.feeds import readers
from tests.unit.feeds.writers import start, version

#: Versions to be published at most, and to be seen.
LAST, SEEN = 40, 3
STREAMS = Path("streams/v1")


@pytest.fixture
def key() -> Iterator[Signer]:
    with signer() as found:
        found.make_key()
        yield found


def whole(folder: Path, known: dict[str, dict[bytes, int]]) -> set[int]:
    """Read all that is not signed: each file must be that of one version, to the last byte. Return the versions."""
    found = files.read(folder, known.__contains__)
    return {known[path][hashlib.sha256(content).digest()] for path, content in found.items()}


@pytest.mark.needs_tool("gpg", "gpgv")
def test_readers_never_see_half_of_any_file(key: Signer, tmp_path: Path) -> None:
    known: dict[str, dict[bytes, int]] = {}
    for number in reversed(range(1, LAST + 1)):
        for path, content in every.render(version(number)).items():
            known.setdefault(path, {})[hashlib.sha256(content).digest()] = number
    keyring = key.export(tmp_path / "keyring.gpg")
    folder = tmp_path / "feeds"
    seen: set[int] = set()
    queried = 0
    with start("publish", folder, key.home, key.fingerprint, LAST) as writer:
        while len(seen) < SEEN or not queried:
            assert writer.poll() is None
            seen |= whole(folder, known)
            rows = folder / "query/noble/server/released.current.txt"
            if not (folder / STREAMS / "index.sjson").exists():
                continue
            # It complains of whatever is not signed, not whole, or named and not there.
            items = readers.sstream_query(folder / STREAMS / "index.sjson", keyring)
            queried = len({each["version_name"] for each in items})
            assert len(readers.strict(rows.read_text())) == 2
            index = json.loads((folder / STREAMS / "index.json").read_bytes())["index"]
            assert all((folder / each["path"]).exists() for each in index.values())
        writer.communicate()
    assert writer.returncode == 0
    assert whole(folder, known)
