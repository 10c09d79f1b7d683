"""Can a method publish what its artefact is? Told by the artefact's first bytes, before anything is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from ebspub.source import formats, zstd
from ebspub.source.capacity import least
from ebspub.source.head import Head, Missing
from ebspub.spec import JobSpec
from ebspub.store import Store, jobs

#: Returns how the artefact at a URL begins; None where that cannot be had (:func:`ebspub.source.head.look`).
Look = Callable[[str], Head | Missing | None]
_GIB: Final = 1024**3


def refusals(specs: Sequence[JobSpec], store: Store | None, look: Look) -> dict[str, str]:
    """Return the ids of the jobs that cannot be published as they are configured, and why.

    That is: there is no artefact, the method does not take what it is, or the disk in it is larger than the volume. Of
    jobs that are not planned yet only: a run that finds everything published asks no server. Each artefact is looked
    at once. One whose first bytes cannot be had, or do not tell, is not refused: the builder sees all of it.
    """
    known: set[str] = set()
    if store is not None:
        with store.read() as conn:
            known = {job.id for job in jobs.find(conn, ids=[spec.job_id for spec in specs])}
    fresh = [spec for spec in specs if spec.job_id not in known]
    urls = list(dict.fromkeys(spec.source.url for spec in fresh))
    with ThreadPoolExecutor(max_workers=8) as pool:
        seen = dict(zip(urls, pool.map(lambda url: _opened(look(url)), urls), strict=True))
    reasons = {spec.job_id: _refusal(spec, seen[spec.source.url]) for spec in fresh}
    return {job_id: why for job_id, why in reasons.items() if why is not None}


def _opened(head: Head | Missing | None) -> formats.Inside | Missing | None:
    return formats.opened(head.begin, head.size, zstd.unpacked) if isinstance(head, Head) else head


def _refusal(spec: JobSpec, found: formats.Inside | Missing | None) -> str | None:
    if found is None:
        return None
    if isinstance(found, Missing):
        return f"there is no artefact: {found.why}; correct the source"
    why = formats.refusal(spec.method, spec.registration.virtualization, found.format)
    if why is not None or spec.method == "filesystem":  # of an image it copies the content, whatever its size
        return why
    needed = least(found)
    if needed <= spec.volume.size * _GIB:
        return None
    return (
        f"the artefact is {found.format} of {needed} bytes, and a volume of {spec.volume.size} GiB is too small; "
        f"raise volume.size to {-(-needed // _GIB)}"
    )
