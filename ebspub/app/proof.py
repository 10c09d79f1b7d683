"""What proves the sources of jobs: known before any of them is driven, each build by itself.

A job that has ended needs no proof any more, so a run that finds everything published asks no server for anything.
A build whose list of checksums cannot be had stops nobody else's jobs.
"""

from __future__ import annotations

from collections.abc import Sequence

from ebspub.errors import SourceError
from ebspub.source.resolve import Fetch, Reader
from ebspub.spec import JobSpec
from ebspub.store import Store, jobs


def proved(
    specs: Sequence[JobSpec], store: Store | None, fetch: Fetch
) -> tuple[tuple[JobSpec, ...], tuple[SourceError, ...]]:
    """Return ``specs`` with what proves their sources, and what kept others from being proved.

    A job that was planned before keeps the proof it has where its list cannot be had now; one that was not is left out.
    """
    known = {}
    if store is not None:
        with store.read() as conn:
            known = {job.id: job for job in jobs.find(conn, ids=[spec.job_id for spec in specs])}
    reader = Reader(_Once(fetch))
    found: list[JobSpec] = []
    failures: dict[str, SourceError] = {}
    for spec in specs:
        job = known.get(spec.job_id)
        if job is not None and job.ended:
            found.append(spec)
            continue
        try:
            found.append(spec.model_copy(update={"source": reader.proved(spec)}))
        except SourceError as error:
            if job is not None:
                found.append(job.spec)
            else:
                failures.setdefault(error.what, error)
    return tuple(found), tuple(failures.values())


class _Once:
    """Fetches each URL once, whatever came of it."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._answers: dict[str, bytes | SourceError] = {}

    def __call__(self, url: str) -> bytes:
        if url not in self._answers:
            try:
                self._answers[url] = self._fetch(url)
            except SourceError as error:
                self._answers[url] = error
        answer = self._answers[url]
        if isinstance(answer, SourceError):
            raise answer
        return answer
