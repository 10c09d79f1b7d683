"""Parameter Store checks what it was given after the call has returned: only what it holds counts as given."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from ebspub.app import release as app
from ebspub.app.release import work
from ebspub.app.release.wanted import Change
from ebspub.aws.clients import RegionClients
from tests.local.leftovers import Stage
from tests.local.released import (
    PUBLISH,
    clients,
    cloud,
    configure,
    public,
    publish,
    register_all,
    runtime_of,
    seen,
    stage,
    state,
)

__all__ = ["clients", "cloud", "stage"]
Put = Callable[[RegionClients, Change], None]


def putting(monkeypatch: pytest.MonkeyPatch, put: Callable[[Put, RegionClients, Change], None]) -> None:
    """Let ``put`` stand between a call and what it is for."""
    real = work.CALLS["PutParameter"]
    monkeypatch.setattr(work, "CALLS", {**work.CALLS, "PutParameter": lambda *words: put(real, *words)})


def test_what_is_taken_late_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(stage, PUBLISH)
    register_all(stage)
    late: list[threading.Timer] = []

    def put(real: Put, clients: RegionClients, change: Change) -> None:
        late.append(threading.Timer(0.7, real, (clients, change)))
        late[-1].start()

    putting(monkeypatch, put)
    publish(stage)
    assert late
    assert seen(stage)["parameters"]
    assert state(stage)[0] == "published"
    for each in late:
        each.join()


def test_what_is_never_taken_holds_the_region_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(stage, PUBLISH + "patience = 1\n")
    register_all(stage)
    with monkeypatch.context() as broken:
        putting(broken, lambda _real, _clients, _change: None)
        (told,) = app.publish(runtime_of(stage), ["lucid-server"], lambda _: None).releases
        assert "Parameter Store has not taken /images/" in told.errors[stage.region].what
        assert state(stage)[0] == "publishing"
        assert public(stage) == set()
    publish(stage)
    assert state(stage)[0] == "published"
    assert seen(stage)["parameters"]
