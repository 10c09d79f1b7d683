"""Which serials the builds with ``serial = "current"`` have now: one look per build, each build by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from ebspub.config import Config, lookout
from ebspub.errors import SourceError
from ebspub.source import Look, current
from ebspub.spec import JobSpec
from ebspub.states import Status
from ebspub.store import Store, jobs


def unfinished(config: Config, found: Mapping[int, str], store: Store | None) -> list[JobSpec]:
    """Return the interrupted jobs of builds whose current serial has moved on since: nobody else would finish them.

    One that failed waits for `ebspub resume`: what it failed of may be gone with its folder.
    """
    if store is None or not found:
        return []
    builds = {(config.builds[index].suite, config.builds[index].build): serial for index, serial in found.items()}
    with store.read() as conn:
        names = [f"{suite}-{build}" for suite, build in builds]
        known = jobs.find(conn, builds=names, statuses=[Status.WAITING, Status.RUNNING])
    return [
        job.spec for job in known if builds.get((job.spec.suite, job.spec.build), job.spec.serial) != job.spec.serial
    ]


def serials(config: Config, builds: Iterable[int], look: Look) -> tuple[dict[int, str], tuple[SourceError, ...]]:
    """Return the current serial of each of ``builds`` (indexes in the file), and what kept others from being found."""
    found: dict[int, str] = {}
    failures: list[SourceError] = []
    for index in builds:
        place = lookout(config, index)
        arches = [partial(place.source, arch) for arch in place.arches]
        try:
            if place.folder is None:
                found[index] = current.in_index(arches, look)
            else:
                found[index] = current.in_folders(place.folder, arches, look)
        except SourceError as error:
            failures.append(SourceError(f"{place.name}: {error.what}", todo=error.todo))
    return found, tuple(failures)
