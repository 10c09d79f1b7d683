"""Releases: builds that are public, and every call that made them so.

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
    """Go up. No build of an older program is public by its doing."""
    op.create_table(
        "releases",
        sa.Column("id", sa.String(length=160), nullable=False),
        sa.Column("suite", sa.String(length=64), nullable=False),
        sa.Column("build", sa.String(length=64), nullable=False),
        sa.Column("serial", sa.String(length=32), nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=True),
        sa.Column("unpublished_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "state IN ('publishing', 'published', 'unpublishing', 'unpublished')", name=op.f("ck_releases_state")
        ),
        sa.CheckConstraint(
            "(lease_owner IS NULL) = (lease_until IS NULL) AND epoch >= 0", name=op.f("ck_releases_lease")
        ),
        sa.CheckConstraint("state <> 'published' OR published_at IS NOT NULL", name=op.f("ck_releases_published")),
        sa.CheckConstraint(
            "state <> 'unpublished' OR unpublished_at IS NOT NULL", name=op.f("ck_releases_unpublished")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("suite", "build", "serial", name=op.f("uq_releases_suite_build_serial")),
    )
    op.create_table(
        "announced",
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("release_id", sa.String(length=160), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_announced_job_id_jobs")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_announced_release_id_releases")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_announced")),
    )
    op.create_index("ix_announced_release_id", "announced", ["release_id"])
    _make_changes()


def _make_changes() -> None:
    op.create_table(
        "release_changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.String(length=160), nullable=False),
        sa.Column("job_id", sa.String(length=255), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("region", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=1024), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("opened_at", sa.Double(), nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.CheckConstraint("status IN ('open', 'done', 'failed')", name=op.f("ck_release_changes_status")),
        sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name=op.f("ck_release_changes_closed")),
        sa.ForeignKeyConstraint(["release_id"], ["releases.id"], name=op.f("fk_release_changes_release_id_releases")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_release_changes_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_changes")),
    )
    op.create_index("ix_release_changes_release_id", "release_changes", ["release_id"])
    op.create_index("ix_release_changes_job_id", "release_changes", ["job_id"])


def downgrade() -> None:
    """Go back. What is public stays so: an older program knows nothing of it."""
    op.drop_table("release_changes")
    op.drop_table("announced")
    op.drop_table("releases")
