"""The table of prices."""

from __future__ import annotations

import pytest

from ebspub.aws.costs import monthly
from ebspub.states import Kind


@pytest.mark.parametrize(
    ("kind", "kind_of", "size", "dollars"),
    [
        (Kind.INSTANCE, "t3.medium", 0, 30.37),
        (Kind.INSTANCE, "t3a.medium", 0, 27.45),
        (Kind.INSTANCE, "m5d.2xlarge", 0, 280.32),
        (Kind.INSTANCE, "t3.micro", 0, 7.59),
        (Kind.VOLUME, "gp3", 8, 0.64),
        (Kind.SNAPSHOT, "", 8, 0.40),
        (Kind.GROUP, "", 0, 0.0),
        (Kind.IMAGE, "", 0, 0.0),
    ],
)
def test_what_is_known_has_a_price(kind: Kind, kind_of: str, size: float, dollars: float) -> None:
    assert monthly(kind, kind_of=kind_of, size=size) == pytest.approx(dollars, abs=0.01)


@pytest.mark.parametrize("kind_of", ["z9.large", "t3.metal", "t3", "", "t3.-1xlarge"])
def test_what_is_not_known_has_none(kind_of: str) -> None:
    assert monthly(Kind.INSTANCE, kind_of=kind_of) is None
    assert monthly(Kind.VOLUME, kind_of=kind_of, size=1) is None
