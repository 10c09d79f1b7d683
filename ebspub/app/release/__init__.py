"""publish and unpublish: bring what others may use and find to what the configuration says, one release at a time.

`registered` is a job's end; a *release* is a build's: all its registered jobs. Publishing is reconciliation: what is
wanted (configuration and jobs) against what is seen gives the calls that are missing, each recorded before and after it
is made (:mod:`ebspub.store.releases`). Publishing again therefore repairs whatever a kill, a hand or another tool has
done to it, adds regions that came late, revokes what is not configured any more, and does nothing where nothing is
missing. Regions go side by side, and one's failure stops no other. A path that goes from build to build moves in no
region before the build can be used in all that must be there, and is the newest build's whoever publishes at the same
time (:mod:`ebspub.app.release.work`). The feeds come last, and go first when a build is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

from ebspub.app.publish import check_accounts
from ebspub.app.release import gate, settings
from ebspub.app.release.feeds import Feeds, configured
from ebspub.app.release.lease import renewed
from ebspub.app.release.result import Released, Result
from ebspub.app.release.targets import chosen_builds, chosen_releases
from ebspub.app.release.wanted import Change, Wanted
from ebspub.app.release.work import Outcome, RegionWork, Tell
from ebspub.app.runtime import Runtime
from ebspub.config.publishing import Publishing
from ebspub.errors import EbspubError, LeaseLostError, StoreError, UsageError
from ebspub.feeds.sync import SyncError
from ebspub.store import Job, Lease, notices, releases
from ebspub.store.leases import this_process
from ebspub.store.releases import Release
from ebspub.store.tables import ReleaseState

S = TypeVar("S")
T = TypeVar("T")
__all__ = ["Change", "Released", "Result", "publish", "unpublish"]


def publish(
    runtime: Runtime, targets: Sequence[str], tell: Tell, *, label: str | None = None, feeds: Feeds | None = None
) -> Result:
    """Make builds public, or see that they are. ``label``: as what; default: as they were, or as they are configured.

    Raises UsageError for what names no build with a registered job, ConfigError, StoreError.
    """
    with runtime.store.read() as conn:
        found = chosen_builds(conn, targets)
    for release in found:
        settings.plan_of(runtime.config, release, label or release.label)
    return _each(runtime, found, lambda release: _Work(runtime, release, tell, feeds).publish(label))


def unpublish(
    runtime: Runtime, targets: Sequence[str], tell: Tell, *, feeds: Feeds | None = None, anyway: bool = False
) -> Result:
    """Take builds back: out of the feeds first, then out of the parameters, then their permissions.

    ``anyway``: also where copies of the feeds cannot be brought up to date, and go on naming what nobody may use.

    Raises UsageError for what names no build that was published, ConfigError, StoreError.
    """
    with runtime.store.read() as conn:
        found = chosen_releases(conn, targets)
    return _each(runtime, found, lambda release: _Work(runtime, release, tell, feeds).unpublish(anyway=anyway))


def _each(runtime: Runtime, found: Sequence[Release], work: Callable[[Release], Released]) -> Result:
    result = Result()
    for release in found:
        if runtime.stop.event.is_set():
            break
        try:
            done = work(release)
        except StoreError:
            raise
        except LeaseLostError:
            done = Released(release.id, busy=True)
        except EbspubError as error:
            if isinstance(error, UsageError) and not result.releases:
                raise  # nothing was touched
            done = Released(release.id, release.label, release.state.value, errors={"": error})
        result.releases.append(done)
    result.signal = runtime.stop.signal
    return result


class _Work:
    """The work on one release."""

    def __init__(self, runtime: Runtime, release: Release, tell: Tell, feeds: Feeds | None) -> None:
        self._runtime, self._release, self._tell = runtime, release, tell
        self._feeds = feeds or configured(runtime.config)
        self._store, self._clock, self._config = runtime.store, runtime.clock, runtime.config
        self._done = Released(release.id, release.label)
        #: What is public already is repaired, and added to, as far as can be: it waits for nothing. What is promoted
        #: passes every gate of what it becomes.
        self._public = False

    # --- publish -----------------------------------------------------------------------------------------

    def publish(self, label: str | None) -> Released:
        release, label = self._release, label or self._release.label
        plan = settings.plan_of(self._config, release, label)
        with self._store.read() as conn:
            jobs = releases.jobs_of(conn, release.suite, release.build, release.serial)
            found = settings.context(conn, self._config, release)
            public = settings.public_as(conn, release, label)
        self._public, listed = public is not None, public or frozenset()
        waiting = gate.unverified(self._config, plan, found.jobs, listed)
        spec = found.jobs[0].spec
        absent = gate.missing(plan, release.suite, release.build, release.serial, jobs)
        if not self._public:
            gate.require_complete(plan, release.id, absent)
            gate.require_verified(plan, release.id, absent, waiting)
        check_accounts(self._runtime, found.jobs)
        found = found.without(gate.held(waiting, found.jobs, listed))
        self._done.missing = [job for missing in absent.values() for job in missing]
        self._done.warnings = settings.warnings(self._config, plan, found)
        wanted = settings.publish_all(self._config, plan, found, label)
        untested = {region: gate.untested(release.id, region, jobs) for region, jobs in waiting.items()}
        barred = self._barred(plan, {*absent, *untested}, wanted, found)
        with self._store.write() as conn:
            releases.add(conn, spec, label, self._clock.now())
        lease = self._claim()
        if lease is None:
            return self._done
        self._done.errors.update(untested)
        admitted = frozenset(job.id for job in found.jobs)
        return self._publish(lease, plan, label, barred, absent, admitted)

    def _barred(
        self,
        plan: Publishing,
        absent: Collection[str],
        wanted: Mapping[str, list[Wanted]],
        found: settings.Context,
    ) -> dict[str, EbspubError]:
        """Return the regions whose account does not allow it, and why. Raises it where the build cannot do without."""
        encrypted = frozenset(job.id for job in found.jobs if job.spec.volume.encrypted)
        now = self._clock.now()
        hidden = frozenset(job.id for job in found.jobs if now <= _shown_at(job))

        def ask(region: str) -> EbspubError | None:
            return gate.refusal(self._runtime.clients, region, wanted[region], encrypted, hidden)

        told = dict(zip(wanted, self._side_by_side(ask, list(wanted)), strict=True))
        barred = {region: error for region, error in told.items() if error is not None}
        if barred and not self._public and not gate.enough(plan, {*absent, *barred}):
            problems = [f"{error.what} ({error.todo})" for error in barred.values()]
            raise EbspubError(
                f"{self._release.id}: nothing was published: " + "; ".join(problems),
                todo="Mend that, then publish again.",
            )
        return barred

    def _publish(
        self,
        lease: Lease,
        plan: Publishing,
        label: str,
        barred: Mapping[str, EbspubError],
        absent: Mapping[str, object],
        admitted: frozenset[str],
    ) -> Released:
        """Do it for the jobs ``admitted``, which may be published: what is registered from now on waits."""
        try:
            found = self._begin(lease, label).only(admitted).labelled(label)
            wanted = settings.publish_all(self._config, plan, found, label)
            work = self._work(lease, found, plan.patience)
            lacking = {*absent, *barred, *self._done.errors}

            def go_on(begun: Sequence[Outcome]) -> list[Outcome]:
                failed = {each.region for each in begun if each.error is not None or each.gone}
                complete = self._public or gate.enough(plan, {*lacking, *failed})
                now_wanted = self._ready(lease, plan, label, begun, complete=complete)
                if self._release.state is ReleaseState.PUBLISHED and not complete:
                    # What it was it is still, with the paths of that, and shared as that.
                    now_wanted = {region: [w for w in each if w.withdrawn] for region, each in now_wanted.items()}
                return self._side_by_side(
                    lambda each: work.finish(each, now_wanted.get(each.region, ()), moving=complete), begun
                )

            def begin(region: str) -> Outcome:
                return work.begin(region, wanted[region])

            regions = [region for region in wanted if region not in barred]
            if self._public:
                outcomes = self._side_by_side(lambda region: go_on([begin(region)])[0], regions)
            else:
                outcomes = go_on(self._side_by_side(begin, regions))
            errors = {**barred, **{each.region: each.error for each in outcomes if each.error is not None}}
            self._gather(outcomes, errors)
            gone = frozenset(job for each in outcomes for job in each.gone)
            usable = [job for job in found.jobs if job.id not in gone and job.spec.region not in errors]
            complete = self._public or gate.enough(plan, {*lacking, *errors})
            self._announce(lease, usable if complete else [], gone, complete=complete)
        finally:
            self._give_back(lease)
        return self._done

    def _ready(
        self, lease: Lease, plan: Publishing, label: str, begun: Sequence[Outcome], *, complete: bool
    ) -> dict[str, list[Wanted]]:
        """Write down what can be used; return what is wanted, with all that other builds have become meanwhile."""
        now, name = self._clock.now(), self._release.id
        regions = {each.region for each in begun if each.error is None}
        gone = frozenset(job for each in begun for job in each.gone)
        looked = frozenset(job for each in begun for job in each.seen or ())
        with self._store.write() as conn:
            releases.withdraw(conn, name, lease, now, gone)
            found = settings.context(conn, self._config, self._release, [each.region for each in begun])
            usable = [job for job in found.jobs if job.spec.region in regions and job.id in looked - gone]
            usable = usable if complete and not self._runtime.stop.signal else []
            releases.ready(conn, name, lease, usable, now)
            # Whoever finds them under their new name may use them, and no earlier build takes its paths back.
            releases.relabel(conn, name, lease, usable, label, now)
        return settings.publish_all(self._config, plan, found, label, gone)

    def _begin(self, lease: Lease, label: str) -> settings.Context:
        """Write down that it begins, and as what. What is public stays so: its repair takes nothing back."""
        now = self._clock.now()
        with self._store.write() as conn:
            release = releases.get(conn, self._release.id)
            assert release is not None
            begun = ReleaseState.PUBLISHED if release.state is ReleaseState.PUBLISHED else ReleaseState.PUBLISHING
            releases.change(conn, release.id, lease, now, state=begun.value, label=label)
            return settings.context(conn, self._config, release)

    def _announce(self, lease: Lease, usable: Sequence[Job], gone: frozenset[str], *, complete: bool) -> None:
        """Let others find what they may use, once all is there that must be; nobody what is not there any more."""
        now, name = self._clock.now(), self._release.id
        if self._runtime.stop.signal:
            self._end(lease, None)
            return
        with self._store.write() as conn:
            releases.announce(conn, name, lease, usable, now)
            shown = any(each.release_id == name for each in releases.announced(conn))
        if not (complete or shown or gone):
            self._end(lease, None)
            return
        self._write_feeds(lease)
        self._end(lease, ReleaseState.PUBLISHED if complete and "" not in self._done.errors else None)

    # --- unpublish ---------------------------------------------------------------------------------------

    def unpublish(self, *, anyway: bool) -> Released:
        with self._store.read() as conn:
            jobs = releases.jobs_of(conn, self._release.suite, self._release.build, self._release.serial)
        check_accounts(self._runtime, jobs)
        lease = self._claim()
        if lease is None:
            return self._done
        try:
            now = self._clock.now()
            with self._store.write() as conn:
                state = ReleaseState.UNPUBLISHING.value
                releases.withdraw(conn, self._release.id, lease, now)
                releases.change(conn, self._release.id, lease, now, state=state)
                found = settings.context(conn, self._config, self._release)
            if not self._write_feeds(lease) and not self._revokes(anyway=anyway):
                # What is still to be found must stay usable.
                self._end(lease, None)
                return self._done
            wanted, work = settings.withdraw_all(found), self._work(lease, found, self._patience)

            def whole(region: str) -> Outcome:
                return work.finish(work.begin(region, wanted[region]), wanted[region], moving=True)

            outcomes = self._side_by_side(whole, list(wanted))
            self._gather(outcomes, {each.region: each.error for each in outcomes if each.error is not None})
            self._end(lease, None if self._done.errors else ReleaseState.UNPUBLISHED)
        finally:
            self._give_back(lease)
        return self._done

    def _revokes(self, *, anyway: bool) -> bool:
        """Whether what the feeds lack is so little that who says so may go on; tells of that way."""
        error = self._done.errors[""]
        if not isinstance(error, SyncError) or anyway:
            return isinstance(error, SyncError)
        way = (
            f"Nothing was revoked. `ebspub unpublish --revoke-anyway {self._release.id}` does it all the same: that "
            "copy then names AMIs that nobody may launch, until it is brought up to date."
        )
        self._done.errors[""] = SyncError(error.what, todo=f"{error.todo} {way}" if error.todo else way)
        return False

    # --- what they share ---------------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        return self._config.publish.patience or 300.0

    def _claim(self) -> Lease | None:
        now = self._clock.now()
        with self._store.write() as conn:
            release = releases.get(conn, self._release.id)
            assert release is not None
            until = now + self._config.engine.lease
            # What somebody else did meanwhile, such as taking it back, is not undone by who did not know of it.
            mine = replace(release, epoch=self._release.epoch)
            lease = releases.claim(conn, mine, owner=this_process(), now=now, until=until)
        self._done.busy = lease is None
        self._done.label, self._done.state = release.label, release.state.value
        return lease

    def _give_back(self, lease: Lease) -> None:
        with self._store.write() as conn:
            releases.give_back(conn, self._release.id, lease, self._clock.now())

    def _work(self, lease: Lease, found: settings.Context, patience: float) -> RegionWork:
        fresh = max(map(_shown_at, found.jobs), default=0.0)
        return RegionWork(self._runtime, found, lease, patience=patience, fresh=fresh, tell=self._tell)

    def _side_by_side(self, work: Callable[[S], T], each: Sequence[S]) -> list[T]:
        with ThreadPoolExecutor(self._config.engine.workers, thread_name_prefix="publish") as pool:
            return list(pool.map(work, each))

    def _gather(self, outcomes: Sequence[Outcome], errors: Mapping[str, EbspubError]) -> None:
        self._done.made = [change for each in outcomes for change in each.made]
        self._done.errors.update(errors)

    def _write_feeds(self, lease: Lease) -> bool:
        """Write the feeds; what stands in the way is kept as an error of no region."""
        try:
            with renewed(self._runtime, self._release.id, lease):
                self._done.files = list(self._feeds.write(self._store))
        except StoreError:
            raise
        except EbspubError as error:
            self._done.errors[""] = error
            return False
        return True

    def _end(self, lease: Lease, state: ReleaseState | None) -> None:
        """Write down how it ended; no ``state``: where it is, with what stands in the way."""
        now = self._clock.now()
        errors = {region: error.what for region, error in self._done.errors.items()} or None
        with self._store.write() as conn:
            known = releases.get(conn, self._release.id)
            assert known is not None
            values: dict[str, object] = {"error": errors}
            if state is not None:
                values["state"] = state.value
                if all(isinstance(error, gate.UnverifiedError) for error in self._done.errors.values()):
                    values["settled_epoch"] = lease.epoch
            if state is ReleaseState.PUBLISHED and (known.published_at is None or known.state is not state):
                values["published_at"] = now
            if state is ReleaseState.UNPUBLISHED:
                values["unpublished_at"] = now
            releases.change(conn, known.id, lease, now, **values)
            ended = releases.get(conn, known.id)
            assert ended is not None
            if state is ReleaseState.PUBLISHED:
                notices.add(conn, ended, now)
        self._done.label, self._done.state = ended.label, ended.state.value


def _shown_at(job: Job) -> float:
    """Return until when EC2 may hide what a registered job made."""
    return (job.ended_at or 0.0) + job.spec.limits.listing_lag
