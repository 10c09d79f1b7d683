"""The store as a whole: its identity, what readers see, and what is said when it cannot be used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from ebspub.errors import StoreError
from ebspub.states import Kind
from ebspub.store import Store, effects, jobs, migrate
from tests.contract.store.rows import NOW, driven, dump, job_of, plan, spec
from tests.support.postgres import Postgres


def test_a_store_keeps_its_name(store: Store) -> None:
    with Store.open(store.url) as again:
        assert again.id == store.id
    assert len(store.id) == 16
    assert store.id.isalnum()


def test_two_stores_have_two_names(store: Store, tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'second.db'}") as second:
        assert second.id != store.id


def test_a_reader_sees_what_was_true_when_it_began(store: Store) -> None:
    """Jobs and their resources are two queries: between them nothing may change."""
    job, lease = driven(store)
    with store.read() as reader:
        (before,) = jobs.find(reader)
        with store.write() as writer:
            jobs.change(writer, job.id, lease, NOW, retries=1)
            effects.intend(writer, job, kind=Kind.VOLUME, purpose="root", token="t", request={}, now=NOW)
        assert jobs.find(reader) == [before]
    assert job_of(store, job.id).retries == 1


def test_a_reader_is_not_kept_waiting_by_a_writer_nor_keeps_one_waiting(store: Store) -> None:
    job, lease = driven(store)
    with store.read() as reader, store.write() as writer:
        assert jobs.find(reader) == [job]
        jobs.change(writer, job.id, lease, NOW, retries=1)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(job_of, store, job.id).result(10).retries == 0
        writer.commit()
        assert job_of(store, job.id).retries == 1
        assert jobs.find(reader) == [job]


def test_a_reader_writes_nothing(store: Store) -> None:
    (job_id,) = plan(store)
    before = dump(store)
    try:
        with store.read() as conn:
            jobs.request_cancel(conn, job_id, NOW)
    except StoreError as error:
        assert "read-only" in str(error)  # noqa: PT017 - SQLite takes it back, PostgreSQL refuses it at once
    assert dump(store) == before


def test_many_threads_share_a_store(store: Store) -> None:
    job, lease = driven(store)
    start = threading.Barrier(12)

    def work(number: int) -> None:
        start.wait(20)
        for _ in range(5):
            with store.write() as conn:
                jobs.change(conn, job.id, lease, NOW + number)
            job_of(store, job.id)

    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(work, number) for number in range(12)]:
            future.result()


def test_a_defect_is_not_told_as_a_trouble_of_the_database(store: Store) -> None:
    (job_id,) = plan(store)
    with pytest.raises(sa.exc.IntegrityError), store.write() as conn:
        conn.execute(sa.text("UPDATE jobs SET state = 'lost' WHERE id = :id"), {"id": job_id})


def test_an_existing_database_is_opened_and_a_missing_one_is_not_made(tmp_path: Path, postgres: Postgres) -> None:
    file = tmp_path / "state" / "ebspub.db"
    empty = postgres.create()
    try:
        for url in (f"sqlite:///{file}", empty):
            assert Store.open_existing(url) is None
            assert not file.exists()
            with Store.open(url) as made:
                plan(made)
            opened = Store.open_existing(url)
            assert opened is not None
            with opened:
                assert opened.id == made.id
                assert job_of(opened, spec().job_id).spec == spec()
            file.parent.rmdir() if url == empty else file.rename(tmp_path / "moved.db")
    finally:
        postgres.drop(empty)


def test_a_server_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://somebody:hidden-word@/ebspub?host={tmp_path}"
    with pytest.raises(StoreError, match="cannot be used") as told:
        Store.open(url)
    assert "hidden-word" not in str(told.value)
    assert "***" in str(told.value)
    assert "nothing is lost" in told.value.todo
    assert told.value.exit_code == 4


@pytest.mark.parametrize("template", ["postgresql"], indirect=True)
def test_a_server_that_went_away_is_told_and_found_again(store: Store, postgres: Postgres) -> None:
    (job_id,) = plan(store)
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname LIKE 't%'"
    with pytest.raises(StoreError, match="cannot be used"), store.write() as conn:  # noqa: PT012 - one transaction
        assert jobs.request_cancel(conn, job_id, NOW)
        postgres.run(end)
        conn.execute(sa.text("SELECT 1"))
    assert not job_of(store, job_id).cancel_requested
    assert migrate.current(store.engine) == migrate.HEAD
