"""The tables: what a row may be is the database's to say, so that no defect of ours can write an impossible one.

Times are seconds since the epoch (UTC) as double precision. Enumerations are short strings held by CHECK
constraints, which SQLite and PostgreSQL both enforce.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa

from ebspub.states import Kind, State, Status


class Presence(StrEnum):
    """What is known of a resource."""

    INTENDED = "intended"  #: about to be made, or made with the answer lost
    PRESENT = "present"  #: made, and its id recorded
    GONE = "gone"  #: removed, or never made


class EffectStatus(StrEnum):
    """What became of a call."""

    OPEN = "open"  #: the intent is committed, no outcome is known
    DONE = "done"
    FAILED = "failed"  #: EC2 refused it: nothing was changed


class ReleaseState(StrEnum):
    """How far a build is on its way to the public, or back."""

    PUBLISHING = "publishing"  #: begun; not all that must be public is
    PUBLISHED = "published"
    UNPUBLISHING = "unpublishing"  #: out of the feeds; not all is taken back yet
    UNPUBLISHED = "unpublished"


metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _one_of(column: str, words: type[StrEnum], name: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{word.value}'" for word in words)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=name)


#: One row: who this database is. Its id is in every tag and token that we make.
meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("suite", sa.String(64), nullable=False),
    sa.Column("build", sa.String(64), nullable=False),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("serial", sa.String(32), nullable=False),
    sa.Column("version", sa.String(32), nullable=False),
    sa.Column("arch", sa.String(16), nullable=False),
    sa.Column("region", sa.String(32), nullable=False),
    sa.Column("account", sa.String(32)),
    sa.Column("spec", sa.Text, nullable=False),
    # The way through the states, which is in the document, too: what a state asks for depends on it.
    sa.Column("method", sa.String(16), nullable=False, server_default="filesystem"),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    # The attempt at which the present go began: a resumed job has its full number of attempts again.
    sa.Column("attempt_base", sa.Integer, nullable=False),
    sa.Column("instance_id", sa.String(32)),
    sa.Column("volume_id", sa.String(32)),
    sa.Column("snapshot_id", sa.String(32)),
    sa.Column("ami_id", sa.String(32)),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("step_started_at", sa.Double),
    sa.Column("progress", sa.JSON(none_as_null=True)),
    sa.Column("retries", sa.Integer, nullable=False),
    sa.Column("not_before", sa.Double, nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("lease_owner", sa.String(255)),
    sa.Column("lease_until", sa.Double),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    # Who boots the AMI of a registered job, to see that it does: a lease like the other.
    sa.Column("verify_owner", sa.String(255)),
    sa.Column("verify_until", sa.Double),
    sa.Column("verify_epoch", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("suite", "build", "serial", "arch", "region"),
    _one_of("state", State, "state"),
    _one_of("status", Status, "status"),
    sa.CheckConstraint("attempt >= attempt_base AND attempt_base >= 1", name="attempt"),
    sa.CheckConstraint("epoch >= 0 AND retries >= 0", name="counters"),
    sa.CheckConstraint("method IN ('filesystem', 'disk', 'direct', 'copy')", name="method"),
    # The direct method has neither builder nor volume; it fills a snapshot. A copy has nothing before its snapshot.
    sa.CheckConstraint(
        "method IN ('direct', 'copy') OR state NOT IN ('launched', 'attached') OR instance_id IS NOT NULL",
        name="builder",
    ),
    sa.CheckConstraint(
        "method IN ('direct', 'copy') OR state NOT IN ('attached', 'populated') OR volume_id IS NOT NULL",
        name="volume",
    ),
    sa.CheckConstraint("method <> 'direct' OR state <> 'populated' OR snapshot_id IS NOT NULL", name="filled"),
    sa.CheckConstraint("state <> 'snapshotted' OR snapshot_id IS NOT NULL", name="snapshot"),
    sa.CheckConstraint("state <> 'registered' OR (ami_id IS NOT NULL AND snapshot_id IS NOT NULL)", name="image"),
    sa.CheckConstraint("(state = 'registered') = (status = 'done')", name="done"),
    sa.CheckConstraint("(ended_at IS NOT NULL) = (status IN ('done', 'cancelled'))", name="ended"),
    sa.CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL)", name="lease"),
    sa.CheckConstraint("(status IN ('running', 'cancelling')) = (lease_owner IS NOT NULL)", name="driven"),
    sa.CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failed"),
    sa.CheckConstraint("(verify_owner IS NULL) = (verify_until IS NULL) AND verify_epoch >= 0", name="verify_lease"),
    sa.CheckConstraint("verify_owner IS NULL OR state = 'registered'", name="verify_registered"),
    sa.Index("ix_jobs_status", "status"),
    sa.Index(
        "uq_jobs_ami",
        "region",
        "ami_id",
        unique=True,
        sqlite_where=sa.text("ami_id IS NOT NULL"),
        postgresql_where=sa.text("ami_id IS NOT NULL"),
    ),
)

#: Everything we made or were about to make in EC2. A row is committed before the call that makes the thing.
resources = sa.Table(
    "resources",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("purpose", sa.String(40), nullable=False),
    sa.Column("token", sa.String(64), nullable=False, unique=True),
    sa.Column("region", sa.String(32), nullable=False),
    sa.Column("resource_id", sa.String(32)),
    sa.Column("presence", sa.String(16), nullable=False),
    # What the creating call was told, so that a reissue under the same token says the same.
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("intended_at", sa.Double, nullable=False),
    sa.Column("made_at", sa.Double),
    sa.Column("leaving_at", sa.Double),
    sa.Column("gone_at", sa.Double),
    _one_of("kind", Kind, "kind"),
    _one_of("presence", Presence, "presence"),
    sa.CheckConstraint("attempt >= 1", name="attempt"),
    sa.CheckConstraint("presence <> 'present' OR (resource_id IS NOT NULL AND made_at IS NOT NULL)", name="present"),
    sa.CheckConstraint("presence <> 'intended' OR resource_id IS NULL", name="intended"),
    sa.CheckConstraint("(presence = 'gone') = (gone_at IS NOT NULL)", name="gone"),
    sa.Index("ix_resources_job_id", "job_id"),
    # The last guard of "one AMI per build, region and arch".
    sa.Index(
        "uq_resources_image",
        "job_id",
        unique=True,
        sqlite_where=sa.text("kind = 'image' AND presence <> 'gone'"),
        postgresql_where=sa.text("kind = 'image' AND presence <> 'gone'"),
    ),
    sa.Index(
        "uq_resources_resource_id",
        "region",
        "resource_id",
        unique=True,
        sqlite_where=sa.text("resource_id IS NOT NULL"),
        postgresql_where=sa.text("resource_id IS NOT NULL"),
    ),
)

#: Builders that several jobs share. The instance and its group are rows of the job that launches it, its host.
shared_builders = sa.Table(
    "shared_builders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("region", sa.String(32), nullable=False),
    # Digest of the builder's document and the account: whoever has the same may share it.
    sa.Column("pool", sa.String(64), nullable=False),
    sa.Column("host_job", sa.String(255), sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("host_attempt", sa.Integer, nullable=False),
    sa.Column("opened_at", sa.Double, nullable=False),
    # Since when nobody may join it any more: full, in trouble, or left by all.
    sa.Column("sealed_at", sa.Double),
    sa.CheckConstraint("host_attempt >= 1", name="attempt"),
    # The last guard of "one builder per region": of those that may be joined there is one at a time.
    sa.Index(
        "uq_shared_builders_open",
        "region",
        "pool",
        unique=True,
        sqlite_where=sa.text("sealed_at IS NULL"),
        postgresql_where=sa.text("sealed_at IS NULL"),
    ),
    sa.Index("ix_shared_builders_host_job", "host_job"),
)

#: Who uses a shared builder, its host included. As long as anybody has not left, it must not be ended.
occupants = sa.Table(
    "occupants",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("builder", sa.Integer, sa.ForeignKey("shared_builders.id"), nullable=False),
    sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    # Which device name its volume has. Given once in a builder's life.
    sa.Column("slot", sa.Integer, nullable=False),
    sa.Column("joined_at", sa.Double, nullable=False),
    sa.Column("left_at", sa.Double),
    sa.CheckConstraint("attempt >= 1", name="attempt"),
    sa.CheckConstraint("slot BETWEEN 0 AND 10", name="slot"),
    sa.UniqueConstraint("builder", "slot"),
    sa.Index(
        "uq_occupants_seat",
        "job_id",
        unique=True,
        sqlite_where=sa.text("left_at IS NULL"),
        postgresql_where=sa.text("left_at IS NULL"),
    ),
    sa.Index("ix_occupants_job_id", "job_id"),
)

#: What the blocks of a snapshot hold that the direct method fills: written after they were put, some at a time, so
#: that an upload goes on where it died, and the next build finds what has not changed since.
blocks = sa.Table(
    "blocks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("resource", sa.Integer, sa.ForeignKey("resources.id"), nullable=False),
    # Whether they were put; else they are the parent snapshot's.
    sa.Column("sent", sa.Boolean, nullable=False),
    # For each block its index (4 bytes, big-endian) and its SHA-256 (32 bytes).
    sa.Column("entries", sa.LargeBinary, nullable=False),
    sa.CheckConstraint("length(entries) >= 36", name="entries"),
    sa.Index("ix_blocks_resource", "resource"),
)

#: Every call that makes, changes or removes something.
effects = sa.Table(
    "effects",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("resource", sa.Integer, sa.ForeignKey("resources.id")),
    sa.Column("target", sa.String(64)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("opened_at", sa.Double, nullable=False),
    sa.Column("closed_at", sa.Double),
    _one_of("status", EffectStatus, "status"),
    sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name="closed"),
    sa.Index("ix_effects_job_id", "job_id"),
    sa.Index("ix_effects_resource", "resource"),
)

#: What happened to a job, in order; every change of state is here.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("from_state", sa.String(16)),
    sa.Column("to_state", sa.String(16)),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.CheckConstraint("(from_state IS NULL) = (to_state IS NULL)", name="states"),
    sa.Index("ix_events_job_id", "job_id"),
)

#: A build that was asked to be public: all its registered jobs.
releases = sa.Table(
    "releases",
    metadata,
    sa.Column("id", sa.String(160), primary_key=True),
    sa.Column("suite", sa.String(64), nullable=False),
    sa.Column("build", sa.String(64), nullable=False),
    sa.Column("serial", sa.String(32), nullable=False),
    # What it is published as; its jobs carry the same.
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("lease_owner", sa.String(255)),
    sa.Column("lease_until", sa.Double),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("published_at", sa.Double),
    sa.Column("unpublished_at", sa.Double),
    # The last epoch whose work came to its end with nothing in the way; of a smaller one something is still to be done.
    sa.Column("settled_epoch", sa.Integer, nullable=False, server_default="0"),
    sa.UniqueConstraint("suite", "build", "serial"),
    _one_of("state", ReleaseState, "state"),
    sa.CheckConstraint("(lease_owner IS NULL) = (lease_until IS NULL) AND epoch >= 0", name="lease"),
    sa.CheckConstraint("state <> 'published' OR published_at IS NOT NULL", name="published"),
    sa.CheckConstraint("state <> 'unpublished' OR unpublished_at IS NOT NULL", name="unpublished"),
    sa.CheckConstraint("settled_epoch >= 0 AND settled_epoch <= epoch", name="settled"),
)

#: The jobs of releases that everybody who may can use. A path that goes from build to build belongs to the newest of
#: them. Those that are ``listed`` are in the feeds, or are to be. Gone from here before it is revoked.
announced = sa.Table(
    "announced",
    metadata,
    sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("release_id", sa.String(160), sa.ForeignKey("releases.id"), nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Index("ix_announced_release_id", "release_id"),
)

#: Every call that made a release more, or less, public. Committed before the call.
release_changes = sa.Table(
    "release_changes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("release_id", sa.String(160), sa.ForeignKey("releases.id"), nullable=False),
    sa.Column("job_id", sa.String(255), sa.ForeignKey("jobs.id"), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("region", sa.String(32), nullable=False),
    sa.Column("action", sa.String(64), nullable=False),
    # An AMI, a snapshot, or the path of a parameter.
    sa.Column("target", sa.String(1024), nullable=False),
    sa.Column("request", sa.JSON, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("opened_at", sa.Double, nullable=False),
    sa.Column("closed_at", sa.Double),
    _one_of("status", EffectStatus, "status"),
    sa.CheckConstraint("(status = 'open') = (closed_at IS NULL)", name="closed"),
    sa.Index("ix_release_changes_release_id", "release_id"),
    sa.Index("ix_release_changes_job_id", "job_id"),
)

#: That a build is public, or is so with more or as something else: written with the fact, ended when all were told.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("release_id", sa.String(160), sa.ForeignKey("releases.id"), nullable=False),
    sa.Column("label", sa.String(64), nullable=False),
    sa.Column("published_at", sa.Double, nullable=False),
    # The ids of the jobs that others may find.
    sa.Column("jobs", sa.JSON, nullable=False),
    # The names of those who were told already.
    sa.Column("told", sa.JSON, nullable=False),
    # Who tells it at present: a lease.
    sa.Column("teller", sa.String(255)),
    sa.Column("teller_until", sa.Double),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.CheckConstraint("(teller IS NULL) = (teller_until IS NULL)", name="teller"),
    sa.CheckConstraint("ended_at IS NULL OR teller IS NULL", name="ended"),
    sa.Index("ix_notices_release_id", "release_id"),
)
