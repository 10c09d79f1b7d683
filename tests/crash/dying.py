"""Runs `ebspub` so that it kills itself at a commit of its store.

``python -m tests.crash.dying N before|after ARGS...`` ends by SIGKILL at the N-th commit of a transaction that writes:
just before SQLite is told to commit, or just after it did and before anybody knows. With N = 0 it lives. Every commit
is noted in the file that the environment variable ``DYING_RECORD`` names, a line each that says what was written; the
product itself knows nothing of this.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine.default import DefaultDialect

from ebspub.cli.main import main

RECORD = "DYING_RECORD"
_CHANGE = re.compile(r"\s*(?:INSERT (?:OR \w+ )?INTO|UPDATE|DELETE FROM|CREATE TABLE)\s+\"?(\w+)", re.IGNORECASE)


class Death:
    """Counts commits and strikes at one of them."""

    def __init__(self, nth: int, when: str, record: str) -> None:
        self._nth = nth
        self._when = when
        self._record = record
        self._lock = threading.Lock()
        self._count = 0
        #: Of the transaction under way in this thread: the tables it changed, and its number once it commits.
        self._mine = threading.local()

    def listen(self) -> None:
        """Mind every engine of this process."""
        event.listen(sa.Engine, "begin", self._began)
        event.listen(sa.Engine, "before_cursor_execute", self._executing)
        event.listen(sa.Engine, "commit", self._committing)
        really = DefaultDialect.do_commit

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            really(dialect, connection)  # type: ignore[no-untyped-call]
            self._committed()

        DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]

    def _began(self, _connection: sa.Connection) -> None:
        self._mine.tables, self._mine.number = [], 0

    def _executing(self, _connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        found = _CHANGE.match(statement)
        tables: list[str] = getattr(self._mine, "tables", [])
        if found and found[1] not in tables:
            tables.append(found[1])

    def _committing(self, connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("ebspub_writer", True):
            return
        with self._lock:
            self._count += 1
            self._mine.number = self._count
            if self._record:
                with open(self._record, "a", encoding="utf-8") as record:
                    record.write("+".join(self._mine.tables) + "\n")
        self._strike("before")

    def _committed(self) -> None:
        self._strike("after")
        self._mine.number = 0

    def _strike(self, when: str) -> None:
        if self._nth and (getattr(self._mine, "number", 0), when) == (self._nth, self._when):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    Death(int(sys.argv[1]), sys.argv[2], os.environ.get(RECORD, "")).listen()
    sys.argv[:3] = ["ebspub"]
    main()
