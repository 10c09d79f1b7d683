"""Alembic's entry: run migrations on the connection that ebspub hands over, or on EBSPUB_DATABASE."""

from __future__ import annotations

import os

from alembic import context

from ebspub.store.database import connect, migrating
from ebspub.store.tables import metadata


def run() -> None:
    """Migrate within the caller's transaction, or in one of our own when started by the alembic command."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        context.run_migrations()
        return
    engine = connect(os.environ.get("EBSPUB_DATABASE", "sqlite:///ebspub.db"))
    try:
        with migrating(engine) as own:
            context.configure(connection=own, target_metadata=metadata, render_as_batch=True)
            context.run_migrations()
    finally:
        engine.dispose()


run()
