"""Jobs without builder and volume, with the blocks of their snapshots; test boots, a lease of their own on a job.

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


def downgrade() -> None:
    """Go back. A job without builder that is under way has no place in the older tables: it begins again.

    What a test boot has made is found by its rows and tags, as ever.
    """
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
