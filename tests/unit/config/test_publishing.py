"""[publish]: laid over by region and build, judged with the file, templates of parameters that never collide."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import Config, select
from ebspub.config.publishing import find, names, publishing, sharing, unshared
from tests.unit.config.conftest import Problems, Texts

PARAMETERS = '[publish]\nparameters = ["/i/{suite}/{serial}/{arch}/{virtualization}", "/i/{suite}/current/{arch}"]\n'


def with_publish(text: Texts, table: str, *, build: str = "", region: str = "", arches: str = '["amd64"]') -> str:
    """Return a configuration's text with [publish], and what a build and a region say of it."""
    return text(
        ("[builds.source]", f"{build}\n[builds.source]"),
        ("[regions.eu-west-1]", f"[regions.eu-west-1]\n{region}"),
        ('arches = ["amd64"]', f"arches = {arches}"),
        end="\n" + table,
    )


def test_nothing_is_shared_where_nothing_is_said(config: Callable[..., Config]) -> None:
    found = config()
    plan, wanted = publishing(found, 0), sharing(found, 0, "us-east-1")
    assert (plan.when, plan.verify, plan.quorum, plan.required) == ("manual", False, None, None)
    assert (plan.regions, plan.arches) == (("us-east-1", "eu-west-1"), ("amd64",))
    assert (wanted.launch, wanted.volume, wanted.parameters) == (frozenset(), frozenset(), ())


def test_region_and_build_are_laid_over(config: Callable[..., Config], text: Texts) -> None:
    from ebspub.config import parse

    whole = with_publish(
        text,
        '[publish]\nwhen = "auto"\nverify = true\npublic = true\naccounts = "111122223333"\nquorum = 2\n',
        build='publish = { when = "manual", required = "us-east-1", tags = { A = "{label}" } }',
        region="publish.public = false\npublish.accounts = []",
    )
    found = parse(whole)
    plan = publishing(found, 0)
    assert (plan.when, plan.verify, plan.quorum, plan.required) == ("manual", True, None, ("us-east-1",))
    assert sharing(found, 0, "us-east-1").launch == {"all", "111122223333"}
    assert sharing(found, 0, "eu-west-1").launch == frozenset()
    assert sharing(found, 0, "eu-west-1").tags == (("A", "{label}"),)


@pytest.mark.parametrize(
    ("table", "build", "region", "said"),
    [
        ("", "", "", [True, True]),
        ("[publish]\npublic = false\n", "", "", [False, False]),
        ("[publish]\naccounts = []\n", "", "", [True, True]),
        ('[publish]\naccounts = "111122223333"\n', "", "publish.accounts = []", [False, True]),
        ("", "publish.public = false", "", [False, False]),
        ("", "", "publish.public = false", [True, False]),
    ],
)
def test_it_is_told_where_nobody_may_use_a_build_and_nothing_says_so(
    text: Texts, table: str, build: str, region: str, said: list[bool]
) -> None:
    from ebspub.config import parse

    found = parse(with_publish(text, table, build=build, region=region))
    assert [unshared(found, 0, each) for each in ("us-east-1", "eu-west-1")] == said


def test_auto_in_short(text: Texts) -> None:
    from ebspub.config import parse

    assert publishing(parse(with_publish(text, "", build='publish = "auto"')), 0).when == "auto"


def test_a_parameter_without_a_serial_goes_on_to_the_next_build(text: Texts) -> None:
    from ebspub.config import parse

    found = parse(with_publish(text, PARAMETERS))
    (spec, _) = select(found)
    assert names(sharing(found, 0, "us-east-1"), spec, "release") == {
        "/i/lucid/20101020/amd64/hvm": False,
        "/i/lucid/current/amd64": True,
    }


def test_the_build_of_a_label_is_found_or_any_of_its_name(config: Callable[..., Config]) -> None:
    found = config()
    assert find(found, "lucid", "server", "daily") == 0
    assert find(found, "noble", "server", "release") is None


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('accounts = ["1234"]', "publish.accounts"),
        ('organizations = ["o-abc"]', "the ARN of an organization"),
        ('organizational_units = ["ou-abc"]', "the ARN of an organizational unit"),
        ('parameters = "images/{suite}"', "a path such as"),
        ('parameters = "/aws/{suite}"', "reserved by AWS"),
        ('parameters = "/i/{siute}"', 'did you mean "{suite}"'),
        ('quorum = 3', "publish.quorum: found 3, expected at most 2"),
        ('quorum = 1\nrequired = "us-east-1"', "expected one of the two"),
        ('required = "sa-east-1"', 'publish.required: found "sa-east-1"'),
        ('when = "always"', "publish.when"),
        ('label = "release"', "publish.label"),
        ('parameters = "/i/{suite}/{serial}"', "({arch} is missing in it)"),
        ('parameters = ["/i/{suite}/{arch}", "/i/lucid/{arch}"]', "comes of two templates"),
        ('tags = { "ebspub:label" = "x" }', "reserved"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(text: Texts, problems: Problems, table: str, said: str) -> None:
    found = problems(with_publish(text, f"[publish]\n{table}\n", arches='["amd64", "arm64"]'))
    assert any(said in line for line in found), found


def test_what_is_encrypted_is_not_public(text: Texts, problems: Problems) -> None:
    found = problems(with_publish(text, "[publish]\npublic = true\n[volume]\nencrypted = true\n"))
    assert any("nothing encrypted with everybody" in line for line in found), found
