"""What `ebspub publish` would do with builds that are public, or that `run` is to make so, and `unpublish` with others.

Looks only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ebspub.app.release import gate, settings
from ebspub.app.release.feeds import Feeds, configured
from ebspub.app.release.look import look
from ebspub.app.release.targets import chosen_builds
from ebspub.app.release.wanted import Change, Wanted, changes
from ebspub.aws.clients import Clients
from ebspub.aws.failures import AwsError
from ebspub.clock import Clock, SystemClock
from ebspub.config import Config
from ebspub.config.publishing import find, publishing
from ebspub.errors import EbspubError, JobError
from ebspub.spec import JobSpec
from ebspub.states import Status
from ebspub.store import Job, Store, jobs, releases
from ebspub.store.releases import Release
from ebspub.store.tables import ReleaseState

_WORKERS = 16


@dataclass
class Drift:
    """What is amiss with one build. ``errors``: why it is not known, or cannot be mended, by region.

    ``state`` is empty for one that was never published; ``missing``: jobs that are not registered; ``unannounced``:
    registered ones of a public build that are not to be found; ``warnings``: what is probably not meant.
    """

    id: str
    label: str
    state: str
    changes: list[Change] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unannounced: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def amiss(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.changes or self.errors or self.unannounced) or self.state in ("", "publishing", "unpublishing")


def drift(config: Config, store: Store, clients: Clients, specs: Iterable[JobSpec]) -> list[Drift]:
    """Return what there is to be said of the builds of ``specs``, those of which nothing is amiss among them.

    Of what is to be published by hand and never was nothing is said; what was taken back is to stay so. Raises
    StoreError.
    """
    found = []
    for release, registered in _candidates(config, store, list(specs), taken_back=True):
        begun = release.epoch > 0
        mine = Drift(release.id, release.label, release.state.value if begun else "")
        if registered:
            _compare(config, store, clients, release, mine)
        found.append(mine)
    return found


def stale(config: Config, store: Store, feeds: Feeds | None = None) -> list[str]:
    """Return the files of the feeds that are stale, missing or left over, or why that is not known."""
    try:
        return list((feeds or configured(config)).check(store))
    except EbspubError as error:
        return [error.what]


def due(config: Config, store: Store, specs: Iterable[JobSpec], clock: Clock | None = None) -> list[str]:
    """Return the builds of ``specs`` that are complete and that `run` is to publish: not yet, or not whole, public.

    Not whole is also what somebody died over, or what something stood in the way of, be it the feeds alone. What only
    waits for test boots is nothing to publish until they are passed. One that somebody took back stays so.
    """
    found, now = [], (clock or SystemClock()).now()
    for release, registered in _candidates(config, store, list(specs)):
        index = find(config, release.suite, release.build, release.label)
        plan = publishing(config, index) if index is not None else None
        if plan is None or plan.when != "auto" or release.state is ReleaseState.UNPUBLISHING or not registered:
            continue
        with store.read() as conn:
            known = releases.jobs_of(conn, release.suite, release.build, release.serial)
            public = settings.public_as(conn, release, release.label)
            announced = {each.job_id for each in releases.announced(conn)}
        absent = gate.missing(plan, release.suite, release.build, release.serial, known)
        settled = release.settled == release.epoch or releases.under_way(release, now)
        shown, listed = public is not None, public or frozenset[str]()
        waiting = gate.unverified(config, plan, known, listed)
        ready = {job.id for job in registered_of(known)} - gate.held(waiting, known, listed)
        lacking = absent.keys() if shown else {*absent, *waiting}
        done = ready <= _named(known, announced, release.label) and release.state is ReleaseState.PUBLISHED
        if gate.enough(plan, lacking) and not (done and settled):
            found.append(release.id)
    return found


def _named(known: Iterable[Job], announced: Collection[str], label: str) -> set[str]:
    """Return the ids of those of some jobs that others find under ``label``."""
    return {job.id for job in known if job.id in announced and job.label == label}


def registered_of(known: Iterable[Job]) -> list[Job]:
    """Return the registered ones of some jobs."""
    return [job for job in known if job.status is Status.DONE]


def _candidates(
    config: Config, store: Store, specs: Sequence[JobSpec], *, taken_back: bool = False
) -> list[tuple[Release, bool]]:
    """Return the builds of ``specs`` that are public or are to be, each with whether it has a registered job.

    ``taken_back``: those as well that were public.
    """
    names = dict.fromkeys(releases.release_id(spec) for spec in specs)
    with store.read() as conn:
        known = {each.id: each for each in releases.find(conn)}
        ready = dict.fromkeys(releases.release_id(job.spec) for job in jobs.find(conn, statuses=[Status.DONE]))
        found = chosen_builds(conn, [name for name in names if name in known or name in ready])
    wanted = []
    for release in found:
        index = find(config, release.suite, release.build, release.label)
        auto = index is not None and publishing(config, index).when == "auto"
        back = release.state is ReleaseState.UNPUBLISHED
        if taken_back if back else (release.epoch > 0 or auto):
            wanted.append((release, release.id in ready))
    return wanted


def _compare(config: Config, store: Store, clients: Clients, release: Release, mine: Drift) -> None:
    with store.read() as conn:
        known = releases.jobs_of(conn, release.suite, release.build, release.serial)
        found = settings.context(conn, config, release)
        announced = {each.job_id for each in releases.announced(conn)}
        public = settings.public_as(conn, release, release.label) or frozenset[str]()
    if release.state in (ReleaseState.UNPUBLISHING, ReleaseState.UNPUBLISHED):
        _ask(clients, settings.withdraw_all(found), mine)
        return
    plan = settings.plan_of(config, release, release.label)
    absent = gate.missing(plan, release.suite, release.build, release.serial, known)
    mine.warnings = settings.warnings(config, plan, found)
    mine.missing = [job for missing in absent.values() for job in missing]
    waiting = gate.unverified(config, plan, found.jobs, public)
    ready = found.without(gate.held(waiting, found.jobs, public))
    _ask(clients, settings.publish_all(config, plan, ready, release.label), mine)
    if release.state is ReleaseState.PUBLISHED:
        listed = _named(ready.jobs, announced, release.label)
        mine.unannounced = [job.id for job in ready.jobs if job.id not in listed and job.spec.region not in mine.errors]
    for region, untested in waiting.items():
        error = gate.untested(release.id, region, untested)
        mine.errors.setdefault(region, f"{error.what}: {error.todo}")


def _ask(clients: Clients, wanted: Mapping[str, Sequence[Wanted]], mine: Drift) -> None:
    with ThreadPoolExecutor(_WORKERS) as pool:
        answers = pool.map(lambda region: _region(clients, region, wanted[region]), wanted)
        for region, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, EbspubError):
                mine.errors[region] = answer.what
            else:
                mine.changes += answer


def _region(clients: Clients, region: str, wanted: Sequence[Wanted]) -> list[Change] | EbspubError:
    try:
        seen, unseen = look(clients.region(region), wanted)
    except AwsError as error:
        return error
    # Of what is taken back, it is as good if nothing is there.
    absent = unseen - {each.job_id for each in wanted if each.withdrawn}
    if absent:
        return JobError(f"{region}: no AMI and snapshot of {', '.join(sorted(absent))}")
    return changes(wanted, seen)
