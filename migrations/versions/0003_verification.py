"""Test boots: a lease of their own on a registered job.

Revision: 0003, after 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up."""
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("verify_owner", sa.String(length=255), nullable=True))
        batch.add_column(sa.Column("verify_until", sa.Double(), nullable=True))
        batch.add_column(sa.Column("verify_epoch", sa.Integer(), nullable=False, server_default="0"))
        batch.create_check_constraint(
            op.f("ck_jobs_verify_lease"), "(verify_owner IS NULL) = (verify_until IS NULL) AND verify_epoch >= 0"
        )
        batch.create_check_constraint(op.f("ck_jobs_verify_registered"), "verify_owner IS NULL OR state = 'registered'")


def downgrade() -> None:
    """Go back. What a test boot has made is found by its rows and tags, as ever."""
    with op.batch_alter_table("jobs") as batch:
        batch.drop_constraint(op.f("ck_jobs_verify_registered"), type_="check")
        batch.drop_constraint(op.f("ck_jobs_verify_lease"), type_="check")
        batch.drop_column("verify_epoch")
        batch.drop_column("verify_until")
        batch.drop_column("verify_owner")
