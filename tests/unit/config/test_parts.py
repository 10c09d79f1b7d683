"""Templates, regions, rules and layers on their own."""

from __future__ import annotations

import pytest

from ebspub.config import rules, templates
from ebspub.config.problems import path, quoted
from ebspub.config.regions import nearest, partition_of, partitions, region_fault

ALL = " ".join(f"{{{name}}}" for name in templates.FIELDS)


def test_a_template_expands_every_field() -> None:
    assert templates.expand(ALL, templates.SAMPLE) == ("lucid server release 20101020 10.04 amd64 us-east-1 2010-10-20")
    assert templates.expand("{{suite}}-{suite}", templates.SAMPLE) == "{suite}-lucid"


@pytest.mark.parametrize(
    "template",
    [
        "{}",
        "{0}",
        "{suite.__class__}",
        "{suite[0]}",
        "{suite!r}",
        "{suite:>99}",
        "{suite:{build}}",
        "{",
        "}",
        "{suite",
        "{ suite}",
    ],
)
def test_a_template_reaches_nothing_but_its_fields(template: str) -> None:
    with pytest.raises(templates.TemplateError):
        templates.pieces(template)


def test_a_value_with_braces_is_not_expanded_again() -> None:
    assert templates.expand("{suite}", {**templates.SAMPLE, "suite": "{serial}"}) == "{serial}"


def test_regions_know_their_partition() -> None:
    assert {"aws", "aws-cn", "aws-us-gov"} <= set(partitions().values())
    assert partition_of("cn-north-1") == "aws-cn"
    assert partition_of("us-gov-west-1") == "aws-us-gov"
    assert partition_of("RegionOne") == "aws"


def test_regions_are_known_without_the_users_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    partitions.cache_clear()
    assert "us-east-1" in partitions()


def test_a_swapped_letter_finds_its_region() -> None:
    assert nearest("us-esat-1", partitions()) == "us-east-1"
    assert region_fault("us-west-2") is None
    assert region_fault("mars") == "a region of EC2, or one with `custom = true` in its [regions] table"
    assert region_fault("RegionOne", frozenset({"RegionOne"})) is None
    assert region_fault("a b", frozenset({"a b"})) is not None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/dev/sda1", "/dev/sda2", False),
        ("/dev/sda1", "/dev/xvda1", True),
        ("/dev/sda1", "/dev/sda", True),
        ("/dev/xvda", "/dev/sda2", True),
        ("/dev/sda1", "/dev/sdb", False),
        ("/dev/xvdba", "/dev/xvdb", False),
    ],
)
def test_devices_clash_by_disk_and_partition(one: str, other: str, same: bool) -> None:
    assert rules.clash(one, other) is rules.clash(other, one) is same


def test_every_character_that_ec2_takes_is_taken() -> None:
    assert rules.name_fault("aZ09()[] ./-'@_") is None
    for refused in "+:,;!*\n\u00e9":
        assert rules.name_fault(f"abc{refused}") is not None
    assert rules.name_fault("ab") is not None


def test_paths_and_texts_stay_on_one_line() -> None:
    assert path(("builds", 0, "tags", "a b")) == 'builds[0].tags."a b"'
    assert path(()) == "the file"
    assert quoted("a\nb\x7f\u202e\ud800") == '"a\\nb\\x7f\\u202e\\ud800"'
    assert len(quoted("x" * 10_000)) < 100
