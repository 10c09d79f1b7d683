"""What this database knows of times and sizes: its own finished jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from ebspub.app.estimate import Known, product
from ebspub.spec import JobSpec
from ebspub.store import Store, events, jobs

#: How many finished jobs are looked at: the younger ones tell more of the next.
_JOBS = 200


def known(specs: Sequence[JobSpec], store: Store | None, sizes: Mapping[str, int]) -> Known:
    """Return what is known of the jobs ``specs``; ``sizes``: of artefacts, by URL."""
    if store is None:
        return Known(sizes)
    products = {product(spec): spec for spec in specs}
    with store.read() as conn:
        facts = {name: jobs.last_facts(conn, spec) for name, spec in products.items()}
        told = events.durations(conn, _JOBS)
    times: dict[tuple[str, str], list[float]] = {}
    for way, step, seconds in told:
        times.setdefault((way, step), []).append(seconds)
    count = sum(1 for _, step, _ in told if step == "register")
    return Known(sizes, facts, {key: median(values) for key, values in times.items()}, count)
