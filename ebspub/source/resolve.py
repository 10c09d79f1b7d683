"""Give every job the checksum of its artefact, from the SHA256SUMS that its source names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from ebspub.errors import ConfigError, SourceError
from ebspub.source.sums import artefact_name, parse_sums
from ebspub.spec import JobSpec, Source

#: Get a small document by its URL; raises :class:`SourceError`. :func:`ebspub.source.fetch.fetch` is one.
Fetch = Callable[[str], bytes]


def resolve(specs: Iterable[JobSpec], fetch: Fetch) -> tuple[JobSpec, ...]:
    """Return ``specs`` in their order, each with the SHA-256 of its artefact.

    A checksum that is there already is kept and costs no look; every SHA256SUMS is fetched once. Raises
    :class:`SourceError` where a file cannot be had or does not list the artefact, and :class:`ConfigError` for a
    source with nothing to prove it by.
    """
    sums: dict[str, dict[str, str]] = {}
    resolved: list[JobSpec] = []
    for spec in specs:
        if spec.source.sha256 is not None:
            resolved.append(spec)
            continue
        url = spec.source.sums_url
        if url is None:
            raise ConfigError(
                f"{spec.job_id}: nothing proves {spec.source.url}",
                todo="Give the source a sha256sums URL or a sha256 in the configuration.",
            )
        if url not in sums:
            sums[url] = parse_sums(fetch(url), origin=url)
        sha256 = _look_up(spec, sums[url], url)
        # Through the model, not model_copy: that would take any value.
        source = Source(url=spec.source.url, sha256=sha256, sums_url=url)
        resolved.append(spec.model_copy(update={"source": source}))
    return tuple(resolved)


def _look_up(spec: JobSpec, sums: dict[str, str], url: str) -> str:
    name = artefact_name(spec.source.url)
    if name in sums:
        return sums[name]
    near = difflib.get_close_matches(name, sums, n=3)
    listed = f"; it lists {', '.join(map(repr, near))}" if near else ""
    raise SourceError(
        f"{spec.job_id}: {url} does not list {name!r}{listed}",
        todo="Correct the source's url or sha256sums in the configuration, or wait until the build is published.",
    )
