"""The store's own statements on SQLite without SQLAlchemy's connection around them.

A history runs some four hundred statements, each of a few microseconds; what SQLAlchemy's connections, pool, events and
result objects add takes ten times as long. Statements are compiled by SQLAlchemy for SQLite, once each, and values go
through its types; the transactions, constraints and rows are SQLite's. `test_lean.py` holds that a history is the same,
line by line, as with the connections that the product uses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

Processor = Callable[[Any], Any] | None


class Row(dict[str, Any]):
    """A row: by name as a mapping, and by attribute."""

    __slots__ = ()
    __getattr__ = dict.__getitem__


class Result:
    """What a statement returned, as far as the store asks."""

    def __init__(self, rows: list[Row], rowcount: int, key: int | None) -> None:
        self._rows = rows
        self.rowcount = rowcount
        self.inserted_primary_key = (key,)

    def mappings(self) -> Result:
        """Return the rows by name, which they are already."""
        return self

    def all(self) -> list[Row]:
        """Return all rows."""
        return self._rows

    def first(self) -> Row | None:
        """Return the first row, or None."""
        return self._rows[0] if self._rows else None

    def scalar(self) -> Any:
        """Return the first value of the first row, or None."""
        return next(iter(self._rows[0].values())) if self._rows else None

    def scalar_one(self) -> Any:
        """Return the one value of the one row."""
        ((value,),) = (row.values() for row in self._rows)
        return value

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)


class Statement:
    """A statement compiled for SQLite: its text, its values in order, the columns that it returns."""

    def __init__(self, dialect: sa.Dialect, statement: Any, names: list[str] | None) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        self.statement = statement  # kept: its id is the key of the cache
        self._text = str(compiled)
        self._lists = {bind.key for bind in compiled.post_compile_params}
        fixed = compiled.construct_params(_check=False)
        self.values: list[tuple[str, Any, Processor]] = [
            (name, fixed[name], compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        columns = list(getattr(statement, "exported_columns", ()))
        self._names = [column.key for column in columns]
        made = ((c.key, c.type.dialect_impl(dialect).result_processor(dialect, None)) for c in columns)
        self._processors = [(name, process) for name, process in made if process is not None]

    def run(self, cursor: sqlite3.Cursor, told: Mapping[str, Any]) -> Result:
        """Run it with ``told`` in place of the values that it was built with."""
        text, values = self._text, []
        for name, fixed, process in self.values:
            value = told.get(name, fixed)
            if name in self._lists:  # IN: as many places as there are values
                text = text.replace(f"__[POSTCOMPILE_{name}]", ", ".join("?" * len(value)))
                values += value
            else:
                values.append(value if process is None else process(value))
        cursor.execute(text, values)
        rows = [self._row(found) for found in cursor] if self._names else []
        return Result(rows, cursor.rowcount, cursor.lastrowid)

    def _row(self, found: tuple[Any, ...]) -> Row:
        row = Row(zip(self._names, found, strict=True))
        for name, process in self._processors:
            row[name] = process(row[name])
        return row


class Connection:
    """One SQLite connection that runs the store's statements."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self.raw = raw
        self.dialect = sqlite.dialect()
        self._cursor = raw.cursor()
        self._known: dict[tuple[int, tuple[str, ...]], Statement] = {}

    def execute(self, statement: Any, told: Mapping[str, Any] | None = None) -> Result:
        """Run a statement of SQLAlchemy's; a constraint that refuses it raises what SQLAlchemy raises."""
        assert self.raw.in_transaction, "a statement outside its transaction"
        told = told or {}
        key = (id(statement), tuple(told))
        known = self._known.get(key)
        if known is None:
            known = Statement(self.dialect, statement, list(told) if told and statement.is_dml else None)
            if told or not known.values:  # without values of its own it was built once, and is worth keeping
                self._known[key] = known
        try:
            return known.run(self._cursor, told)
        except sqlite3.IntegrityError as error:
            raise sa.exc.IntegrityError(str(known.statement), dict(told), error) from error

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Connection]:
        """One transaction; commits at the end, rolls back on any exception, a kill included."""
        self.raw.execute(begin)
        try:
            yield self
        except BaseException:
            self.raw.execute("ROLLBACK")
            raise
        self.raw.execute("COMMIT")
