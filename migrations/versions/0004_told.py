"""Releases whose work is not at its end, AMIs that are ready to be found, and who is to be told of what is public.

Revision: 0004, after 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go up. What is announced is found; all were told of what is public, and what ended without an error is whole."""
    with op.batch_alter_table("announced") as batch:
        batch.add_column(sa.Column("listed", sa.Boolean(), nullable=False, server_default=sa.true()))
    with op.batch_alter_table("releases") as batch:
        batch.add_column(sa.Column("settled_epoch", sa.Integer(), nullable=False, server_default="0"))
        batch.create_check_constraint(op.f("ck_releases_settled"), "settled_epoch >= 0 AND settled_epoch <= epoch")
    op.execute("UPDATE releases SET settled_epoch = epoch WHERE error IS NULL AND lease_owner IS NULL")
    notices = op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.String(length=160), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=False),
        sa.Column("jobs", sa.JSON(), nullable=False),
        sa.Column("told", sa.JSON(), nullable=False),
        sa.Column("teller", sa.String(length=255), nullable=True),
        sa.Column("teller_until", sa.Double(), nullable=True),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint("(teller IS NULL) = (teller_until IS NULL)", name=op.f("ck_notices_teller")),
        sa.CheckConstraint("ended_at IS NULL OR teller IS NULL", name=op.f("ck_notices_ended")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_notices_release_id_releases")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_index("ix_notices_release_id", "notices", ["release_id"])
    _tell(notices)


def _tell(notices: sa.Table) -> None:
    """Write down of what is public that all who are to know it do."""
    conn = op.get_bind()
    found = conn.execute(sa.text("SELECT id, label, published_at FROM releases WHERE state = 'published'")).all()
    shown = conn.execute(sa.text("SELECT release_id, job_id FROM announced ORDER BY job_id")).all()
    rows = [
        {
            "release_id": row.id,
            "label": row.label,
            "published_at": row.published_at,
            "jobs": [each.job_id for each in shown if each.release_id == row.id],
            "told": [],
            "at": row.published_at,
            "ended_at": row.published_at,
        }
        for row in found
    ]
    if rows:
        conn.execute(notices.insert(), rows)


def downgrade() -> None:
    """Go back. An older program takes all that is announced for found."""
    op.drop_table("notices")
    op.execute("DELETE FROM announced WHERE NOT listed")
    with op.batch_alter_table("releases") as batch:
        batch.drop_constraint(op.f("ck_releases_settled"), type_="check")
        batch.drop_column("settled_epoch")
    with op.batch_alter_table("announced") as batch:
        batch.drop_column("listed")
