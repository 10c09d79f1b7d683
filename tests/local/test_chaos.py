"""Everything goes wrong at random, and all is published: a third of the API calls fail, connections to builders break.

`make test` publishes into two regions, `make crash` (``--whole``) into eight.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ebspub.localcloud import Cloud, Effect, Rule
from ebspub.store import EffectStatus, Store, effects, jobs
from tests.local.publisher import Publisher

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

REGIONS = (
    "us-east-1",
    "eu-west-1",
    "us-west-1",
    "us-west-2",
    "eu-central-1",
    "sa-east-1",
    "ap-southeast-1",
    "ap-northeast-1",
)
#: The share of calls that fail. Alike often: refused, broken after all, carried out but never answered.
RATE = 0.3
TROUBLE = (
    Effect(kind="error", when="before", code="ServiceUnavailable", status=503, message="try again shortly"),
    Effect(kind="error", when="before", code="InternalError", status=500, message="an internal error has occurred"),
    Effect(kind="error", when="after", code="InternalError", status=500, message="it took effect all the same"),
    Effect(kind="drop", when="after"),
    Effect(kind="drop", when="after"),
)
#: Seconds between two looks for a connection to cut, and how likely one is cut then.
CUT_EVERY, CUT_RATE = 0.4, 0.5


@pytest.mark.parametrize("seed", [20101020])
def test_calls_fail_answers_are_lost_connections_break_and_all_is_published(
    publisher: Publisher, request: pytest.FixtureRequest, seed: int
) -> None:
    regions = REGIONS if request.config.getoption("--whole") else REGIONS[:2]
    publisher.configure(*regions)
    since = len(publisher.cloud.calls())
    number = publisher.cloud.add_fault(Rule(effects=TROUBLE, rate=RATE, seed=seed))
    with cutting(publisher.cloud, random.Random(seed)) as cut:
        process = publisher.start("run")
        code = process.wait(1000)
        (struck,) = (s for s in publisher.cloud.faults() if s.id == number)
        publisher.cloud.remove_fault(number)

    assert code == 0, (publisher.folder / "err").read_text()
    publisher.assert_published(regions)
    assert {job["attempt"] for job in publisher.status()} == {1}
    assert struck.struck > 0.2 * struck.matched
    calls = [call for call in publisher.cloud.calls(since) if call.mutating and call.executed]
    assert any(call.outcome == "lost" for call in calls)
    # What EC2 does not make one of by itself, it was asked for once only.
    made = Counter((call.region, call.action) for call in calls if call.outcome in ("ok", "lost", "InternalError"))
    assert {made[region, action] for region in regions for action in ("CreateSnapshot", "RegisterImage")} == {2}
    assert cut, "no connection was cut"
    assert unsettled(publisher) == []


def unsettled(publisher: Publisher) -> list[str]:
    """Return the calls of which the database does not know at the end what came of them."""
    with Store.open(f"sqlite:///{publisher.folder / 'ebspub.db'}") as store, store.read() as conn:
        calls = [call for job in jobs.find(conn) for call in effects.history(conn, job.id)]
    return [f"{call.action} {call.target or ''}" for call in calls if call.status is EffectStatus.OPEN]


@contextmanager
def cutting(cloud: Cloud, rng: random.Random) -> Iterator[list[int]]:
    """Kill sessions of the builders' SSH servers at random until the block ends; yields the process ids so far."""
    cut: list[int] = []
    over = threading.Event()

    def work() -> None:
        while not over.wait(CUT_EVERY):
            there = sessions(cloud.pid)
            if there and rng.random() < CUT_RATE:
                pid = rng.choice(there)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                cut.append(pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield cut
    finally:
        over.set()
        thread.join()


def sessions(cloud: int) -> list[int]:
    """Return the processes that serve an SSH connection to a builder of the cloud whose process id is given."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for proc in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(proc.name)] = int((proc / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(proc.name)] = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # It ended while we looked.
            continue

    def ours(pid: int) -> bool:
        while pid > 1 and pid != cloud:
            pid = parents.get(pid, 0)
        return pid == cloud

    served = (pid for pid, title in titles.items() if title.startswith("sshd") and "[listener]" not in title)
    return sorted(pid for pid in served if ours(pid))
