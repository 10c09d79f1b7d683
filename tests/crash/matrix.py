"""Kill a publisher at a point, resume, and say what is wrong with what came out."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ebspub.localcloud import Effect, Rule
from ebspub.localcloud.calls import Call
from ebspub.states import Kind
from ebspub.store import EffectStatus, Store, effects, jobs
from tests.crash.points import ARCH, Point, Quick, phases_of, quick

#: Of several of these with one client token EC2 makes one thing.
TOKEN_HONOURED = ("RunInstances", "CreateVolume")
#: Of several of these it makes several.
MADE_ONCE = ("CreateSecurityGroup", "CreateSnapshot", "RegisterImage")
#: Needed or not, by whether the builder's end or the volume's release is seen first.
OPTIONAL = ("DetachVolume",)


@dataclass
class Outcome:
    """What came of one point. ``killed`` is false where the publisher was through before it got there."""

    point: Point
    killed: bool = True
    seconds: float = 0.0
    #: The changing calls that were made more often than in an undisturbed run.
    repeated: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The result in a word or two."""
        if self.problems:
            return "; ".join(problem.splitlines()[0][:100] for problem in self.problems)
        if not self.killed:
            return "finished first"
        return f"resumed, repeating {', '.join(self.repeated)}" if self.repeated else "resumed"


def try_point(
    publisher: Quick, region: str, point: Point, changes: Mapping[str, int], *, edit: Callable[[str], str] = quick
) -> Outcome:
    """Publish in ``region``, which nobody else uses meanwhile; die at ``point``; resume; judge.

    ``changes`` says how often each changing call is made undisturbed, ``edit`` changes the configuration.
    """
    outcome = Outcome(point)
    began = time.monotonic()
    publisher.configure(region, edit=edit)
    since = len(publisher.cloud.calls())
    code = _die(publisher, region, point, since)
    if code == 0:
        outcome.killed = False
    elif code != -signal.SIGKILL:
        outcome.problems.append(f"the publisher exited with {code}: {(publisher.folder / 'err').read_text()[-2000:]}")
    outcome.problems += _resume(publisher)
    try:
        publisher.assert_published([region], [ARCH])
    except AssertionError as error:
        outcome.problems.append(f"not published as it should be: {error}")
    calls = [call for call in publisher.cloud.calls(since) if call.region == region and call.mutating]
    outcome.repeated, wrong = _repeated(calls, changes)
    outcome.problems += wrong + _on_record(publisher)
    outcome.seconds = time.monotonic() - began
    return outcome


def _die(publisher: Quick, region: str, point: Point, since: int) -> int:
    """Start a publisher and return its exit code after it was killed at the point."""
    if point.kind == "commit":
        return publisher.start_command(publisher.dying(point.nth, point.when)).wait(120)
    process = publisher.start("run", "--arch", ARCH)
    if point.kind == "phase":
        return _die_in_phase(publisher, process, region, point, since)
    assert point.when != "during"
    kill = Effect(kind="kill", when=point.when, pid=process.pid)
    rule = Rule(effects=(kill,), actions=frozenset({point.action}), regions=frozenset({region}), nth=point.nth)
    number = publisher.cloud.add_fault(rule)
    try:
        return process.wait(120)
    finally:
        publisher.cloud.remove_fault(number)


def _die_in_phase(publisher: Quick, process: subprocess.Popen[str], region: str, point: Point, since: int) -> int:
    over = threading.Event()
    timer = threading.Timer(60.0, over.set)
    timer.start()
    try:
        if point.action in phases_of(publisher, region, since, over):
            process.kill()
        return process.wait(60)
    finally:
        timer.cancel()


def _resume(publisher: Quick) -> list[str]:
    """Go on as the user would; where the publisher died before it had planned anything, that is `run` again."""
    done = publisher.call("resume")
    if done.returncode == 0 and not publisher.status():
        done = publisher.call("run", "--arch", ARCH)
    if done.returncode == 0:
        return []
    return [f"{done.args[-1]} exited with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"]


def _repeated(calls: Sequence[Call], changes: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """Return the changing calls that took effect more often than they do undisturbed, and what is wrong with that."""
    reached = [call for call in calls if call.executed]
    counts = Counter(call.action for call in reached if call.action not in OPTIONAL)
    extra = Counter({action: n - changes.get(action, 0) for action, n in counts.items()})
    repeated = sorted(action for action, n in (+extra).items() for _ in range(n))
    wrong = []
    if len(repeated) > 1:
        wrong.append(f"more than one call repeated: {', '.join(repeated)}")
    for action in MADE_ONCE:
        took_effect = [call for call in reached if call.action == action and call.outcome in ("ok", "lost")]
        if len(took_effect) != changes[action]:
            wrong.append(f"{action} took effect {len(took_effect)} times")
    for action in TOKEN_HONOURED:
        tokens = {call.client_token for call in reached if call.action == action}
        if len(tokens) != 1 or "" in tokens:
            wrong.append(f"{action} with the client tokens {sorted(tokens)}")
    return repeated, wrong


def _on_record(publisher: Quick) -> list[str]:
    """Return what is wrong with what the database says at the end."""
    with Store.open(f"sqlite:///{publisher.folder / 'ebspub.db'}") as store, store.read() as conn:
        wrong = []
        for job in jobs.find(conn):
            if job.attempt != 1:
                wrong.append(f"attempt {job.attempt}: {job.error}")
            live = sorted(resource.kind for resource in job.live())
            if live != sorted([Kind.IMAGE, Kind.SNAPSHOT]):
                wrong.append(f"on record as present: {live}")
            still_open = [call.action for call in effects.history(conn, job.id) if call.status is EffectStatus.OPEN]
            if still_open:
                wrong.append(f"calls without an outcome on record: {still_open}")
        return wrong
