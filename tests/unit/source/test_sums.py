"""SHA256SUMS files, strictly."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.errors import SourceError
from ebspub.source import artefact_name, parse_sums

A, B = "a" * 64, "b" * 64


def test_both_forms_of_sha256sum_are_read() -> None:
    content = f"{A} *lucid-server-uec-amd64.tar.gz\n{B.upper()}  two words.img\r\n\n".encode()
    assert parse_sums(content, origin="x") == {"lucid-server-uec-amd64.tar.gz": A, "two words.img": B}


@pytest.mark.needs_tool("sha256sum")
@pytest.mark.parametrize("option", ["--binary", "--text"])
def test_what_sha256sum_writes_is_read(tmp_path: Path, option: str) -> None:
    (tmp_path / "image.tar.gz").write_bytes(b"image")
    run = subprocess.run(["sha256sum", option, "./image.tar.gz"], cwd=tmp_path, capture_output=True, check=True)
    assert parse_sums(run.stdout, origin="x") == {"image.tar.gz": hashlib.sha256(b"image").hexdigest()}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it lists no file"),
        (b"\n\n", "it lists no file"),
        (b"<html>404</html>", "line 1 is not"),
        (f"{A} *f\n{A}".encode(), "line 2 is not"),
        (f"{A[:-1]} *f".encode(), "line 1 is not"),
        (f"{A}0 *f".encode(), "line 1 is not"),
        (f"{A} f".encode(), "line 1 is not"),
        (f"{A}\t*f".encode(), "line 1 is not"),
        (f" {A} *f".encode(), "line 1 is not"),
        (f"{A} *".encode(), "line 1 is not"),
        (f"{A} *f\n{B} *f".encode(), "line 2 gives a second checksum for 'f'"),
        (f"{A} *f\n{B} *./f".encode(), "line 2 gives a second checksum for 'f'"),
        (b"\xff\xfe", "it is not text"),
    ],
)
def test_anything_else_proves_nothing(content: bytes, why: str) -> None:
    with pytest.raises(SourceError, match=why.replace("'", ".")) as caught:
        parse_sums(content, origin="https://example.com/SHA256SUMS")
    assert "https://example.com/SHA256SUMS" in caught.value.what
    assert caught.value.todo


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_content_is_checksums_or_a_source_error(content: bytes) -> None:
    try:
        found = parse_sums(content, origin="x")
    except SourceError:
        return
    assert all(len(sha256) == 64 and name for name, sha256 in found.items())


def test_the_artefact_is_the_last_part_of_the_path() -> None:
    assert artefact_name("https://example.com/a/b.img?c=d/e") == "b.img"
    assert artefact_name("https://example.com/a/b%2Bc.img") == "b+c.img"
