"""Tables laid on one another: defaults, region, build, the build's arch. The uppermost says what counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from ebspub.config.model import PerArch


class Layers:
    """Tables of one kind with the path of each, lowest first; tables that are absent are None."""

    def __init__(self, *tables: tuple[str, BaseModel | None]) -> None:
        self._tables = tuple((path, table) for path, table in tables if table is not None)
        self._lowest = tables[0][0]

    def _down(self, key: str) -> Iterator[tuple[Any, str]]:
        for path, table in reversed(self._tables):
            value = getattr(table, key, None)
            if value is not None:
                yield value, f"{path}.{key}"

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of ``key`` in the uppermost table that has it."""
        return next((value for value, _ in self._down(key)), default)

    def where(self, key: str) -> str:
        """Return the path of what counts for ``key``, or where a default for all would be written."""
        return next((path for _, path in self._down(key)), f"{self._lowest}.{key}")

    def get_arch(self, key: str, *arches: str) -> Any:
        """Return the value of ``key`` for the first of ``arches`` that any table has, or None."""
        for arch in arches:
            for value, _ in self._down(key):
                if isinstance(value, PerArch) and value.of(arch) is not None:
                    return value.of(arch)
        return None

    def of_uppermost(self, *keys: str) -> dict[str, Any]:
        """Return those of ``keys`` that are set in the uppermost table that sets any: keys that exclude one another."""
        for _, table in reversed(self._tables):
            found = {key: getattr(table, key) for key in keys if getattr(table, key) is not None}
            if found:
                return found
        return {}

    def following(self, leader: str, *keys: str) -> dict[str, Any]:
        """Return ``keys`` as they count, without those from below a table that changes ``leader``."""
        found: dict[str, Any] = {}
        lead: Any = None
        for _, table in self._tables:
            mine = getattr(table, leader)
            if mine is not None and mine != lead:
                lead, found = mine, {}
            found |= {key: getattr(table, key) for key in keys if getattr(table, key) is not None}
        return found
