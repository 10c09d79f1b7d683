"""Jobs that copy the snapshot of another region's job.

Revision: 0004, after 0003
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BUILDER = "state NOT IN ('launched', 'attached') OR instance_id IS NOT NULL"
_VOLUME = "state NOT IN ('attached', 'populated') OR volume_id IS NOT NULL"


def _constrain(methods: str, without: str) -> None:
    """Let ``methods`` be the words of the column, and those ``without`` need neither builder nor volume."""
    with op.batch_alter_table("jobs") as batch:
        for name, condition in (
            ("method", f"method IN ({methods})"),
            ("builder", f"{without} OR {_BUILDER}"),
            ("volume", f"{without} OR {_VOLUME}"),
        ):
            batch.drop_constraint(op.f(f"ck_jobs_{name}"), type_="check")
            batch.create_check_constraint(op.f(f"ck_jobs_{name}"), condition)


def upgrade() -> None:
    """Go up."""
    _constrain("'filesystem', 'disk', 'direct', 'copy'", "method IN ('direct', 'copy')")


def downgrade() -> None:
    """Go back. A copy has no place in the older tables: it begins again, by the method of what it was to copy."""
    copies = "method = 'copy' AND state IN ('launched', 'attached', 'populated')"
    op.execute(f"UPDATE jobs SET state = 'pending' WHERE {copies}")
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("spec", sa.Text), sa.column("method", sa.String))
    conn = op.get_bind()
    for row in conn.execute(sa.select(jobs.c.id, jobs.c.spec).where(jobs.c.method == "copy")).all():
        method = json.loads(row.spec).get("method", "filesystem")
        conn.execute(jobs.update().where(jobs.c.id == row.id).values(method=method))
    _constrain("'filesystem', 'disk', 'direct'", "method = 'direct'")
