"""The one world of an embedded cloud's process: its folder, its disks, its builders, its time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ebspub.localcloud import loops
from ebspub.localcloud.addresses import Addresses
from ebspub.localcloud.hosts.base import Host, HostSpec, remove_tree
from ebspub.localcloud.hosts.namespace import NamespaceHost
from ebspub.localcloud.hosts.plain import PlainHost, end_processes
from ebspub.localcloud.settings import Settings
from ebspub.localcloud.timers import Timers

FateKind = Literal["snapshot", "image", "attachment"]
_PARTS = ("volumes", "snapshots", "hosts")


@dataclass
class World:
    """What the backends of all regions share. ``lock`` guards every resource of every region."""

    folder: Path
    settings: Settings
    #: The regions that are enabled for the account.
    regions: frozenset[str]
    timers: Timers = field(default_factory=Timers)
    lock: threading.RLock = field(default_factory=threading.RLock)
    hosts: dict[str, Host] = field(default_factory=dict)
    #: How many of the next resources of a kind end badly: snapshot in error, image failed, attachment never attached.
    fates: dict[FateKind, int] = field(default_factory=dict)
    #: (zone, instance type) without capacity; an empty string stands for any.
    no_capacity: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.root = os.geteuid() == 0
        self.port = self.settings.ssh_port or (22 if self.root else 2222)
        self.addresses = Addresses(self.port)
        self._answering = threading.local()
        clean(self.folder)
        for part in _PARTS:
            (self.folder / part).mkdir(parents=True, exist_ok=True)

    def volume_file(self, volume_id: str) -> Path:
        """Return where the content of a volume lies."""
        return self.folder / "volumes" / f"{volume_id}.img"

    def snapshot_file(self, snapshot_id: str) -> Path:
        """Return where the content of a snapshot lies."""
        return self.folder / "snapshots" / f"{snapshot_id}.img"

    def make_host(self, spec: HostSpec) -> Host:
        """Return a builder that has yet to be started: a namespace as root, a plain folder otherwise."""
        host: Host = NamespaceHost(spec) if self.root else PlainHost(spec)
        self.hosts[spec.instance_id] = host
        return host

    def is_doomed(self, kind: FateKind) -> bool:
        """Tell whether the resource being made is to end badly, and count it."""
        left = self.fates.get(kind, 0)
        self.fates[kind] = max(0, left - 1)
        return left > 0

    def has_capacity(self, zone: str, instance_type: str) -> bool:
        """Tell whether an instance of the type can be started in the zone."""
        wanted = {(z, t) for z in ("", zone) for t in ("", instance_type)}
        return not wanted & self.no_capacity

    def listed(self, born: float) -> bool:
        """Tell whether a resource made at ``born`` (monotonic seconds) shows in describe calls already."""
        return time.monotonic() - born >= self.settings.listing_lag

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Do ``work`` under the lock, ``seconds`` from now (at once, in this thread, for 0)."""
        if seconds > 0:
            self.timers.later(seconds, self.locked(work))
        else:
            self.locked(work)()

    def background(self, work: Callable[[], None]) -> None:
        """Do ``work``, which takes long, in another thread and without the lock."""
        self.timers.now(work)

    def before_answering(self, work: Callable[[], None]) -> None:
        """Do ``work`` in this thread when the lock is free again, and before the call is answered."""
        self._answering.__dict__.setdefault("work", []).append(work)

    def finish_answering(self) -> None:
        """Do what :meth:`before_answering` collected in this thread."""
        for work in self._answering.__dict__.pop("work", []):
            work()

    def close(self) -> None:
        """End every builder and release everything."""
        with self.lock:
            hosts, self.hosts = list(self.hosts.values()), {}
        self.timers.end()  # a builder that is being started is there afterwards, and no other one starts
        with ThreadPoolExecutor(max(1, len(hosts))) as pool:
            list(pool.map(lambda host: host.stop(), hosts))
        clean(self.folder)

    def locked(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return ``work`` done under the lock."""

        def locked() -> None:
            with self.lock:
                work()

        return locked


def clean(folder: Path) -> None:
    """Release and delete what a cloud left in its folder, however it ended."""
    if not folder.exists():
        return
    if os.geteuid() == 0:
        loops.sweep(folder)
    else:
        end_processes(folder)
    for part in _PARTS:
        remove_tree(folder / part)
