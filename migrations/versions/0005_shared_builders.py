"""Builders that several jobs share, and who uses which.

Revision: 0005, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up."""
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
    """Go back. What shared builders are left is found by their rows and tags, as ever."""
    op.drop_table("occupants")
    op.drop_table("shared_builders")
