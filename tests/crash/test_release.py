"""`ebspub publish` and `unpublish`, killed at any call: what is found can be used meanwhile, and the next ends it.

``--whole`` (`make crash`) kills at every call, before and after it; else at a few.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ebspub.app import release as app
from ebspub.localcloud import Effect, Rule
from ebspub.localcloud.calls import Call
from ebspub.store import EffectStatus, releases
from tests.local.leftovers import Stage
from tests.local.released import PUBLISH, clients, cloud, configure, public, register, runtime_of, seen, stage, state

__all__ = ["clients", "cloud", "stage"]
pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
OLD, NEW = "lucid-server-20101001", "lucid-server-20101020"
#: Without ``--whole``: before or after the last of these calls.
FEW = {
    "publish": [("PutParameter", "after")],
    "unpublish": [("PutParameter", "after")],
}


def command(stage: Stage, verb: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "ebspub", "--config", str(stage.config), verb, NEW]


def current(stage: Stage) -> str:
    """Return the AMI that `current` names."""
    ssm = stage.clients.region(stage.region).ssm
    return str(ssm.get_parameter(Name="/images/lucid/current/amd64")["Parameter"]["Value"])


def serial(stage: Stage, build: str) -> None:
    text = re.sub(r'serial = "\d+"', f'serial = "{build.rpartition("-")[2]}"', stage.config.read_text())
    stage.config.write_text(text)


@pytest.fixture
def folder(stage: Stage) -> Path:
    """A folder of feeds, an older build that is in it, and a newer one that is registered: of one region and arch."""
    text = stage.config.read_text().replace('"amd64", "i386"', '"amd64"').replace(f"[regions.{stage.regions[1]}]", "")
    stage.config.write_text(text)
    made = stage.config.parent / "feeds"
    configure(stage, f'{PUBLISH}\n[feeds]\nfolder = "{made}"\n')
    for build in (OLD, NEW):
        serial(stage, build)
        register(stage, "amd64", stage.region)
    again(stage, "publish", OLD)
    return made


def again(stage: Stage, verb: str, build: str = NEW) -> Sequence[str]:
    """Publish, or unpublish, in this process, undisturbed; return the calls that were made."""
    works: dict[str, Callable[..., app.Result]] = {"publish": app.publish, "unpublish": app.unpublish}
    result = works[verb](runtime_of(stage), [build], lambda _: None)
    assert result.exit_code == 0, result
    return [change.action for change in result.releases[0].made]


def prepare(stage: Stage, other: str) -> None:
    """Let all be as before the first time: the build is not public and has no tags, or is public."""
    if other == "publish":
        again(stage, "publish")
        return
    with stage.store.read() as conn:
        known = releases.get(conn, NEW)
    if known is not None:
        again(stage, "unpublish")
    serial(stage, NEW)
    job = stage.get(f"{NEW}-amd64-{stage.region}")
    gone: list[Any] = [{"Key": key} for key in ("Stream", "ebspub:label")]
    stage.ec2().delete_tags(Resources=[str(job.ami_id), str(job.snapshot_id)], Tags=gone)


def killed(stage: Stage, verb: str, rule: dict[str, Any], when: str) -> bool:
    """Run the command until it is killed at a call; return whether it was."""
    process = subprocess.Popen(command(stage, verb), env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    kill = Effect(kind="kill", when=when, pid=process.pid)  # type: ignore[arg-type]
    number = stage.cloud.add_fault(Rule(effects=(kill,), **rule))
    try:
        said, _ = process.communicate(timeout=100)
    finally:
        stage.cloud.remove_fault(number)
    assert process.returncode in (0, -signal.SIGKILL), said
    return process.returncode != 0


def changing(calls: Sequence[Call]) -> Counter[str]:
    return Counter(call.action for call in calls if call.mutating and call.executed)


def judge(stage: Stage, folder: Path) -> None:
    """Look for what must never be: found or named and not usable."""
    found = set(re.findall(r"ami-[0-9a-f]+", "".join(path.read_text() for path in folder.rglob("*.txt"))))
    for build in (OLD, NEW):
        serial(stage, build)
        job = stage.get(f"{build}-amd64-{stage.region}")
        ec2 = stage.ec2()
        launch = ec2.describe_image_attribute(ImageId=job.ami_id, Attribute="launchPermission")["LaunchPermissions"]
        volume = ec2.describe_snapshot_attribute(SnapshotId=job.snapshot_id, Attribute="createVolumePermission")
        usable = {"Group": "all"} in launch
        assert not usable or {"Group": "all"} in volume["CreateVolumePermissions"]
        assert usable or (job.ami_id not in found and job.id not in public(stage) and current(stage) != job.ami_id)


@pytest.mark.parametrize("verb", ["publish", "unpublish"])
def test_killed_at_any_call_it_is_ended_by_the_next(
    stage: Stage, folder: Path, verb: str, request: pytest.FixtureRequest
) -> None:
    other = {"publish": "unpublish", "unpublish": "publish"}[verb]
    prepare(stage, other)
    since = len(stage.cloud.calls())
    assert subprocess.run(command(stage, verb), capture_output=True, timeout=100, check=False).returncode == 0
    recorded = stage.cloud.calls(since)
    whole = request.config.getoption("--whole")
    points: list[tuple[dict[str, Any], str]] = [
        ({"nth": nth}, when) for nth in range(1, len(recorded) + 1) for when in ("before", "after")
    ]
    if not whole:
        counts = changing(recorded)
        points = [({"actions": frozenset({action}), "nth": counts[action]}, when) for action, when in FEW[verb]]
    for rule, when in points:
        prepare(stage, other)
        since = len(stage.cloud.calls())

        died = killed(stage, verb, rule, when)

        assert died, (rule, when)
        judge(stage, folder)
        again(stage, verb)
        extra = changing(stage.cloud.calls(since)) - changing(recorded)
        assert sum(extra.values()) <= 1, (rule, when, extra)  # the one whose answer was lost
        judge(stage, folder)
        ended(stage, verb)
        assert again(stage, verb) == []


def ended(stage: Stage, verb: str) -> None:
    """See that all is as it must be at the end."""
    serial(stage, NEW)
    job, older = (stage.get(f"{build}-amd64-{stage.region}") for build in (NEW, OLD))
    assert state(stage, NEW)[0] == f"{verb}ed"
    assert (job.id in public(stage)) == (verb == "publish")
    assert current(stage) == (job if verb == "publish" else older).ami_id
    if verb == "unpublish":
        found = seen(stage)
        assert (found["launch"], found["volume"], found["parameters"]) == ([], [], [])
    with stage.store.read() as conn:
        calls = releases.history(conn, [OLD, NEW])
    # What was lost may have been for nothing in the end; then it is settled.
    assert [call.action for call in calls if call.status is EffectStatus.OPEN] == []
