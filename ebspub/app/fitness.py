"""Can a method publish what its artefact is? Told by the artefact's first bytes, before anything is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ebspub.source import formats
from ebspub.spec import JobSpec
from ebspub.store import Store, jobs

#: Returns the first bytes of the artefact at a URL, None where they cannot be had (:func:`ebspub.source.head.head`).
Head = Callable[[str], bytes | None]


def refusals(specs: Sequence[JobSpec], store: Store | None, head: Head) -> dict[str, str]:
    """Return the ids of the jobs that their method cannot publish, and why.

    Only of jobs that are not planned yet: a run that finds everything published asks no server. Each artefact is looked
    at once. One whose first bytes cannot be had, or do not tell, is not refused: the builder sees all of it.
    """
    known: set[str] = set()
    if store is not None:
        with store.read() as conn:
            known = {job.id for job in jobs.find(conn, ids=[spec.job_id for spec in specs])}
    fresh = [spec for spec in specs if spec.job_id not in known]
    urls = list(dict.fromkeys(spec.source.url for spec in fresh))
    with ThreadPoolExecutor(max_workers=8) as pool:
        heads = dict(zip(urls, pool.map(head, urls), strict=True))
    found = {}
    for spec in fresh:
        begin = heads[spec.source.url]
        if begin is None:
            continue
        why = formats.refusal(spec.method, spec.registration.virtualization, formats.recognise(begin))
        if why is not None:
            found[spec.job_id] = why
    return found
