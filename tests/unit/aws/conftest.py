"""Clients as the program makes them, with the network taken away: what they send is checked by botocore's own model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.stub import Stubber

from ebspub.aws.clients import BotoClients, RegionClients

REGION = "us-east-1"


@pytest.fixture(scope="module")
def clients() -> RegionClients:
    """Return a region's clients, with credentials that are good for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        return BotoClients().region(REGION)


@pytest.fixture
def stub(clients: RegionClients) -> Iterator[Stubber]:
    """Stand in for EC2 behind ``clients.writer``; every answer that was prepared must be asked for."""
    with Stubber(clients.writer) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()
