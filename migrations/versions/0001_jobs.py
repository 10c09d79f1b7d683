"""Jobs, their history, and everything they made.

Revision: 0001, the first
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=255), nullable=False),
        sa.Column("suite", sa.String(length=64), nullable=False),
        sa.Column("build", sa.String(length=64), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("arch", sa.String(length=16), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("account", sa.String(length=32), nullable=True),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempt_base", sa.Integer(), nullable=False),
        sa.Column("instance_id", sa.String(length=32), nullable=True),
        sa.Column("volume_id", sa.String(length=32), nullable=True),
        sa.Column("snapshot_id", sa.String(length=32), nullable=True),
        sa.Column("ami_id", sa.String(length=32), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("step_started_at", sa.Double(), nullable=True),
        sa.Column("progress", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Double(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(ended_at IS NOT NULL) = (status IN ('done', 'cancelled'))", name=op.f("ck_jobs_ended")),
        sa.CheckConstraint("(state = 'registered') = (status = 'done')", name=op.f("ck_jobs_done")),
        sa.CheckConstraint(
            "(status IN ('running', 'cancelling')) = (lease_owner IS NOT NULL)", name=op.f("ck_jobs_driven")
        ),
        sa.CheckConstraint(
            "state <> 'registered' OR (ami_id IS NOT NULL AND snapshot_id IS NOT NULL)", name=op.f("ck_jobs_image")
        ),
        sa.CheckConstraint("state <> 'snapshotted' OR snapshot_id IS NOT NULL", name=op.f("ck_jobs_snapshot")),
        sa.CheckConstraint(
            "state IN ('pending', 'launched', 'attached', 'populated', 'snapshotted', 'registered')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('attached', 'populated') OR volume_id IS NOT NULL", name=op.f("ck_jobs_volume")
        ),
        sa.CheckConstraint(
            "state NOT IN ('launched', 'attached') OR instance_id IS NOT NULL", name=op.f("ck_jobs_builder")
        ),
        sa.CheckConstraint("status <> 'failed' OR error IS NOT NULL", name=op.f("ck_jobs_failed")),
        sa.CheckConstraint(
            "status IN ('waiting', 'running', 'failed', 'cancelling', 'cancelled', 'done')", name=op.f("ck_jobs_status")
        ),
        sa.CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name=op.f("ck_jobs_lease")),
        sa.CheckConstraint("attempt >= attempt_base AND attempt_base >= 1", name=op.f("ck_jobs_attempt")),
        sa.CheckConstraint("epoch >= 0 AND retries >= 0", name=op.f("ck_jobs_counters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint(
            "suite", "build", "serial", "arch", "region", name=op.f("uq_jobs_suite_build_serial_arch_region")
        ),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"], unique=False)
    op.create_index(
        "uq_jobs_ami",
        "jobs",
        ["region", "ami_id"],
        unique=True,
        sqlite_where=sa.text("ami_id IS NOT NULL"),
        postgresql_where=sa.text("ami_id IS NOT NULL"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_meta")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("from_state", sa.String(length=16), nullable=True),
        sa.Column("to_state", sa.String(length=16), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.CheckConstraint("(from_state IS NULL) = (to_state IS NULL)", name=op.f("ck_events_states")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_events_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_job_id", "events", ["job_id"], unique=False)
    op.create_table(
        "resources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("token", sa.String(length=64), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("resource_id", sa.String(length=32), nullable=True),
        sa.Column("presence", sa.String(length=16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("intended_at", sa.Double(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=True),
        sa.Column("leaving_at", sa.Double(), nullable=True),
        sa.Column("gone_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(presence = 'gone') = (gone_at IS NOT NULL)", name=op.f("ck_resources_gone")),
        sa.CheckConstraint(
            "kind IN ('instance', 'volume', 'snapshot', 'image', 'security-group')", name=op.f("ck_resources_kind")
        ),
        sa.CheckConstraint("presence <> 'intended' OR resource_id IS NULL", name=op.f("ck_resources_intended")),
        sa.CheckConstraint(
            "presence <> 'present' OR (resource_id IS NOT NULL AND made_at IS NOT NULL)",
            name=op.f("ck_resources_present"),
        ),
        sa.CheckConstraint("presence IN ('intended', 'present', 'gone')", name=op.f("ck_resources_presence")),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_resources_attempt")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_resources_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_resources")),
        sa.UniqueConstraint("token", name=op.f("uq_resources_token")),
    )
    op.create_index("ix_resources_job_id", "resources", ["job_id"], unique=False)
    op.create_index(
        "uq_resources_image",
        "resources",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'image' AND presence <> 'gone'"),
        postgresql_where=sa.text("kind = 'image' AND presence <> 'gone'"),
    )
    op.create_index(
        "uq_resources_resource_id",
        "resources",
        ["region", "resource_id"],
        unique=True,
        sqlite_where=sa.text("resource_id IS NOT NULL"),
        postgresql_where=sa.text("resource_id IS NOT NULL"),
    )
    op.create_table(
        "effects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.Integer(), nullable=True),
        sa.Column("target", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=op.f("ck_effects_closed")),
        sa.CheckConstraint("status IN ('open', 'done', 'failed')", name=op.f("ck_effects_status")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_effects_job_id_jobs")),
        sa.ForeignKeyConstraint(["resource"], ["resources.id"], name=op.f("fk_effects_resource_resources")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_effects")),
    )
    op.create_index("ix_effects_job_id", "effects", ["job_id"], unique=False)
    op.create_index("ix_effects_resource", "effects", ["resource"], unique=False)


def downgrade() -> None:
    """Go back."""
    op.drop_index("ix_effects_resource", table_name="effects")
    op.drop_index("ix_effects_job_id", table_name="effects")
    op.drop_table("effects")
    op.drop_index(
        "uq_resources_resource_id",
        table_name="resources",
        sqlite_where=sa.text("resource_id IS NOT NULL"),
        postgresql_where=sa.text("resource_id IS NOT NULL"),
    )
    op.drop_index(
        "uq_resources_image",
        table_name="resources",
        sqlite_where=sa.text("kind = 'image' AND presence <> 'gone'"),
        postgresql_where=sa.text("kind = 'image' AND presence <> 'gone'"),
    )
    op.drop_index("ix_resources_job_id", table_name="resources")
    op.drop_table("resources")
    op.drop_index("ix_events_job_id", table_name="events")
    op.drop_table("events")
    op.drop_table("meta")
    op.drop_index(
        "uq_jobs_ami",
        table_name="jobs",
        sqlite_where=sa.text("ami_id IS NOT NULL"),
        postgresql_where=sa.text("ami_id IS NOT NULL"),
    )
    op.drop_index("ix_jobs_status", table_name="jobs")
    op.drop_table("jobs")
