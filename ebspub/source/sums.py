"""SHA256SUMS files as ``sha256sum`` writes them and Ubuntu publishes them: ``<64 hex> *<file>`` a line."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from ebspub.errors import SourceError

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](\S.*)")


def artefact_name(url: str) -> str:
    """Return the file name that a SHA256SUMS beside ``url`` would list: its last path component, unquoted."""
    return unquote(urlsplit(url).path.rsplit("/", 1)[-1])


def parse_sums(content: bytes, *, origin: str) -> dict[str, str]:
    """Return the checksums in ``content`` by file name: ``{"lucid-server-uec-amd64.tar.gz": "<64 lower-case hex>"}``.

    Strict: every line that is not empty is 64 hex digits, a space, a space (text) or an asterisk (binary), and a name.
    A file that is listed twice with two checksums proves nothing. ``origin`` (the URL) is for messages. Raises
    :class:`SourceError`.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unusable(origin, "it is not text") from error
    found: dict[str, str] = {}
    # Not splitlines(): that breaks lines at form feeds and Unicode separators, too.
    for number, line in enumerate(text.split("\n"), start=1):
        stripped = line.rstrip("\r")
        if not stripped:
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            raise _unusable(origin, f"line {number} is not `<64 hex digits> *<file>`")
        name, sha256 = match[2].removeprefix("./"), match[1].lower()
        if found.setdefault(name, sha256) != sha256:
            raise _unusable(origin, f"line {number} gives a second checksum for {name!r}")
    if not found:
        raise _unusable(origin, "it lists no file")
    return found


def listed_names(content: bytes) -> frozenset[str]:
    """Return the names in a file that may be a SHA256SUMS, signed in the clear or not; proves nothing."""
    matches = (_LINE.fullmatch(line.rstrip("\r")) for line in content.decode("utf-8", "replace").split("\n"))
    return frozenset(match[2].removeprefix("./") for match in matches if match is not None)


def _unusable(origin: str, why: str) -> SourceError:
    return SourceError(
        f"{origin} cannot be used: {why}",
        todo="Open it in a browser: is sha256sums the URL of a SHA256SUMS file? Nothing was touched.",
    )
