"""Other ways through the states: without a builder, or with a shared one; and a test boot of what came of it.

Revision: 0002, after 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_WITHOUT = "method IN ('direct', 'copy')"
_BUILDER = "state NOT IN ('launched', 'attached') OR instance_id IS NOT NULL"
_VOLUME = "state NOT IN ('attached', 'populated') OR volume_id IS NOT NULL"


def upgrade() -> None:
    """Go up. Every job of an older program went by way of a builder."""
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("method", sa.String(length=16), nullable=False, server_default="filesystem"))
        batch.create_check_constraint(op.f("ck_jobs_method"), "method IN ('filesystem', 'disk', 'direct', 'copy')")
        batch.drop_constraint(op.f("ck_jobs_builder"), type_="check")
        batch.create_check_constraint(op.f("ck_jobs_builder"), f"{_WITHOUT} OR {_BUILDER}")
        batch.drop_constraint(op.f("ck_jobs_volume"), type_="check")
        batch.create_check_constraint(op.f("ck_jobs_volume"), f"{_WITHOUT} OR {_VOLUME}")
        batch.create_check_constraint(
            op.f("ck_jobs_filled"), "method <> 'direct' OR state <> 'populated' OR snapshot_id IS NOT NULL"
        )
        batch.add_column(sa.Column("verify_owner", sa.String(length=255), nullable=True))
        batch.add_column(sa.Column("verify_until", sa.Double(), nullable=True))
        batch.add_column(sa.Column("verify_epoch", sa.Integer(), nullable=False, server_default="0"))
        batch.create_check_constraint(
            op.f("ck_jobs_verify_lease"), "(verify_owner IS NULL) = (verify_until IS NULL) AND verify_epoch >= 0"
        )
        batch.create_check_constraint(op.f("ck_jobs_verify_registered"), "verify_owner IS NULL OR state = 'registered'")
    op.create_table(
        "blocks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("resource", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Boolean(), nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("length(entries) >= 36", name=op.f("ck_blocks_entries")),
        sa.ForeignKeyConstraint(["resource"], ["resources.id"], name=op.f("fk_blocks_resource_resources")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blocks")),
    )
    op.create_index("ix_blocks_resource", "blocks", ["resource"], unique=False)
    _share_builders()


def _share_builders() -> None:
    """Make the tables of builders that several jobs share, and who uses which."""
    op.create_table(
        "shared_builders",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("host_job", sa.String(length=255), nullable=False),
        sa.Column("host_attempt", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("sealed_at", sa.Double(), nullable=True),
        sa.CheckConstraint("host_attempt >= 1", name=op.f("ck_shared_builders_attempt")),
        sa.ForeignKeyConstraint(["host_job"], ["jobs.id"], name=op.f("fk_shared_builders_host_job_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_shared_builders")),
    )
    op.create_index(
        "uq_shared_builders_open",
        "shared_builders",
        ["region", "pool"],
        unique=True,
        sqlite_where=sa.text("sealed_at IS NULL"),
        postgresql_where=sa.text("sealed_at IS NULL"),
    )
    op.create_index("ix_shared_builders_host_job", "shared_builders", ["host_job"])
    op.create_table(
        "occupants",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("builder", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("joined_at", sa.Double(), nullable=False),
        sa.Column("left_at", sa.Double(), nullable=True),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_occupants_attempt")),
        sa.CheckConstraint("slot BETWEEN 0 AND 10", name=op.f("ck_occupants_slot")),
        sa.ForeignKeyConstraint(["builder"], ["shared_builders.id"], name=op.f("fk_occupants_builder_shared_builders")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_occupants_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occupants")),
        sa.UniqueConstraint("builder", "slot", name=op.f("uq_occupants_builder_slot")),
    )
    op.create_index(
        "uq_occupants_seat",
        "occupants",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("left_at IS NULL"),
        postgresql_where=sa.text("left_at IS NULL"),
    )
    op.create_index("ix_occupants_job_id", "occupants", ["job_id"])


def downgrade() -> None:
    """Go back. A job without builder that is under way has no place in the older tables: it begins again.

    What a test boot has made is found by its rows and tags, as ever, and so is what is left of shared builders.
    """
    op.drop_table("occupants")
    op.drop_table("shared_builders")
    op.drop_index("ix_blocks_resource", table_name="blocks")
    op.drop_table("blocks")
    op.execute(f"UPDATE jobs SET state = 'pending' WHERE {_WITHOUT} AND state IN ('launched', 'attached', 'populated')")
    with op.batch_alter_table("jobs") as batch:
        batch.drop_constraint(op.f("ck_jobs_verify_registered"), type_="check")
        batch.drop_constraint(op.f("ck_jobs_verify_lease"), type_="check")
        batch.drop_column("verify_epoch")
        batch.drop_column("verify_until")
        batch.drop_column("verify_owner")
        batch.drop_constraint(op.f("ck_jobs_filled"), type_="check")
        batch.drop_constraint(op.f("ck_jobs_builder"), type_="check")
        batch.create_check_constraint(op.f("ck_jobs_builder"), _BUILDER)
        batch.drop_constraint(op.f("ck_jobs_volume"), type_="check")
        batch.create_check_constraint(op.f("ck_jobs_volume"), _VOLUME)
        batch.drop_constraint(op.f("ck_jobs_method"), type_="check")
        batch.drop_column("method")
