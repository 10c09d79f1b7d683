"""What of many alike cases `make test` passes; `make test-long` and `make test-whole` pass more of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, TypeVar

import pytest
from _pytest.mark import ParameterSet

T = TypeVar("T")


def few(
    kept: Collection[T], every: Iterable[T], *, rest: Literal["long", "variant"] = "variant"
) -> list[T | ParameterSet]:
    """Return parameters of a test: ``every`` case, those that are not ``kept`` marked as ``rest``."""
    return [case if case in kept else _marked(case, rest) for case in every]


def _marked(case: object, rest: str) -> ParameterSet:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=getattr(pytest.mark, rest))
