"""`fan_out`: which jobs may copy, which must make their own, and what is refused when the file is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import Config, primaries, select
from ebspub.spec import JobSpec

Texts = Callable[..., str]
Configs = Callable[..., Config]
Problems = Callable[[str], tuple[str, ...]]

ARCHES = 'arches = ["amd64"]'


def wish(when: str = "", primary: str = "us-east-1") -> tuple[str, str]:
    more = f', when = "{when}"' if when else ""
    return ARCHES, f'{ARCHES}\nfan_out = {{ primary = "{primary}"{more} }}'


def by_region(config: Config, **options: list[str]) -> dict[str, JobSpec]:
    return {spec.region: spec for spec in select(config, **options)}


def test_without_a_wish_every_region_makes_its_own(config: Configs) -> None:
    assert {spec.way for spec in select(config())} == {"filesystem"}


def test_the_other_regions_may_copy_the_primarys_snapshot(config: Configs) -> None:
    specs = by_region(config(wish()))
    primary, copy = specs["us-east-1"], specs["eu-west-1"]
    assert (primary.fan_out, primary.way) == (None, "filesystem")
    assert (copy.way, copy.primary, copy.method) == ("copy", primary.job_id, "filesystem")
    assert copy.fan_out is not None
    assert (copy.fan_out.when, copy.fan_out.why) == ("cheaper", "")  # to be decided when it is planned


def test_what_always_copies_needs_no_builder(config: Configs, problems: Problems, text: Texts) -> None:
    only = '[regions.us-east-1]\nbuilder.images.amd64 = "ami-0a1b2c3d4e5f60718"\n[regions.eu-west-1]'
    head = '\n[builder]\nssh_cidr = "203.0.113.0/24"\n'
    specs = by_region(config(wish("always"), regions=f"\n{only}\n", head=head))
    assert specs["eu-west-1"].builder.image == ""
    assert specs["eu-west-1"].fan_out is not None
    assert specs["eu-west-1"].fan_out.why == "fan_out.when is always"
    assert any("regions.eu-west-1.builder.images" in line for line in problems(text(wish(), regions=only, head=head)))


def test_a_copy_waits_for_as_long_as_the_primary_may_take(config: Configs) -> None:
    specs = by_region(config(wish("always")))
    assert specs["eu-west-1"].step_limit("launch") == 3 * (900 + 600 + 7200 + 7200)
    assert specs["us-east-1"].step_limit("launch") == 900


def test_another_partition_makes_its_own(config: Configs) -> None:
    specs = by_region(config(wish("always"), regions="\n[regions.us-east-1]\n[regions.cn-north-1]\n"))
    china = specs["cn-north-1"]
    assert (china.way, china.builder.image) == ("filesystem", "ami-0a1b2c3d4e5f60718")
    assert china.fan_out is not None
    assert "another partition" in china.fan_out.why


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("[regions.eu-west-1]\nvolume.size = 9", "9 GiB in eu-west-1 and 8 GiB in us-east-1"),
        ("[regions.eu-west-1]\n[regions.us-east-1.volume]\nencrypted = true", "snapshot is encrypted"),
    ],
    ids=["size", "encryption"],
)
def test_what_a_copy_cannot_be_is_made_in_the_region_or_refused(
    config: Configs, problems: Problems, text: Texts, table: str, why: str
) -> None:
    regions = f"\n{'' if 'us-east-1' in table else '[regions.us-east-1]'}\n{table}\n"
    own = by_region(config(wish("cheaper"), regions=regions))["eu-west-1"]
    assert own.way == "filesystem"
    assert own.fan_out is not None
    assert why in own.fan_out.why
    (line,) = problems(text(wish("always"), regions=regions))
    assert line.startswith("builds[0].fan_out: ")
    assert why in line


def test_a_source_of_the_regions_own_is_not_copied(config: Configs) -> None:
    url = (
        "https://example.com/{suite}/{serial}/{suite}-server",
        "https://example.com/{region}/{serial}/{suite}-server",
    )
    own = by_region(config(wish(), url))["eu-west-1"]
    assert own.way == "filesystem"
    assert own.fan_out is not None
    assert "the source" in own.fan_out.why


@pytest.mark.parametrize(
    ("primary", "told"),
    [
        ("us-esat-1", 'found "us-esat-1", expected one of the build\'s regions; did you mean "us-east-1"?'),
        ("ap-south-1", 'found "ap-south-1", expected one of the build\'s regions'),
    ],
)
def test_the_primary_is_a_region_of_the_build(problems: Problems, text: Texts, primary: str, told: str) -> None:
    (line,) = problems(text(wish(primary=primary)))
    assert line.startswith("builds[0].fan_out.primary: ")
    assert told in line


def test_an_unknown_word_or_key_is_told(problems: Problems, text: Texts) -> None:
    assert any('"cheaper" or "always"' in line for line in problems(text(wish("never"))))
    lines = problems(text((ARCHES, f'{ARCHES}\nfan_out = {{ primry = "us-east-1" }}')))
    assert 'builds[0].fan_out.primry: unknown key; did you mean "primary"?' in lines


def test_the_primaries_of_jobs_are_found_though_nobody_asked_for_them(config: Configs) -> None:
    cfg = config(wish("always"), (ARCHES, 'arches = ["amd64", "arm64"]'))
    copies = select(cfg, regions=["eu-west-1"])
    assert [spec.job_id for spec in primaries(cfg, copies)] == [spec.primary for spec in copies]
    assert primaries(cfg, select(cfg)) == ()


def test_the_document_of_a_copy_survives_its_storage(config: Configs) -> None:
    for spec in select(config(wish("always"))):
        assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
