"""How the source's artefact comes to the builder: what `download.sh` is told, and whether the publisher sends it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from ebspub.errors import ConfigError
from ebspub.source import is_local, path_of
from ebspub.spec import JobSpec

#: The name under which `download.sh` finds the artefact in a task's work folder.
NAME = "artefact"
#: What a URL may hold: nothing that ends it in the file that curl reads it from.
_URL = re.compile(r"[!#-\[\]-~]+", re.ASCII)


def local_file(spec: JobSpec) -> Path | None:
    """Return the artefact as a file of this machine, which the publisher sends; None for one that is downloaded."""
    return path_of(spec.source.url) if is_local(spec.source.url) else None


def parameters(spec: JobSpec, *, tries: int, pause: int) -> dict[str, str]:
    """Return the parameters of `download.sh`; :class:`ConfigError` for a source URL that is not plain http(s).

    ``tries`` downloads at most, with ``pause`` seconds between two at first.
    """
    uploaded = local_file(spec) is not None
    return {
        "url": "" if uploaded else _plain_url(spec.source.url),
        "uploaded": "yes" if uploaded else "no",
        "sha256": (spec.source.sha256 or "").lower(),
        "proxy": spec.builder.http_proxy or "",
        "download_seconds": str(int(spec.limits.populate)),
        "download_tries": str(tries),
        "download_pause": str(pause),
    }


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _URL.fullmatch(url):
        raise ConfigError(
            f"the source's URL is not a plain http(s) URL: {url!r}", todo="Percent-encode what is not ASCII."
        )
    return url
