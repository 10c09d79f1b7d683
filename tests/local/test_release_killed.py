"""Publishing that dies at any call, and the next that finishes it: nothing twice, nothing forgotten."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from ebspub.app import release as app
from ebspub.app.publish import Result
from ebspub.app.release.auto import publish_complete
from ebspub.app.release.drift import due
from ebspub.aws.clients import BotoClients
from ebspub.config import load, select
from ebspub.store import Store, leases, notices, releases, tables
from tests.local.leftovers import Stage
from tests.local.released import (
    FRIEND,
    ORGANIZATION,
    PUBLISH,
    Files,
    clients,
    cloud,
    configure,
    ebspub,
    open_calls,
    public,
    publish,
    register,
    register_all,
    runtime_of,
    seen,
    stage,
    state,
)
from tests.support.variants import few

__all__ = ["clients", "cloud", "stage"]


class Died(BaseException):
    """The process is gone, at this very moment."""


@dataclass
class DyingFiles(Files):
    """Feeds at which the process dies."""

    when: str = ""

    def write(self, store: Store) -> list[str]:
        if self.when == "after":
            super().write(store)
        raise Died("feeds")


def dying(clients: BotoClients, region: str, nth: int, when: str) -> Callable[[], None]:
    """Let the process die before or after its ``nth`` call that changes something; return what undoes that."""
    here = clients.region(region)
    counted = itertools.count(1)
    dies = [False]

    def called(model: Any, **_: Any) -> None:
        dies[0] = not model.name.startswith(("Describe", "Get")) and next(counted) == nth
        if dies[0] and when == "before":
            raise Died(model.name)

    def answered(model: Any, **_: Any) -> None:
        if dies[0] and not model.name.startswith(("Describe", "Get")):
            raise Died(model.name)

    hooks = [("before-call", called), ("after-call", answered)]
    for client, (event, hook) in itertools.product((here.writer, here.ssm), hooks):
        client.meta.events.register(event, hook)

    def undo() -> None:
        for client, (event, hook) in itertools.product((here.writer, here.ssm), hooks):
            client.meta.events.unregister(event, hook)

    return undo


def until_dead(stage: Stage, work: Callable[[], object], nth: int, when: str) -> bool:
    """Do ``work`` until it dies; return whether it did. Its lease is left as that of a process that is gone."""
    undo = dying(stage.clients, stage.region, nth, when)
    try:
        work()
    except Died:
        with stage.store.write() as conn:
            conn.execute(tables.releases.update().values(lease_owner="gone", lease_until=0.0))
        return True
    finally:
        undo()
    return False


def kept_state(stage: Stage) -> str:
    with stage.store.read() as conn:
        (found,) = releases.find(conn)
    return found.state.value


#: For one region and arch: tags of two, permissions of two (the snapshot's are two calls), two parameters.
PUBLISHING = 7
UNPUBLISHING = 5


@pytest.mark.parametrize("when", few(["after"], ["before", "after"]))
def test_a_publish_that_dies_at_any_call_is_finished_by_the_next(stage: Stage, when: str) -> None:
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    for nth in range(1, PUBLISHING + 2):
        serial = f"20101020.{nth}"
        stage.config.write_text(text.replace('serial = "20101020"', f'serial = "{serial}"'))
        register(stage, "amd64", stage.region)
        name, before = f"lucid-server-{serial}", len(stage.cloud.calls())

        died = until_dead(stage, lambda name=name: publish(stage, name), nth, when)  # type: ignore[misc]

        assert died == (nth <= PUBLISHING)
        assert (f"{name}-amd64-{stage.region}" in public(stage)) != died
        with stage.store.read() as conn:  # on record before it was made
            assert [each.closed_at is None for each in releases.history(conn, [name])][-1] == died
        publish(stage, name)
        done = [call for call in stage.cloud.calls(before) if call.mutating and call.executed]
        # The one whose answer was lost was made, seen, and not made again.
        assert len(done) == PUBLISHING
        assert state(stage, name) == ("published", "release")
        with stage.store.read() as conn:
            assert [each for each in releases.history(conn, [name]) if each.closed_at is None] == []
        assert publish(stage, name) == []


@pytest.mark.parametrize("when", few(["after"], ["before", "after"]))
def test_an_unpublish_that_dies_at_any_call_is_finished_by_the_next(stage: Stage, when: str) -> None:
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    stage.config.write_text(text)
    register(stage, "amd64", stage.region)

    def unpublish() -> object:
        return app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)

    for nth in range(1, UNPUBLISHING + 2):
        publish(stage)
        died = until_dead(stage, unpublish, nth, when)
        assert died == (nth <= UNPUBLISHING)
        assert public(stage) == set()
        unpublish()
        assert state(stage) == ("unpublished", "release")
        found = seen(stage)
        assert (found["launch"], found["volume"], found["parameters"]) == ([], [], [])


def test_what_was_made_without_an_answer_is_taken_away_when_it_is_wanted_no_more(stage: Stage) -> None:
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    stage.config.write_text(text)
    register(stage, "amd64", stage.region)
    assert until_dead(stage, lambda: publish(stage), PUBLISHING, "after")
    assert len(seen(stage)["parameters"]) == 2
    configure(stage, "[publish]\npublic = true\n")

    made = publish(stage)

    assert made.count("DeleteParameter") == 2
    assert seen(stage)["parameters"] == []


def test_a_process_that_dies_at_the_feeds_is_finished_by_the_next(stage: Stage) -> None:
    register(stage, "amd64", stage.region)
    stage.config.write_text(stage.config.read_text() + "quorum = 1\n")
    stage.config.write_text(stage.config.read_text().replace('"amd64", "i386"', '"amd64"'))
    runtime, whole = runtime_of(stage), Files(stage)
    works: list[Callable[..., app.Result]] = [app.publish, app.unpublish]
    for when, work in itertools.product(("before", "after"), works):
        whole.notes.clear()
        with pytest.raises(Died):
            work(runtime, ["lucid-server"], lambda _: None, feeds=DyingFiles(stage, when=when))
        with stage.store.write() as conn:
            conn.execute(tables.releases.update().values(lease_owner="gone", lease_until=0.0))

        result = work(runtime, ["lucid-server"], lambda _: None, feeds=whole)

        assert result.exit_code == 0, result
        assert state(stage)[0] == ("published" if work is app.publish else "unpublished")
        assert [bool(names) for names, _ in whole.notes] == [work is app.publish]
        assert (seen(stage)["launch"] != []) == (work is app.publish)


def test_a_late_region_that_was_to_be_in_the_feeds_is_brought_there_by_the_next_run(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text().replace("[builds.source]", 'publish = "auto"\n[builds.source]'))
    stage.config.write_text(stage.config.read_text().replace('"amd64", "i386"', '"amd64"'))
    configure(stage, PUBLISH + "quorum = 1\n")
    config, whole = load(stage.config), Files(stage)

    def left() -> list[str]:
        return due(config, stage.store, select(config))

    register(stage, "amd64", stage.regions[0])
    publish(stage, feeds=whole)
    assert left() == []
    register(stage, "amd64", stage.regions[1])
    with pytest.raises(Died):
        app.publish(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=DyingFiles(stage))
    assert (len(public(stage)), kept_state(stage)) == (2, "published")
    with stage.store.write() as conn:
        conn.execute(tables.releases.update().values(lease_owner=None, lease_until=None))
    assert left() == ["lucid-server-20101020"]
    broken = Files(stage, "the folder is full")
    assert app.publish(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=broken).exit_code == 3
    assert left() == ["lucid-server-20101020"]

    publish_complete(runtime_of(stage), select(config), Result())

    assert left() == []
    with stage.store.read() as conn:
        assert [len(each.jobs) for each, _ in notices.history(conn, ["lucid-server-20101020"])] == [1, 2]


def test_what_was_not_told_of_a_build_when_its_process_was_killed_is_told_by_the_next(
    stage: Stage, tmp_path: Path
) -> None:
    register_all(stage)
    file = tmp_path / "told"
    keep = [sys.executable, "-c", "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())", str(file)]
    stage.config.write_text(stage.config.read_text() + f"[notify]\ncommand = {json.dumps(keep)}\n")
    rule = stage.cloud.deny("PutParameter")
    assert ebspub(stage, "publish", "lucid-server").returncode == 3
    stage.cloud.remove_fault(rule)
    publish(stage)  # without any notifier: as if it had been killed before it told
    done = ebspub(stage, "run")
    assert (done.returncode, done.stdout) == (0, "")
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["event"] for each in told] == ["finished", "published"]
    assert (told[0]["command"], len(told[0]["errors"])) == ("publish", 2)
    assert told[1]["release"]["id"] == "lucid-server-20101020"


@pytest.mark.long
@pytest.mark.parametrize("when", few(["after"], ["before", "after"]))
def test_a_process_that_is_killed_leaves_a_lease_that_the_next_takes(
    stage: Stage, when: Literal["before", "after"]
) -> None:
    register_all(stage)
    command = [sys.executable, "-m", "ebspub", "--config", str(stage.config), "publish", "lucid-server"]
    process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stage.cloud.kill_at(process.pid, 2, when=when, actions=["ModifyImageAttribute"])
    assert process.wait(90) == -signal.SIGKILL
    stage.cloud.heal()
    assert public(stage) == set()

    done = ebspub(stage, "publish", "lucid-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert state(stage) == ("published", "release")
    assert open_calls(stage) == []
    assert seen(stage)["launch"] == sorted(["all", FRIEND, ORGANIZATION])


def test_one_process_at_a_time_is_at_a_release(stage: Stage) -> None:
    register_all(stage)
    publish(stage)
    with stage.store.write() as conn:
        found = releases.get(conn, "lucid-server-20101020")
        assert found is not None
        now = time.time()
        assert releases.claim(conn, found, owner=leases.this_process(), now=now, until=now + 60)
    done = ebspub(stage, "publish", "lucid-server")
    assert (done.returncode, "another process is at it" in done.stderr) == (75, True)
