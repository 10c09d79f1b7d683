"""An upload against a snapshot in memory: what it puts, what it leaves, when it stops."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ebspub.aws import blocks as ebs
from ebspub.clock import SystemClock
from ebspub.engine.ledger import Ledger
from ebspub.engine.uploads import Ended, Failed, Order, Running
from ebspub.errors import LeaseLostError, VerificationError
from ebspub.populate.direct import Uploader
from ebspub.populate.direct.journal import WINDOW
from ebspub.populate.imaging.volume import digest
from ebspub.spec import Source
from ebspub.states import Kind, Status
from ebspub.store import Job, Lease, Resource, Store, blocks, effects, jobs, leases
from tests.contract.store.rows import spec
from tests.support.disks import change, data_blocks, make_disk


@dataclass
class Snapshot:
    """What the client of a region's direct APIs fills."""

    held: dict[int, bytes] = field(default_factory=dict)
    puts: Counter[int] = field(default_factory=Counter)
    hook: Callable[[int], None] = lambda _index: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put_snapshot_block(self, **told: Any) -> None:
        data = bytes(told["BlockData"])
        assert base64.b64decode(told["Checksum"]) == hashlib.sha256(data).digest()
        assert len(data) == told["DataLength"] == ebs.SIZE
        self.hook(told["BlockIndex"])
        with self.lock:
            self.held[told["BlockIndex"]] = data
            self.puts[told["BlockIndex"]] += 1


def failing(code: str, times: int, status: int = 400) -> Callable[[int], None]:
    left = [times]

    def hook(_index: int) -> None:
        if left[0] > 0:
            left[0] -= 1
            answer: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "PutSnapshotBlock")

    return hook


@dataclass
class Bench:
    """A store with a job that this process drives, and its snapshot."""

    store: Store
    folder: Path
    image: Path
    snapshot: Snapshot = field(default_factory=Snapshot)
    uploaders: list[Uploader] = field(default_factory=list)
    stopping: bool = False

    def plan(self, serial: str = "20240101", *, sha256: str | None = None, size: int = 1) -> Job:
        proof = sha256 or hashlib.sha256(self.image.read_bytes()).hexdigest()
        volume = spec().volume.model_copy(update={"size": size})
        document = spec(serial, method="direct", source=Source(url=self.image.as_uri(), sha256=proof), volume=volume)
        with self.store.write() as conn:
            assert jobs.add(conn, document, time.time())
        return self.job(document.job_id)

    def job(self, job_id: str) -> Job:
        with self.store.read() as conn:
            found = jobs.get(conn, job_id)
        assert found is not None
        return found

    def take(self, job: Job, owner: str = "me") -> Lease:
        now = time.time()
        with self.store.write() as conn:
            lease = leases.claim(
                conn, job.id, owner=owner, now=now, until=now + 60, status=Status.RUNNING, dead=lambda _: True
            )
        assert lease is not None
        return lease

    def row(self, job: Job) -> Resource:
        with self.store.write() as conn:
            number = effects.intend(
                conn, job, kind=Kind.SNAPSHOT, purpose="s", token=job.id, request={}, now=time.time()
            )
            effects.made(conn, number, f"snap-{job.spec.serial}", time.time())
        return self.job(job.id).resources[-1]

    def order(self, job: Job, row: Resource, parent: int | None = None, owner: str = "me") -> Order:
        ledger = Ledger(self.store, SystemClock(), self.take(job, owner), lease_time=60.0)
        clients: Any = SimpleNamespace(ebs=self.snapshot)
        return Order(job, row, parent, ledger, clients)

    def uploader(self) -> Uploader:
        made = Uploader(self.folder / "work", SystemClock(), lambda: self.stopping)
        self.uploaders.append(made)
        return made

    def run(self, order: Order) -> Ended | Failed:
        uploader = self.uploader()
        assert uploader.start(order)
        return ended(uploader, order)

    def recorded(self, row: Resource) -> blocks.Recorded:
        with self.store.read() as conn:
            return blocks.load(conn, row.id)


def ended(uploader: Uploader, order: Order) -> Ended | Failed:
    deadline = time.monotonic() + 60
    while isinstance(found := uploader.look(order), Running):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert found is not None
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    image = make_disk(tmp_path / "disk.raw", mib=24, data=range(2, 20))
    with Store.open(f"sqlite:///{tmp_path}/ebspub.db") as store:
        found = Bench(store, tmp_path, image)
        yield found
        for uploader in found.uploaders:
            uploader.close()


def test_only_blocks_with_data_are_put_each_once(bench: Bench) -> None:
    job = bench.plan()
    row = bench.row(job)
    found = bench.run(bench.order(job, row))
    assert isinstance(found, Ended)
    wanted = data_blocks(bench.image)
    moved = {0, 47, 2047}
    assert {i: d for i, d in bench.snapshot.held.items() if i not in moved} == {
        i: d for i, d in wanted.items() if i not in moved
    }
    assert set(bench.snapshot.puts.values()) == {1}
    sums = {index: hashlib.sha256(data).digest() for index, data in bench.snapshot.held.items()}
    assert bench.recorded(row).sent == sums
    assert found.facts["checksum"] == ebs.linear(sums)
    assert found.facts["blocks_sent"] == len(sums)


def test_the_digest_is_of_the_source_whatever_the_volume_and_the_method(bench: Bench) -> None:
    wanted = digest({index: hashlib.sha256(data).digest() for index, data in data_blocks(bench.image).items()})
    for serial, size in (("20240101", 1), ("20240102", 2)):
        job = bench.plan(serial, size=size)
        found = bench.run(bench.order(job, bench.row(job)))
        assert isinstance(found, Ended)
        assert found.facts["gpt"] == "moved"
        assert found.facts["digest"] == wanted


@pytest.mark.parametrize(("code", "status"), [("RequestThrottledException", 400), ("InternalServerException", 500)])
def test_refusals_that_pass_are_tried_again(bench: Bench, code: str, status: int) -> None:
    bench.snapshot.hook = failing(code, 5, status)
    job = bench.plan()
    assert isinstance(bench.run(bench.order(job, bench.row(job))), Ended)


def test_a_snapshot_that_takes_no_blocks_any_more_ends_the_upload(bench: Bench) -> None:
    bench.snapshot.hook = failing("ValidationException", 1000)
    job = bench.plan()
    found = bench.run(bench.order(job, bench.row(job)))
    assert isinstance(found, Failed)
    assert "ValidationException" in found.error.what


def test_an_upload_stops_when_the_lease_is_lost(bench: Bench) -> None:
    bench.snapshot.hook = lambda _index: time.sleep(0.2)
    job = bench.plan()
    row = bench.row(job)
    order = bench.order(job, row)
    uploader = bench.uploader()
    uploader.start(order)
    while not bench.recorded(row).sent:
        time.sleep(0.01)
    bench.take(job, "another")
    found = ended(uploader, order)
    assert isinstance(found, Failed)
    assert isinstance(found.error, LeaseLostError)
    assert len(bench.snapshot.puts) <= len(bench.recorded(row).sent) + WINDOW


def test_an_upload_that_was_stopped_is_gone_on_with(bench: Bench) -> None:
    gate = threading.Semaphore(15)

    def wait(_index: int) -> None:
        gate.acquire()

    bench.snapshot.hook = wait
    job = bench.plan()
    row = bench.row(job)
    uploader = bench.uploader()
    uploader.start(bench.order(job, row))
    while len(bench.recorded(row).sent) < 15:
        time.sleep(0.01)
    uploader.close()
    gate.release(100)
    bench.snapshot.hook = lambda _index: None
    put, before = set(bench.recorded(row).sent), Counter(bench.snapshot.puts)
    found = bench.run(bench.order(job, row))
    assert isinstance(found, Ended)
    assert all(bench.snapshot.puts[index] == before[index] for index in put)
    sums = {index: hashlib.sha256(data).digest() for index, data in bench.snapshot.held.items()}
    assert found.facts["checksum"] == ebs.linear(sums)


def test_a_child_puts_what_differs_zeros_included(bench: Bench) -> None:
    first = bench.plan()
    parent = bench.row(first)
    one = bench.run(bench.order(first, parent))
    assert isinstance(one, Ended)
    change(bench.image, 10)
    with bench.image.open("r+b") as file:
        file.seek(20 * ebs.SIZE)
        file.write(bytes(ebs.SIZE))
    bench.snapshot.puts.clear()
    second = bench.plan("20240102")
    row = bench.row(second)
    two = bench.run(bench.order(second, row, parent.id))
    assert isinstance(two, Ended)
    assert set(bench.snapshot.puts) == {10, 20}
    assert two.facts["blocks"] == one.facts["blocks"] - 1
    content = bench.recorded(row).content
    assert {i for i, digest in content.items() if digest != hashlib.sha256(bytes(ebs.SIZE)).digest()} == {
        i for i, data in bench.snapshot.held.items() if data.strip(b"\0")
    }


def test_a_larger_volume_moves_the_childs_gpt(bench: Bench) -> None:
    first = bench.plan()
    parent = bench.row(first)
    assert isinstance(bench.run(bench.order(first, parent)), Ended)
    bench.snapshot.puts.clear()
    second = bench.plan("20240102", size=2)
    found = bench.run(bench.order(second, bench.row(second), parent.id))
    assert isinstance(found, Ended)
    assert set(bench.snapshot.puts) == {0, 2047, 4095}
    assert not bench.snapshot.held[2047].strip(b"\0")


def test_another_artefact_is_refused_after_all_was_put(bench: Bench) -> None:
    job = bench.plan(sha256="0" * 64)
    found = bench.run(bench.order(job, bench.row(job)))
    assert isinstance(found, Failed)
    assert isinstance(found.error, VerificationError)


@pytest.mark.long
def test_an_image_larger_than_the_volume_is_refused(bench: Bench) -> None:
    with bench.image.open("r+b") as file:
        file.truncate(2 << 30)
        file.seek((1 << 30) + 5)
        file.write(b"data")
    with bench.image.open("rb") as file:
        job = bench.plan(sha256=hashlib.file_digest(file, "sha256").hexdigest())
    found = bench.run(bench.order(job, bench.row(job)))
    assert isinstance(found, Failed)
    assert "larger than the volume" in found.error.what


def test_a_disk_that_is_cut_off_is_refused_though_it_is_what_was_published(bench: Bench) -> None:
    os.truncate(bench.image, 16 << 20)
    job = bench.plan()
    found = bench.run(bench.order(job, bench.row(job)))
    assert isinstance(found, Failed)
    assert f"the disk is cut off: its GPT ends at byte {24 << 20}, the disk at {16 << 20}" in found.error.what


def test_failed_uploads_cost_no_buffers(bench: Bench) -> None:
    uploader = bench.uploader()
    for number in range(12):
        bench.snapshot.hook = failing("ValidationException", 1)
        job = bench.plan(f"202402{number + 1:02d}")
        order = bench.order(job, bench.row(job))
        assert uploader.start(order)
        assert isinstance(ended(uploader, order), Failed)
        uploader.drop(job.id)
    bench.snapshot.hook = lambda _index: None
    job = bench.plan()
    order = bench.order(job, bench.row(job))
    assert uploader.start(order)
    assert isinstance(ended(uploader, order), Ended)
