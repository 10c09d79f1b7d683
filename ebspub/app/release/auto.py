"""`publish = "auto"`: what `run` publishes at its end."""

from __future__ import annotations

from collections.abc import Iterable

from ebspub.app.publish import Result
from ebspub.app.release import publish
from ebspub.app.release.drift import due
from ebspub.app.release.wanted import Change
from ebspub.app.runtime import Runtime
from ebspub.spec import JobSpec


def publish_complete(runtime: Runtime, specs: Iterable[JobSpec], result: Result) -> Result:
    """Publish the builds of ``specs`` that are complete and wish it; what came of them goes into ``result``.

    Where all of them are public already, EC2 is not asked: a run from cron that has nothing to do does nothing.
    """
    if runtime.stop.event.is_set():
        return result
    names = due(runtime.config, runtime.store, specs, runtime.clock)
    if names:
        done = publish(runtime, names, _quiet)
        result.released, result.signal = done.releases, done.signal
    return result


def _quiet(change: Change) -> None:
    del change
