"""Disks published by the direct method: no builder, only blocks with data, resumable, incremental, proved."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ebspub.demo.image import serve
from ebspub.localcloud import Cloud, Delays, Effect, Rule, Settings, running
from ebspub.populate.direct.journal import WINDOW
from tests.conftest import Need
from tests.local.direct import Direct, Ground
from tests.support.disks import BLOCK, change, data_blocks, gpt_complaints, make_disk
from tests.support.variants import few

_SERIALS = itertools.count(1)


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory, need: Need, _session_isolation: None) -> Iterator[Ground]:
    need.tool("sgdisk", "qemu-img")
    folder = tmp_path_factory.mktemp("ground")
    (folder / "www").mkdir()
    settings = Settings(delays=Delays.all(0.1))
    with serve(folder / "www") as url, running(folder / "cloud", settings) as cloud:
        yield Ground(cloud, folder / "www", url)


@pytest.fixture
def direct(ground: Ground, tmp_path: Path) -> Iterator[Direct]:
    fresh = Direct(tmp_path, ground.cloud, ground.url, {}, ground.folder, ground=ground, suite=f"d{next(_SERIALS)}")
    yield fresh
    fresh.end()
    ground.cloud.heal()


@pytest.fixture
def disk(ground: Ground, direct: Direct) -> Path:
    """A raw disk of 48 MiB with 20 MiB of data, of this test's own."""
    folder = ground.folder / direct.suite
    folder.mkdir()
    return make_disk(folder / "disk.raw")


def compressed(image: Path, *command: str) -> Path:
    """Return the file that a compressor makes of an image, beside it."""
    subprocess.run([*command, str(image)], check=True)
    return next(image.parent.glob(f"{image.name}.*"))


def holds(job: dict[str, Any], snapshot: Path, image: Path) -> None:
    """See that a snapshot holds the image block by block, with a GPT of its own size."""
    wanted, found = data_blocks(image), data_blocks(snapshot)
    last = snapshot.stat().st_size // BLOCK - 1
    end = image.stat().st_size // BLOCK - 1
    moved = {0, end, last}
    assert {i: d for i, d in found.items() if i not in moved} == {i: d for i, d in wanted.items() if i not in moved}
    assert found[0][1024:17408] == wanted[0][1024:17408]
    assert gpt_complaints(snapshot) == ""
    assert job["facts"]["blocks"] == len(found)


def test_a_disk_reaches_two_regions_without_a_builder(direct: Direct, disk: Path) -> None:
    direct.offer(disk, "us-east-1", "eu-west-1")
    before = len(direct.cloud.calls())
    done = direct.call("run")
    assert done.returncode == 0, done.stderr

    found = direct.ours()
    assert [(job["state"], job["status"], job["instance_id"], job["volume_id"]) for job in found] == [
        ("registered", "done", None, None)
    ] * 2
    for job in found:
        holds(job, direct.content(job), disk)
        assert job["facts"]["builder"] == "none needed"
        assert job["facts"]["sha256"] == hashlib.sha256(disk.read_bytes()).hexdigest()
        assert job["facts"]["gpt"] == "moved"
    sent = sum(job["facts"]["blocks_sent"] for job in found)
    assert len(direct.puts(before)) == sent == 2 * len(data_blocks(direct.content(found[0])))
    actions = Counter(call.action for call in direct.cloud.calls(before) if call.mutating)
    assert set(actions) == {"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "RegisterImage"}
    direct.nothing_left()
    shown = direct.call("show", found[0]["id"]).stdout
    assert "pending -> launched" in shown
    assert "launched -> attached" in shown


@pytest.mark.parametrize("how", ["tar.gz", "qcow2"])
def test_a_packed_disk_is_unpacked_on_the_way(direct: Direct, disk: Path, how: str) -> None:
    packed = disk.parent / f"disk.{how}"
    if how == "tar.gz":
        (disk.parent / "README").write_text("not an image")
        subprocess.run(["tar", "-czSf", packed, "-C", disk.parent, "README", disk.name], check=True)
    else:
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", disk, packed], check=True)
    direct.offer(packed)
    done = direct.call("run")
    assert done.returncode == 0, done.stderr

    (job,) = direct.ours()
    holds(job, direct.content(job), disk)
    assert job["facts"]["sha256"] == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert list((direct.folder / "state").glob("work/*")) == []


def slow_puts(cloud: Cloud) -> None:
    """Let a put take so long that an upload can be met half-way."""
    cloud.add_fault(
        Rule(effects=(Effect(kind="delay", seconds=1.0),), actions=frozenset({"PutSnapshotBlock"}), times=None)
    )


def wait_for(holds_now: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds_now():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("sign", few([signal.SIGKILL], [signal.SIGKILL, signal.SIGTERM]))
def test_blocks_on_record_are_not_put_again_after_the_publisher_ends(
    direct: Direct, ground: Ground, sign: signal.Signals
) -> None:
    folder = ground.folder / direct.suite
    folder.mkdir()
    image = make_disk(folder / "big.raw", mib=160, data=range(4, 84))
    direct.offer(image)
    slow_puts(direct.cloud)
    before = len(direct.cloud.calls())
    process = direct.start("run")
    wait_for(lambda: direct.on_record() >= 40)
    process.send_signal(sign)
    began = time.monotonic()
    status = process.wait()
    if sign is signal.SIGTERM:
        assert status == 143
        assert time.monotonic() - began < 30
    recorded = direct.on_record()
    direct.cloud.heal()
    put_before = len(direct.puts(before))
    middle = len(direct.cloud.calls())
    done = direct.call("resume")
    assert done.returncode == 0, done.stderr

    (job,) = direct.ours()
    holds(job, direct.content(job), image)
    again = len(direct.puts(middle))
    assert again == job["facts"]["blocks_sent"] - recorded
    assert put_before - recorded <= WINDOW
    assert job["attempt"] == 1
    assert Counter(c.action for c in direct.cloud.calls(before))["StartSnapshot"] == 1


def test_a_daily_sends_what_changed(direct: Direct, disk: Path) -> None:
    direct.offer(disk)
    assert direct.call("run").returncode == 0
    change(disk, 20)
    change(disk, 60)
    with disk.open("r+b") as file:  # data that is no more
        file.seek(30 * BLOCK)
        file.write(bytes(2 * BLOCK))
    direct.offer(disk, serial="20240102", more='parent = "previous"')
    before = len(direct.cloud.calls())
    done = direct.call("run")
    assert done.returncode == 0, done.stderr

    first, second = direct.ours()
    holds({"facts": {"blocks": len(data_blocks(direct.content(second)))}}, direct.content(second), disk)
    assert second["facts"]["parent"] == first["snapshot_id"]
    assert len(direct.puts(before)) == second["facts"]["blocks_sent"] == 4
    digests = {job["facts"]["digest"] for job in (first, second)}
    assert len(digests) == 2

    # And a child of a child, after the first build's snapshot has gone.
    change(disk, 21)
    direct.offer(disk, serial="20240103", more='parent = "previous"')
    before = len(direct.cloud.calls())
    assert direct.call("run").returncode == 0
    third = direct.ours()[-1]
    holds(third, direct.content(third), disk)
    assert third["facts"]["parent"] == second["snapshot_id"]
    assert len(direct.puts(before)) == 1


@pytest.mark.long
def test_a_parent_that_is_gone_or_too_large_makes_a_whole_upload_with_a_reason(direct: Direct, disk: Path) -> None:
    direct.offer(disk, more='parent = "previous"')
    assert direct.call("run").returncode == 0
    first = direct.ours()[0]
    assert first["facts"]["parent_reason"] == "no earlier build of this product is registered"
    ec2 = boto(direct.cloud, "ec2")
    ec2.deregister_image(ImageId=first["ami_id"])
    ec2.delete_snapshot(SnapshotId=first["snapshot_id"])
    direct.offer(disk, serial="20240102", more='parent = "previous"')
    before = len(direct.cloud.calls())
    assert direct.call("run").returncode == 0

    second = direct.ours()[-1]
    assert first["snapshot_id"] in second["facts"]["parent_reason"]
    shown = {
        line.split()[0]: line.split(maxsplit=1)[-1]
        for line in direct.call("show", second["id"]).stdout.splitlines()
        if line
    }
    assert shown["parent"] == f"none: {second['facts']['parent_reason']}"
    assert shown["sent"].startswith(f"{second['facts']['blocks']} blocks")
    assert len(direct.puts(before)) == second["facts"]["blocks"]
    holds(second, direct.content(second), disk)


@pytest.mark.long
def test_a_parent_that_ec2_refuses_makes_a_whole_upload_with_a_reason(direct: Direct, disk: Path) -> None:
    direct.offer(disk)
    assert direct.call("run").returncode == 0
    refused = Effect(kind="error", code="ValidationException", status=400, message="not this parent")
    parent = direct.ours()[0]["snapshot_id"]
    direct.cloud.add_fault(
        Rule(effects=(refused,), actions=frozenset({"StartSnapshot"}), params={"ParentSnapshotId": parent}, times=None)
    )
    direct.offer(disk, serial="20240102", more='parent = "previous"')
    done = direct.call("run")
    assert done.returncode == 0, done.stderr

    second = direct.ours()[-1]
    assert "not this parent" in second["facts"]["parent_reason"]
    assert "parent" not in second["facts"]
    holds(second, direct.content(second), disk)
    direct.nothing_left()


def boto(cloud: Cloud, service: str) -> Any:
    import boto3

    make: Any = boto3.client
    return make(
        service,
        region_name="us-east-1",
        endpoint_url=cloud.endpoint,
        aws_access_key_id=cloud.access_key,
        aws_secret_access_key="-",
    )


def test_what_is_not_the_artefact_is_never_registered(direct: Direct, disk: Path) -> None:
    proof = hashlib.sha256(disk.read_bytes()).hexdigest()
    change(disk, 20)
    packed = compressed(disk, "pigz", "-k")
    direct.offer(packed, sha256=proof)
    before = len(direct.cloud.calls())
    done = direct.call("run")

    assert done.returncode == 3
    (job,) = direct.ours()
    assert (job["status"], job["error"]["code"]) == ("failed", "checksum")
    assert proof in job["error"]["message"]
    actions = {call.action for call in direct.cloud.calls(before)}
    assert not actions & {"CompleteSnapshot", "RegisterImage"}
    direct.nothing_left()


@pytest.mark.long
def test_lost_answers_and_throttling_cost_nothing_but_time(direct: Direct, disk: Path) -> None:
    lost = Effect(kind="drop", when="after")
    for action in ("StartSnapshot", "CompleteSnapshot", "RegisterImage"):
        direct.cloud.add_fault(Rule(effects=(lost,), actions=frozenset({action})))
    slow = Effect(kind="error", code="RequestThrottledException", status=400, message="slow down")
    broken = Effect(kind="error", code="InternalServerException", status=500)
    puts = frozenset({"PutSnapshotBlock"})
    direct.cloud.add_fault(Rule(effects=(slow, broken, lost), actions=puts, rate=0.3, seed=3))
    direct.offer(disk)
    done = direct.call("run")
    assert done.returncode == 0, done.stderr

    (job,) = direct.ours()
    holds(job, direct.content(job), disk)
    assert job["attempt"] == 1
    direct.nothing_left()


@pytest.mark.long
def test_an_expired_snapshot_is_started_anew(direct: Direct, disk: Path) -> None:
    gone = Effect(kind="error", code="ValidationException", status=400, message="not in the pending state")
    direct.cloud.add_fault(Rule(effects=(gone,), actions=frozenset({"PutSnapshotBlock"}), nth=10))
    direct.offer(disk)
    done = direct.call("run")
    assert done.returncode == 0, done.stderr

    (job,) = direct.ours()
    assert job["attempt"] == 2
    holds(job, direct.content(job), disk)
    direct.nothing_left()


@pytest.mark.long
def test_a_cancelled_upload_leaves_nothing(direct: Direct, disk: Path) -> None:
    direct.offer(disk)
    slow_puts(direct.cloud)
    process = direct.start("run")
    wait_for(lambda: direct.on_record() > 0)
    process.kill()
    process.wait()
    direct.cloud.heal()
    (job,) = direct.ours()
    done = direct.call("cancel", job["id"])

    assert done.returncode == 0, done.stderr
    assert direct.ours()[0]["status"] == "cancelled"
    direct.nothing_left()


def test_what_the_direct_method_cannot_take_is_refused_with_the_reason(direct: Direct, ground: Ground) -> None:
    folder = ground.folder / direct.suite
    folder.mkdir()
    image = folder / "bare.img"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run([shutil.which("mke2fs") or "mke2fs", "-q", "-F", image], check=True)
    direct.offer(image)
    done = direct.call("run")
    assert done.returncode == 2
    assert "a bare file system, which an hvm instance cannot boot" in done.stderr
    assert direct.ours() == []
    direct.nothing_left()
