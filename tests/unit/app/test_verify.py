"""Test boots without a cloud: who an instance says it is, where it boots, and what counts as verified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebspub.app.verify import FACT, chosen, not_passed, verified
from ebspub.app.verify.identity import judge
from ebspub.app.verify.settings import place
from ebspub.config import parse
from ebspub.errors import ConfigError, UsageError
from ebspub.states import State, Status
from ebspub.store import Job, Store
from tests.unit.app import test_judge
from tests.unit.cli.stories import Story

HEAD = '[builder]\nimages.amd64 = "ami-0a1b2c3d4e5f60718"\n'
CIDR = 'ssh_cidr = "203.0.113.0/24"\n'


def registered(**facts: Any) -> Job:
    return replace(test_judge.job(Status.DONE, ami_id="ami-1", snapshot_id="snap-1"), facts=facts)


def told(result: str = "verified", ami: str = "ami-1") -> dict[str, str]:
    return {"result": result, "ami": ami}


@pytest.mark.parametrize(
    ("text", "known", "fault"),
    [
        ("build_name: server\nserial: 20101020\n\nDISTRIB_CODENAME=lucid\n", "lucid 20101020", ""),
        ('VERSION_CODENAME=lucid\nUBUNTU_CODENAME="lucid"\n', "lucid", ""),
        ("NAME=Something\n", "unknown", ""),
        ("serial: 20101021\n", "20101021", "it says that its serial is 20101021, and 20101020 was published"),
        ("VERSION_CODENAME=noble\n", "noble", "it says that its suite is noble, and lucid was published"),
    ],
)
def test_an_image_is_known_by_what_its_own_files_say(text: str, known: str, fault: str) -> None:
    found = judge(text, test_judge.SPEC)
    assert (found.known, found.fault) == (known, fault)


@pytest.mark.parametrize(
    ("facts", "types", "expected"),
    [
        ({}, (), False),
        ({"t3.micro": told()}, (), True),
        ({"t3.micro": told()}, ("t3.micro",), True),
        ({"t3.micro": told()}, ("m5.large",), False),
        ({"t3.micro": told(), "m5.large": told("failed")}, (), False),
        ({"t3.micro": told(ami="ami-2")}, (), False),
    ],
)
def test_verified_is_what_passed_everywhere(facts: Any, types: tuple[str, ...], expected: bool) -> None:
    assert verified(registered(**{FACT: facts}), types) is expected


def test_what_is_missing_is_what_did_not_pass_last() -> None:
    facts = {"t3.micro": told(), "m5.large": told("failed"), "c5.large": told(ami="ami-2")}
    types = ("t3.micro", "m5.large", "c5.large", "r5.large")
    assert not_passed(registered(**{FACT: facts}), types) == types[1:]


def test_a_build_without_a_serial_is_its_newest_that_is_registered(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/ebspub.db") as store:
        for number, serial in enumerate(["20101020.2", "20101020.10", "20101020", "20101021"], 1):
            story = Story(store, test_judge.SPEC.model_copy(update={"serial": serial}), number)
            if serial != "20101021":
                story.reach(State.REGISTERED)

        def serials(*targets: str) -> list[str]:
            return [job.spec.serial for job in chosen(store, targets)]

        assert serials("lucid-server") == ["20101020.10"]
        assert serials("lucid-server-20101020") == ["20101020"]
        assert sorted(serials("lucid-server", "lucid-server-20101020.2")) == ["20101020.10", "20101020.2"]
        with pytest.raises(UsageError, match="lucid-server-20101021 is not registered yet"):
            serials("lucid-server-20101021")


def test_it_boots_where_builders_do(  # the region's table over the default
) -> None:
    config = parse(
        HEAD + CIDR + '[regions.us-east-1]\nbuilder.subnets = ["subnet-00000001"]\nbuilder.address = "private"\n'
    )
    found = place(config, registered())
    assert (found.types, found.places, found.public) == (("t3.micro",), ((None, "subnet-00000001"),), False)
    assert found.needs_group
    assert place(config, registered(), ["m5.large"]).types == ("m5.large",)


def test_where_nothing_connects_no_network_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"builder\.ssh_cidr: missing"):
        place(parse(HEAD), registered())
    assert not place(parse(HEAD + '[verify]\nconsole = "login:"\n'), registered()).needs_group
