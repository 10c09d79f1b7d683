"""Wire the parts together."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

from ebspub.aws.clients import BotoClients, Clients
from ebspub.clock import Clock, SystemClock
from ebspub.config import Config
from ebspub.engine.driver import Listener, Tools
from ebspub.engine.scheduler import Pace, Scheduler
from ebspub.engine.shells import Shells
from ebspub.errors import ConfigError
from ebspub.populate.direct import Uploader
from ebspub.remote.keys import Keyring
from ebspub.remote.shell import Shell
from ebspub.remote.ssh import connect
from ebspub.steps import CANCEL, STEPS, WAYS
from ebspub.store import Job, Store
from ebspub.store.leases import this_process

#: Seconds for one attempt to reach a builder: connection, host key, login.
_CONNECT_TIMEOUT = 15.0


@dataclass
class Stop:
    """The wish to stop, set by a signal. ``signal`` is its number."""

    event: threading.Event = field(default_factory=threading.Event)
    signal: int = 0
    wake: Callable[[], None] = lambda: None

    def request(self, signal: int) -> None:
        """Stop as soon as everything under way is resumable."""
        self.signal = signal
        self.event.set()
        self.wake()


@dataclass
class Runtime:
    """An open store, and what is needed to drive jobs in it."""

    config: Config
    store: Store
    clock: Clock
    clients: Clients
    stop: Stop

    @cached_property
    def keyring(self) -> Keyring:
        """The keys of all builders. Raises ConfigError for a secret that is not the one of the state database."""
        place = self.config.state_folder() / "secret"
        keyring = Keyring.open(place)
        if self.store.remember("secret", keyring.fingerprint) != keyring.fingerprint:
            raise ConfigError(
                f"{place} is not the secret with which the jobs of this state database were begun",
                todo="Copy it from the host that made the database: builders are reached by keys derived from it.",
            )
        return keyring

    def scheduler(self, listen: Listener, executor: ThreadPoolExecutor) -> Scheduler:
        """Return a scheduler for this process."""
        keyring = self.keyring
        lease = self.config.engine.lease
        tools = Tools(
            store=self.store,
            clock=self.clock,
            keyring=keyring,
            shells=Shells(open_shell, keyring),
            steps=STEPS,
            cleanup=CANCEL,
            rng=random.Random(),  # noqa: S311 - jitter of retries, no secret
            lease_time=lease,
            listen=listen,
            stopping=self.stop.event.is_set,
            ways=WAYS,
            uploads=Uploader(self.config.state_folder() / "work", self.clock, self.stop.event.is_set),
        )
        pace = Pace(poll_interval=self.config.engine.poll_interval, renew_interval=lease / 3)
        scheduler = Scheduler(tools, self.clients, executor, owner=this_process(), pace=pace)
        self.stop.wake = scheduler.wake.set
        return scheduler


def open_shell(job: Job, address: str, keyring: Keyring) -> Shell:
    """Connect to the builder of a job's present attempt: it must hold the key that we, or its host, gave it."""
    builder = job.spec.builder
    owner, attempt = job.keys
    return connect(
        address,
        builder.ssh_port,
        builder.ssh_user,
        keyring.client_key(owner, attempt),
        keyring.host_key(owner, attempt),
        _CONNECT_TIMEOUT,
    )


@contextmanager
def runtime(config: Config, stop: Stop | None = None) -> Iterator[Runtime]:
    """Open the store (made or upgraded where needed) and hand out a runtime. Raises StoreError."""
    # The clients first: no database is made where AWS's own configuration is wrong.
    clients = BotoClients(workers=config.engine.workers)
    with Store.open(config.store_url()) as store:
        yield Runtime(config, store, SystemClock(), clients, stop or Stop())
