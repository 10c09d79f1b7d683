"""What can never be true can never be written: every constraint of every table refuses its impossible row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.schema import ColumnCollectionConstraint

from ebspub.states import State, Status
from ebspub.store import Store, tables
from tests.contract.store.rows import NOW, spec

_FORMAT: Any = postgresql.psycopg.dialect().identifier_preparer.format_constraint  # type: ignore[no-untyped-call]

JOB: dict[str, Any] = {
    "id": "job",
    **{name: getattr(spec(), name) for name in ("suite", "build", "label", "serial", "version", "arch", "region")},
    "spec": spec().model_dump_json(),
    "state": "pending",
    "status": "waiting",
    "attempt": 1,
    "attempt_base": 1,
    "facts": {},
    "retries": 0,
    "not_before": 0.0,
    "cancel_requested": False,
    "epoch": 0,
    "created_at": NOW,
    "updated_at": NOW,
}
RESOURCE: dict[str, Any] = {
    "id": 1,
    "job_id": "job",
    "attempt": 1,
    "kind": "volume",
    "purpose": "root",
    "token": "token",
    "region": "us-east-1",
    "presence": "intended",
    "request": {},
    "intended_at": NOW,
}
EFFECT: dict[str, Any] = {
    "id": 1,
    "job_id": "job",
    "attempt": 1,
    "epoch": 1,
    "action": "CreateVolume",
    "status": "open",
    "opened_at": NOW,
}
EVENT: dict[str, Any] = {
    "id": 1,
    "job_id": "job",
    "at": NOW,
    "attempt": 1,
    "epoch": 1,
    "action": "planned",
    "message": "",
    "facts": {},
}
BLOCKS: dict[str, Any] = {"id": 1, "resource": 1, "sent": True, "entries": bytes(36)}
SHARED: dict[str, Any] = {
    "id": 1,
    "region": "us-east-1",
    "pool": "pool",
    "host_job": "job",
    "host_attempt": 1,
    "opened_at": NOW,
}
OCCUPANT: dict[str, Any] = {"id": 1, "builder": 1, "job_id": "job", "attempt": 1, "slot": 0, "joined_at": NOW}
RELEASE: dict[str, Any] = {
    "id": "release",
    **{name: JOB[name] for name in ("suite", "build", "serial", "label")},
    "state": "publishing",
    "epoch": 0,
    "created_at": NOW,
    "updated_at": NOW,
}
ANNOUNCED: dict[str, Any] = {"job_id": "job", "release_id": "release", "at": NOW}
RELEASE_CHANGE: dict[str, Any] = {
    "id": 1,
    "release_id": "release",
    "job_id": "job",
    "epoch": 1,
    "region": "us-east-1",
    "action": "ModifyImageAttribute",
    "target": "ami-1",
    "request": {},
    "status": "open",
    "opened_at": NOW,
}
NOTICE: dict[str, Any] = {
    "id": 1,
    "release_id": "release",
    "label": "daily",
    "published_at": NOW,
    "jobs": [],
    "told": [],
    "at": NOW,
}
BASE = {
    "meta": {"key": "key", "value": ""},
    "jobs": JOB,
    "resources": RESOURCE,
    "shared_builders": SHARED,
    "occupants": OCCUPANT,
    "blocks": BLOCKS,
    "effects": EFFECT,
    "events": EVENT,
    "releases": RELEASE,
    "announced": ANNOUNCED,
    "release_changes": RELEASE_CHANGE,
    "notices": NOTICE,
}
DONE = {"state": "registered", "status": "done", "ami_id": "ami-1", "snapshot_id": "snap-1", "ended_at": NOW}
LEASED = {"status": "running", "lease_owner": "me", "lease_until": NOW}
PRESENT = {"presence": "present", "resource_id": "vol-1", "made_at": NOW}
OTHER_JOB = {"id": "other", "serial": "20101021"}
OTHER_RESOURCE = {"id": 2, "token": "other"}


@dataclass(frozen=True)
class Impossible:
    """A row of a constraint's table that it alone refuses, where ``first`` is there already."""

    constraint: str
    row: dict[str, Any]
    first: dict[str, Any] | None = field(default=None)

    def __str__(self) -> str:
        return f"{self.constraint}-{'-'.join(map(str, self.row.values()))}"


IMPOSSIBLE = [
    Impossible("pk_meta", {}, first={}),
    Impossible("pk_jobs", {"serial": "20101021"}, first={}),
    Impossible("uq_jobs_suite_build_serial_arch_region", {"id": "other", "label": "daily"}, first={}),
    Impossible("uq_jobs_ami", {**OTHER_JOB, "ami_id": "ami-1"}, first={"ami_id": "ami-1"}),
    Impossible("ck_jobs_state", {"state": "lost"}),
    Impossible("ck_jobs_state", {"state": ""}),
    Impossible("ck_jobs_status", {"status": "asleep"}),
    Impossible("ck_jobs_attempt", {"attempt": 1, "attempt_base": 2}),
    Impossible("ck_jobs_attempt", {"attempt": 1, "attempt_base": 0}),
    Impossible("ck_jobs_counters", {"epoch": -1}),
    Impossible("ck_jobs_counters", {"retries": -1}),
    Impossible("ck_jobs_builder", {"state": "launched"}),
    Impossible("ck_jobs_builder", {"state": "attached", "volume_id": "vol-1"}),
    Impossible("ck_jobs_volume", {"state": "attached", "instance_id": "i-1"}),
    Impossible("ck_jobs_volume", {"state": "populated"}),
    Impossible("ck_jobs_method", {"method": "magic"}),
    Impossible("ck_jobs_filled", {"state": "populated", "method": "direct"}),
    Impossible("ck_jobs_snapshot", {"state": "snapshotted"}),
    Impossible("ck_jobs_image", {**DONE, "ami_id": None}),
    Impossible("ck_jobs_image", {**DONE, "snapshot_id": None}),
    Impossible("ck_jobs_done", {**DONE, "status": "waiting", "ended_at": None}),
    Impossible("ck_jobs_done", {**DONE, "state": "snapshotted"}),
    Impossible("ck_jobs_ended", {"ended_at": NOW}),
    Impossible("ck_jobs_ended", {"status": "cancelled"}),
    Impossible("ck_jobs_ended", {**DONE, "ended_at": None}),
    Impossible("ck_jobs_lease", {**LEASED, "lease_until": None}),
    Impossible("ck_jobs_lease", {"lease_until": NOW}),
    Impossible("ck_jobs_driven", {**LEASED, "status": "waiting"}),
    Impossible("ck_jobs_driven", {"status": "running"}),
    Impossible("ck_jobs_driven", {"status": "cancelling"}),
    Impossible("ck_jobs_failed", {"status": "failed"}),
    Impossible("ck_jobs_verify_lease", {**DONE, "verify_owner": "me"}),
    Impossible("ck_jobs_verify_lease", {**DONE, "verify_until": NOW}),
    Impossible("ck_jobs_verify_lease", {"verify_epoch": -1}),
    Impossible("ck_jobs_verify_registered", {"verify_owner": "me", "verify_until": NOW}),
    Impossible("pk_resources", {"token": "other"}, first={}),
    Impossible("uq_resources_token", {"id": 2}, first={}),
    Impossible("uq_resources_image", {**OTHER_RESOURCE, "kind": "image"}, first={"kind": "image"}),
    Impossible(
        "uq_resources_image",
        {**OTHER_RESOURCE, "kind": "image", "attempt": 2},
        first={**PRESENT, "kind": "image", "resource_id": "ami-1"},
    ),
    Impossible("uq_resources_resource_id", {**OTHER_RESOURCE, **PRESENT}, first=PRESENT),
    Impossible("uq_resources_resource_id", {**OTHER_RESOURCE, **PRESENT, "kind": "snapshot"}, first=PRESENT),
    Impossible("fk_resources_job_id_jobs", {"job_id": "no-such-job"}),
    Impossible("ck_resources_kind", {"kind": "bucket"}),
    Impossible("ck_resources_presence", {"presence": "absent"}),
    Impossible("ck_resources_attempt", {"attempt": 0}),
    Impossible("ck_resources_present", {**PRESENT, "resource_id": None}),
    Impossible("ck_resources_present", {**PRESENT, "made_at": None}),
    Impossible("ck_resources_intended", {"resource_id": "vol-1"}),
    Impossible("ck_resources_gone", {"presence": "gone"}),
    Impossible("ck_resources_gone", {**PRESENT, "gone_at": NOW}),
    Impossible("ck_resources_gone", {"gone_at": NOW}),
    Impossible("pk_shared_builders", {"pool": "other"}, first={}),
    Impossible("uq_shared_builders_open", {"id": 2}, first={}),
    Impossible("fk_shared_builders_host_job_jobs", {"host_job": "no-such-job"}),
    Impossible("ck_shared_builders_attempt", {"host_attempt": 0}),
    Impossible("pk_occupants", {"slot": 1, "left_at": NOW}, first={}),
    Impossible("uq_occupants_builder_slot", {"id": 2, "left_at": NOW}, first={}),
    Impossible("uq_occupants_seat", {"id": 2, "slot": 1}, first={}),
    Impossible("fk_occupants_builder_shared_builders", {"builder": 7}),
    Impossible("fk_occupants_job_id_jobs", {"job_id": "no-such-job"}),
    Impossible("ck_occupants_attempt", {"attempt": 0}),
    Impossible("ck_occupants_slot", {"slot": -1}),
    Impossible("ck_occupants_slot", {"slot": 11}),
    Impossible("pk_blocks", {}, first={}),
    Impossible("fk_blocks_resource_resources", {"resource": 7}),
    Impossible("ck_blocks_entries", {"entries": bytes(35)}),
    Impossible("pk_effects", {}, first={}),
    Impossible("fk_effects_job_id_jobs", {"job_id": "no-such-job"}),
    Impossible("fk_effects_resource_resources", {"resource": 7}),
    Impossible("ck_effects_status", {"status": "lost", "closed_at": NOW}),
    Impossible("ck_effects_closed", {"closed_at": NOW}),
    Impossible("ck_effects_closed", {"status": "done"}),
    Impossible("ck_effects_closed", {"status": "failed"}),
    Impossible("pk_events", {}, first={}),
    Impossible("fk_events_job_id_jobs", {"job_id": "no-such-job"}),
    Impossible("ck_events_states", {"from_state": "pending"}),
    Impossible("ck_events_states", {"to_state": "launched"}),
    Impossible("pk_releases", {"serial": "20101021"}, first={}),
    Impossible("uq_releases_suite_build_serial", {"id": "other", "label": "daily"}, first={}),
    Impossible("ck_releases_state", {"state": "secret"}),
    Impossible("ck_releases_lease", {"lease_owner": "me"}),
    Impossible("ck_releases_lease", {"lease_until": NOW}),
    Impossible("ck_releases_lease", {"epoch": -1}),
    Impossible("ck_releases_published", {"state": "published"}),
    Impossible("ck_releases_unpublished", {"state": "unpublished"}),
    Impossible("ck_releases_settled", {"settled_epoch": -1}),
    Impossible("ck_releases_settled", {"settled_epoch": 1}),
    Impossible("pk_announced", {}, first={}),
    Impossible("fk_announced_job_id_jobs", {"job_id": "no-such-job"}),
    Impossible("fk_announced_release_id_releases", {"release_id": "no-such-release"}),
    Impossible("pk_release_changes", {}, first={}),
    Impossible("fk_release_changes_release_id_releases", {"release_id": "no-such-release"}),
    Impossible("fk_release_changes_job_id_jobs", {"job_id": "no-such-job"}),
    Impossible("ck_release_changes_status", {"status": "lost", "closed_at": NOW}),
    Impossible("ck_release_changes_closed", {"closed_at": NOW}),
    Impossible("ck_release_changes_closed", {"status": "done"}),
    Impossible("pk_notices", {}, first={}),
    Impossible("fk_notices_release_id_releases", {"release_id": "no-such-release"}),
    Impossible("ck_notices_teller", {"teller": "me"}),
    Impossible("ck_notices_teller", {"teller_until": NOW}),
    Impossible("ck_notices_ended", {"teller": "me", "teller_until": NOW, "ended_at": NOW}),
]


Rule = ColumnCollectionConstraint | sa.Index


def constraints() -> dict[str, tuple[sa.Table, Rule]]:
    """Return every constraint and every unique index by the name that it has in the database."""
    found: dict[str, tuple[sa.Table, Rule]] = {}
    for table in tables.metadata.sorted_tables:
        for constraint in table.constraints:
            assert isinstance(constraint, Rule)
            found[str(_FORMAT(constraint))] = (table, constraint)
        found.update({str(index.name): (table, index) for index in table.indexes if index.unique})
    return found


CONSTRAINTS = constraints()


@pytest.fixture(scope="module")
def shared(template: str) -> Iterator[Store]:
    """Return a store in which nothing stays: see ``insert``."""
    with Store.open(template) as opened:
        yield opened


def insert(store: Store, table: sa.Table, *rows: dict[str, Any]) -> None:
    """Insert rows made of the table's valid one, and the job that they belong to; then take them all back."""
    with store.write() as conn:
        if table.name not in ("meta", "jobs"):
            conn.execute(tables.jobs.insert(), JOB)
        if table.name == "blocks":
            conn.execute(tables.resources.insert(), RESOURCE)
        if table.name == "occupants":
            conn.execute(tables.shared_builders.insert(), SHARED)
        if table.name in ("announced", "release_changes", "notices"):
            conn.execute(tables.releases.insert(), RELEASE)
        for row in rows:
            conn.execute(table.insert(), {**BASE[table.name], **row})
        conn.rollback()


def refused(store: Store, error: sa.exc.IntegrityError) -> str:
    """Return what the database names as the reason: a constraint, or columns (SQLite, for what must be unique)."""
    if store.engine.dialect.name == "postgresql":
        return str(error.orig.diag.constraint_name)  # type: ignore[union-attr]
    return str(error.orig).partition("constraint failed")[2].removeprefix(": ")


def named(store: Store, name: str) -> str:
    """Return what ``refused`` is to say."""
    table, constraint = CONSTRAINTS[name]
    if store.engine.dialect.name == "postgresql" or isinstance(constraint, sa.CheckConstraint):
        return name
    if isinstance(constraint, sa.ForeignKeyConstraint):
        return ""
    return ", ".join(f"{table.name}.{column.name}" for column in constraint.columns)


def test_no_constraint_is_forgotten_here() -> None:
    assert {case.constraint for case in IMPOSSIBLE} == set(CONSTRAINTS)


@pytest.mark.parametrize("table", list(BASE))
def test_the_rows_that_the_others_are_made_of_are_possible(shared: Store, table: str) -> None:
    insert(shared, tables.metadata.tables[table], {})


@pytest.mark.parametrize("case", IMPOSSIBLE, ids=str)
def test_an_impossible_row_is_refused(shared: Store, case: Impossible) -> None:
    table, _ = CONSTRAINTS[case.constraint]
    rows = [row for row in (case.first, case.row) if row is not None]
    with pytest.raises(sa.exc.IntegrityError) as told:
        insert(shared, table, *rows)
    assert refused(shared, told.value) == named(shared, case.constraint)


def test_what_must_be_said_is_said(shared: Store) -> None:
    for table in tables.metadata.sorted_tables:
        for column in table.columns:
            if column.nullable or column.primary_key:
                continue
            null = sa.null() if isinstance(column.type, sa.JSON) else None
            with pytest.raises(sa.exc.IntegrityError, match=column.name):
                insert(shared, table, {column.name: null})


POSSIBLE = [(a, b) for a in State for b in Status if (a is State.REGISTERED) == (b is Status.DONE)]


@pytest.mark.parametrize(("state", "status"), POSSIBLE)
def test_a_job_that_can_be_can_be_written(shared: Store, state: State, status: Status) -> None:
    ids = {"instance_id": "i-1", "volume_id": "vol-1", "snapshot_id": "snap-1", "ami_id": "ami-1"}
    row: dict[str, Any] = {**ids, "state": state.value, "status": status.value, "error": {"message": "it failed"}}
    if status in (Status.RUNNING, Status.CANCELLING):
        row |= {"lease_owner": "me", "lease_until": NOW}
    if status in (Status.DONE, Status.CANCELLED):
        row |= {"ended_at": NOW}
    insert(shared, tables.jobs, row)


def test_an_image_that_is_gone_makes_room_for_another(shared: Store) -> None:
    gone = {**PRESENT, "kind": "image", "resource_id": "ami-1", "presence": "gone", "gone_at": NOW}
    insert(shared, tables.resources, gone, {**OTHER_RESOURCE, "kind": "image"})


def test_ids_are_unique_in_their_region_only(shared: Store) -> None:
    insert(shared, tables.resources, PRESENT, {**OTHER_RESOURCE, **PRESENT, "region": "eu-west-1"})
