"""The catalogue of a real store: what is registered there becomes rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebspub.feeds import from_store, query
from ebspub.spec import Registration, Source
from ebspub.store import Store, tables
from tests.contract.store import rows


def register(store: Store, job_id: str, ami: str) -> None:
    """Let a planned job have ended with an AMI."""
    with store.write() as conn:
        conn.execute(
            tables.jobs.update()
            .where(tables.jobs.c.id == job_id)
            .values(state="registered", status="done", ami_id=ami, snapshot_id="snap-1", ended_at=1287576000.0)
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path / 'ebspub.db'}")


def test_registered_jobs_are_rows_and_others_are_not(store: Store) -> None:
    with store:
        paravirtual = Registration(
            name="ubuntu/images/ebs/x", architecture="x86_64", virtualization="paravirtual", volume_type="standard",
            kernel_id="aki-0b4aa462",
        )  # fmt: skip
        url = "https://cloud-images.example.com/server/releases/lucid/release-20101020/lucid-server-uec-amd64.tar.gz"
        done, _ = rows.plan(
            store,
            rows.spec(registration=paravirtual, source=Source(url=url, sha256="0" * 64)),
            rows.spec("20101021"),
        )
        register(store, done, "ami-0123456789abcdef0")
        found = from_store.registered(store)
        assert [job.id for job in found] == [done]
        (image,) = from_store.catalog(found, released={done: 1287580000.0}).images
        assert (image.created, image.released, image.at) == (1287576000.0, 1287580000.0, 1287580000.0)
        assert (image.partition, image.snapshot, image.version) == ("aws", "snap-1", "10.04")
        rendered = query.render(from_store.catalog(found, labels={done: "release"}))
        assert rendered["query/lucid/server/released.current.txt"] == (
            b"lucid\tserver\trelease\t20101020\tebs\tamd64\tus-east-1\tami-0123456789abcdef0\taki-0b4aa462\t\tparavirtual\n"
        )
        path = "server/releases/lucid/release-20101020/lucid-server-uec-amd64.tar.gz"
        name = "ubuntu-lucid-10.04-amd64-server-20101020"
        assert rendered["query/lucid/server/released-dl.txt"].decode() == (
            f"lucid\tserver\trelease\t20101020\tamd64\t{path}\t{name}\n"
        )
        below = from_store.catalog(found, mirror="https://cloud-images.example.com/server")
        assert below.downloads[0].path == path.removeprefix("server/")
        gone = from_store.catalog((), found, released={done: 1287590000.0})
        assert (gone.images, gone.downloads, gone.changed) == ((), (), 1287590000.0)
        assert [each.ami for each in gone.withdrawn] == ["ami-0123456789abcdef0"]
        assert not any(query.render(query.keep(gone, rendered, {})).values())


def test_one_that_is_not_registered_is_no_image(store: Store) -> None:
    with store:
        (planned,) = rows.plan(store, rows.spec())
        with pytest.raises(ValueError, match="not registered"):
            from_store.image(rows.job_of(store, planned))


@pytest.mark.parametrize(
    ("volume_type", "root_store"),
    [("standard", "ebs"), ("gp2", "ebs-ssd"), ("gp3", "ebs-ssd"), ("io1", "ebs-io1"), ("io2", "ebs-io1")],
)
def test_the_root_store_is_told_by_the_volumes_type(volume_type: str, root_store: str, store: Store) -> None:
    with store:
        given = Registration.model_validate({"name": "ubuntu/x", "architecture": "x86_64", "volume_type": volume_type})
        (job_id,) = rows.plan(store, rows.spec(registration=given, source=Source(url="file:///x", sha256="0" * 64)))
        register(store, job_id, "ami-1")
        catalog = from_store.catalog(from_store.registered(store))
        assert [each.root_store for each in catalog.images] == [root_store]
        assert catalog.downloads == ()
