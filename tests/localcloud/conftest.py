"""One cloud per worker, with short delays."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from ebspub.localcloud import Delays, Settings, running
from tests.localcloud.lab import Builder, Lab

SETTINGS = Settings(delays=Delays.all(0.15))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A cloud and the means to use it."""
    with running(tmp_path_factory.mktemp("cloud"), SETTINGS) as cloud:
        yield Lab(cloud, tmp_path_factory.mktemp("lab"), port=cloud.ssh_port, user=cloud.ssh_user)


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Lift what a test inflicted on the shared cloud."""
    yield
    if "lab" in request.fixturenames:
        cloud = request.getfixturevalue("lab").cloud
        cloud.heal()
        cloud.configure(SETTINGS)


@pytest.fixture
def ec2(lab: Lab) -> Any:
    """The EC2 client of the lab's region."""
    return lab.client("ec2")


@pytest.fixture(scope="session")
def nitro(lab: Lab, need: Any) -> Builder:
    """A builder of a Nitro type; tests attach volumes of their own and detach them."""
    need.loop()
    need.tool("sshd", "unshare", "setpriv")
    return lab.launch(InstanceType="t3.micro")


@pytest.fixture
def name() -> str:
    """A name that no other test of this worker uses."""
    return f"test image {next(_numbers)}"


@pytest.fixture(scope="session")
def snapshot(lab: Lab) -> str:
    """A completed snapshot of an empty volume of 1 GiB."""
    return lab.snapshot(lab.volume())
