"""What of many alike cases `make test` passes; `make test-whole` passes all of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def few(kept: Collection[T], every: Iterable[T]) -> list[T | ParameterSet]:
    """Return parameters of a test: ``every`` case, those that are not ``kept`` marked as variants."""
    return [case if case in kept else _variant(case) for case in every]


def _variant(case: object) -> ParameterSet:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.variant)
