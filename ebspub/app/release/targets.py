"""Which builds a command is about: suite-build-serial, or suite-build for its newest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from ebspub.app.release.wanted import serial_key
from ebspub.errors import UsageError
from ebspub.states import Status
from ebspub.store import jobs, releases
from ebspub.store.releases import Release
from ebspub.store.tables import ReleaseState

_LISTED = "`ebspub status` lists what there is."


def chosen_builds(conn: sa.Connection, targets: Sequence[str]) -> list[Release]:
    """Return the builds with registered jobs that are meant, as releases, begun or not. Raises UsageError."""
    known = {release.id: release for release in releases.find(conn)}
    for job in jobs.find(conn, statuses=[Status.DONE]):
        name = releases.release_id(job.spec)
        if name not in known:
            known[name] = _begun(job.spec.suite, job.spec.build, job.spec.serial, job.label)
    return _chosen(targets, known.values(), "no registered job of")


def chosen_releases(conn: sa.Connection, targets: Sequence[str]) -> list[Release]:
    """Return the builds that are meant, of those that were published or began to be. Raises UsageError.

    Without a serial the newest is meant that is still public.
    """
    known = releases.find(conn)
    public = [release for release in known if release.state is not ReleaseState.UNPUBLISHED]
    return _chosen(targets, [*public, *(each for each in known if each not in public)], "never published:")


def _chosen(targets: Sequence[str], known: Iterable[Release], nothing: str) -> list[Release]:
    listed = list(known)
    found: dict[str, Release] = {}
    for target in targets:
        exact = [release for release in listed if release.id == target]
        same = [release for release in listed if f"{release.suite}-{release.build}" == target]
        public = [release for release in same if release.state is not ReleaseState.UNPUBLISHED] or same
        meant = exact or sorted(public, key=lambda release: serial_key(release.serial))[-1:]
        if not meant:
            raise UsageError(f"{nothing} {target}", todo=f"Name a build as suite-build-serial. {_LISTED}")
        found[meant[0].id] = meant[0]
    return list(found.values())


def _begun(suite: str, build: str, serial: str, label: str) -> Release:
    return Release(
        id=f"{suite}-{build}-{serial}",
        suite=suite,
        build=build,
        serial=serial,
        label=label,
        state=ReleaseState.PUBLISHING,
        error=None,
        lease=None,
        epoch=0,
        created_at=0.0,
        updated_at=0.0,
        published_at=None,
        unpublished_at=None,
    )
