"""Clients as the program makes them, for tests that answer in EC2's place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ebspub.aws.clients import BotoClients, RegionClients
from tests.properties.calls import REGION


@pytest.fixture(scope="module")
def clients() -> Iterator[RegionClients]:
    """Return a region's clients, with credentials that are good for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        yield BotoClients().region(REGION)
