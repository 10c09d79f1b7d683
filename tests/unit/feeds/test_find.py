"""Which AMI to launch: the newest of what is asked for."""

from __future__ import annotations

import random

import pytest

from ebspub.feeds.find import Wanted, find
from tests.unit.feeds.facts import image, lucid, many


def test_the_newest_serial_of_each_suite_arch_and_region() -> None:
    images = [
        image(serial="20240423.9", ami="ami-1"),
        image(serial="20240423.10", ami="ami-2"),
        image(serial="20240501", ami="ami-3", arch="arm64"),
        image(serial="20240401", ami="ami-4", region="eu-west-1"),
        image(serial="20250101", ami="ami-5", label="daily"),
        image(serial="20250101", ami="ami-6", build="desktop"),
    ]
    random.Random(1).shuffle(images)
    assert [each.ami for each in find(images, Wanted())] == ["ami-4", "ami-2", "ami-3"]
    assert [each.ami for each in find(images, Wanted(region="us-east-1", arch="amd64"))] == ["ami-2"]
    assert [each.ami for each in find(images, Wanted(stream="daily"))] == ["ami-5"]
    assert [each.ami for each in find(images, Wanted(serial="20240423.9"))] == ["ami-1"]
    assert find(images, Wanted(suite="lucid")) == ()


@pytest.mark.parametrize("suite", ["lucid", "10.04"])
def test_a_suite_goes_by_its_name_or_its_version(suite: str) -> None:
    wanted = Wanted(suite=suite, region="us-east-1", arch="i386", root_store="instance-store")
    assert [each.ami for each in find(lucid(), wanted)] == ["ami-2d4aa444"]


def test_hvm_and_ssd_come_first_where_nobody_asks_for_another_kind() -> None:
    images = [
        image(ami="ami-1", virtualization="paravirtual"),
        image(ami="ami-2", root_store="ebs"),
        image(ami="ami-3"),
        image(ami="ami-4", root_store="instance-store", virtualization="paravirtual"),
    ]
    for chosen in (images, images[::-1]):
        assert [each.ami for each in find(chosen, Wanted())] == ["ami-3"]
        assert [each.ami for each in find(chosen, Wanted(virtualization="paravirtual"))] == ["ami-1"]


def test_the_newest_suite_comes_first() -> None:
    found = find(many(320), Wanted(region="us-east-1", arch="amd64"))
    assert [each.suite for each in found] == ["noble", "jammy"]
