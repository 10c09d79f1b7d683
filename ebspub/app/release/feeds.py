"""The seam between releases and what is written about them: query text, streams, pages.

A release calls it when all that is to be found may be used already, and takes what must not be found any more out of it
before it takes anything back. What is to be found are the rows of :func:`ebspub.store.releases.announced`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from ebspub.aws import copies
from ebspub.aws.failures import AwsError
from ebspub.config import Config, beside
from ebspub.config.feeds import FeedsTable
from ebspub.errors import ConfigError, EbspubError
from ebspub.feeds import every, files, from_store, rsync, signing, streams, sync
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.sync import SyncError
from ebspub.states import Status
from ebspub.store import Store, jobs, releases


class Feeds(Protocol):
    """Files rendered from the store.

    Several processes may publish different builds at once: whoever writes takes a lock of its own first, and reads the
    store after that, so that the last one to write has seen what all before it did.
    """

    def write(self, store: Store) -> Sequence[str]:
        """Bring the files to what the store says; return those that changed.

        Raises EbspubError; SyncError where only copies of them could not be brought there.
        """

    def check(self, store: Store) -> Sequence[str]:
        """Return the files that are stale, missing or left over, one line each; writes nothing. Raises EbspubError."""


class NoFeeds:
    """Nothing is configured to be written."""

    def write(self, store: Store) -> Sequence[str]:
        """Write nothing."""
        del store
        return ()

    def check(self, store: Store) -> Sequence[str]:
        """Find nothing amiss."""
        del store
        return ()


class Folder:
    """A folder of feeds, and its copies in a bucket or on another machine."""

    def __init__(self, folder: Path, table: FeedsTable, key: signing.Key | None) -> None:
        self.folder = folder
        self._table = table
        self.key = key

    @property
    def options(self) -> every.Options:
        """What the configuration says of the publisher."""
        table = self._table
        return every.Options(
            names=streams.Names(table.vendor, table.os, table.endpoints),
            columns=table.columns,
            title=table.title,
            origin=table.origin,
            url=table.url or "",
            every_serial=table.every_serial,
            formats=table.formats,
        )

    def write(self, store: Store) -> Sequence[str]:
        """Bring the folder, then its copies, to what the store says. See :meth:`Feeds.write`."""

        def load() -> Catalog:
            return catalog(store, self._table.mirror or "")

        done = every.publish(self.folder, load, self.options, self.key)
        return [*done.written, *done.removed, *self._copy()]

    def check(self, store: Store) -> Sequence[str]:
        """Return what :meth:`write` would change in the folder and in its copies.

        Of a copy that cannot be looked at that is said, with why, and the others are told all the same.
        """
        found = catalog(store, self._table.mirror or "")
        if not (found.images or found.withdrawn):
            return ()
        paths = every.stale(self.folder, found, self.options, self.key)
        stale = [str(self.folder / path) for path in paths]
        unknown = []
        for compare in (self._stale_in_bucket, self._stale_by_rsync):
            try:
                stale += compare()
            except EbspubError as error:
                unknown.append(f"what is stale in a copy is not known: {error.what}")
        return [*(f"{path} is stale, missing or left over" for path in stale), *unknown]

    def _stale_in_bucket(self) -> list[str]:
        told = self._table.sync
        if told.bucket is None:
            return []
        found = sync.stale_in_s3(files.kept(self.folder), copies.s3(told.region), *told.bucket, cache=told.cache)
        return [f"s3://{'/'.join(filter(None, told.bucket))}/{path}" for path in found]

    def _stale_by_rsync(self) -> list[str]:
        told = self._table.sync
        if told.rsync is None:
            return []
        found = rsync.stale(self.folder, files.kept(self.folder), told.rsync, delete=told.delete)
        return [rsync.below(told.rsync, path) for path in found]

    def _copy(self) -> list[str]:
        """Bring the copies to what is in the folder; one that fails stops no other. Raises SyncError, the first one."""
        if self._table.sync.bucket is None and self._table.sync.rsync is None:
            return []
        changed: list[str] = []
        problems: list[SyncError] = []
        with files.copying(self.folder), files.still(self.folder) as source:
            rendering = files.kept(source)
            for copy in (self._to_bucket, partial(self._by_rsync, source)):
                try:
                    changed += copy(rendering)
                except SyncError as error:
                    problems.append(error)
        if problems:
            raise problems[0]
        return changed

    def _to_bucket(self, rendering: Mapping[str, bytes]) -> list[str]:
        told = self._table.sync
        if told.bucket is None:
            return []
        try:
            client = copies.s3(told.region)
        except AwsError as error:
            raise SyncError(error.what, todo=error.todo) from error
        done = sync.to_s3(rendering, client, *told.bucket, cache=told.cache)
        return [f"s3://{'/'.join(filter(None, told.bucket))}/{path}" for path in (*done.written, *done.removed)]

    def _by_rsync(self, source: Path, rendering: Mapping[str, bytes]) -> list[str]:
        told = self._table.sync
        if told.rsync is None:
            return []
        done = rsync.copy(self.folder, rendering, told.rsync, delete=told.delete, source=source)
        return [rsync.below(told.rsync, path) for path in (*done.written, *done.removed)]


def configured(config: Config) -> Feeds:
    """Return the feeds that the configuration asks for. Raises ConfigError."""
    table = config.feeds
    if table.folder is None:
        return NoFeeds()
    sign = table.sign
    key = None
    if sign is not None:
        passphrase = None if sign.passphrase is None else Path(beside(config, sign.passphrase))
        home = None if sign.home is None else _expanded(config, sign.home, "feeds.sign.home")
        key = signing.Key(sign.key, home, passphrase)
    return Folder(_expanded(config, table.folder, "feeds.folder"), table, key)


def catalog(store: Store, mirror: str = "") -> Catalog:
    """Return what others may find, and what they could find once and must not any more. Raises StoreError."""
    with store.read() as conn:
        public = {each.job_id: each.at for each in releases.announced(conn)}
        gone = {job_id: at for job_id, at in releases.withdrawn(conn).items() if job_id not in public}
        registered = jobs.find(conn, statuses=[Status.DONE]) if public or gone else []
    return from_store.catalog(
        [job for job in registered if job.id in public],
        [job for job in registered if job.id in gone],
        released={**gone, **public},
        mirror=mirror,
    )


def _expanded(config: Config, folder: str, key: str) -> Path:
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{config.origin}: {key}: no home folder is known for ~", todo="Write an absolute path."
        ) from error
