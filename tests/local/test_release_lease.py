"""A release is kept while its feeds are written and copied, however long that takes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest

from ebspub.app import release as app
from ebspub.errors import BusyError
from ebspub.store import Store
from tests.local.leftovers import Stage
from tests.local.released import PUBLISH, Files, clients, cloud, configure, register_all, runtime_of, stage, state

__all__ = ["clients", "cloud", "stage"]
#: Seconds; renewed at each third, which a busy machine may be late with.
LEASE = 3.0


@dataclass
class Slow(Files):
    """Feeds whose copy takes longer than the lease."""

    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def write(self, store: Store) -> list[str]:
        self.begun.set()
        assert self.ended.wait(60)
        return super().write(store)


@pytest.mark.long
@pytest.mark.parametrize("back", [False, True], ids=["publish", "unpublish"])
def test_no_other_process_takes_it_over_while_the_feeds_are_copied(stage: Stage, back: bool) -> None:
    configure(stage, PUBLISH)
    text = stage.config.read_text()
    stage.config.write_text(text.replace("[engine]\n", f"[engine]\nlease = {LEASE}\n"))
    register_all(stage)
    if back:
        app.publish(runtime_of(stage), ["lucid-server"], lambda _: None)
    command = app.unpublish if back else app.publish
    slow, results = Slow(stage), list[app.Result]()
    first = threading.Thread(
        target=lambda: results.append(command(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=slow))
    )
    first.start()
    assert slow.begun.wait(60)
    assert not slow.ended.wait(LEASE + 1)
    second = command(runtime_of(stage), ["lucid-server"], lambda _: None, feeds=Files(stage))
    slow.ended.set()
    first.join()
    assert second.exit_code == BusyError.exit_code
    assert [each.busy for each in second.releases] == [True]
    assert results[0].exit_code == 0, results[0]
    assert state(stage)[0] == ("unpublished" if back else "published")
