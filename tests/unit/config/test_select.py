"""What the command line asks for: a choice of what the file describes, and serials above those of the file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import Config, open_builds, parse, select
from ebspub.errors import ConfigError, UsageError
from ebspub.spec import JobSpec

Configs = Callable[..., Config]

SECOND = """
[[builds]]
suite = "noble"
label = "daily"
version = "24.04"
arches = ["amd64", "arm64"]
regions = ["us-east-1"]
[builds.source]
url = "https://example.com/{suite}/{serial}/{arch}.tar.xz"
sha256sums = "https://example.com/{suite}/{serial}/SHA256SUMS"
keyring = "keys.gpg"
"""


def _ids(specs: tuple[JobSpec, ...]) -> list[str]:
    return [spec.job_id for spec in specs]


def test_a_name_taken_by_a_build_that_was_not_asked_for_is_taken(config: Configs) -> None:
    named = 'name = "fixed-{serial}-{arch}"\n[builds.source]'
    cfg = config(("[builds.source]", named), end=SECOND)
    assert select(cfg, suites=["noble"], serials=["20240423"])
    with pytest.raises(ConfigError, match="is also the name of builds"):
        select(cfg, suites=["noble"], serials=["20101020"])


def test_a_serial_on_the_command_line_fills_the_one_that_is_missing(config: Configs) -> None:
    cfg = config(end=SECOND)
    assert open_builds(cfg) == ("noble server",)
    assert {spec.suite for spec in select(cfg)} == {"lucid"}
    assert _ids(select(cfg, suites=["noble"], serials=["20240423.1"], archs=["arm64"])) == [
        "noble-server-20240423.1-arm64-us-east-1"
    ]


def test_a_serial_on_the_command_line_is_above_the_one_in_the_file(config: Configs) -> None:
    specs = select(config(), serials=["20101021", "20101022", "20101021"], regions=["us-east-1"])
    assert [spec.serial for spec in specs] == ["20101021", "20101022"]
    assert specs[0].source.sums_url == "https://example.com/lucid/20101021/SHA256SUMS"


def test_a_serial_is_never_laid_on_several_suites_unasked(config: Configs) -> None:
    cfg = config(end=SECOND)
    with pytest.raises(UsageError, match="would be used for the suites lucid, noble"):
        select(cfg, serials=["20240423"])
    assert len(select(cfg, serials=["20240423"], suites=["lucid", "noble"])) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suites": ["nobel"]}, '--suite: the configuration has no "nobel". Did you mean "noble"?'),
        ({"archs": ["i386"]}, '--arch: the configuration has no "i386".'),
        ({"regions": ["eu-wset-1"]}, 'Did you mean "eu-west-1"?'),
        ({"builds": ["desktop"]}, '--build: the configuration has no "desktop".'),
        ({"labels": ["beta"]}, '--label: the configuration has no "beta".'),
        ({"serials": ["2010-10-20"]}, '--serial: found "2010-10-20", expected YYYYMMDD'),
        ({"serials": ["20100230"]}, "--serial: found"),
        ({"suites": ["lucid"], "labels": ["daily"]}, "no build matches --suite, --build and --label together"),
        ({"suites": ["noble"]}, "no serial for: noble server"),
        ({"suites": ["lucid"], "archs": ["arm64"]}, '--arch: the configuration has no "arm64".'),
    ],
)
def test_a_choice_of_nothing_says_what_there_is(config: Configs, options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        select(config(end=SECOND), **options)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.todo


def test_region_and_arch_that_never_meet_are_a_usage_error(config: Configs) -> None:
    cfg = config(end=SECOND)
    with pytest.raises(UsageError, match="no job matches --arch and --region together"):
        select(cfg, suites=["lucid", "noble"], serials=["20240423"], archs=["arm64"], regions=["eu-west-1"])


def test_a_file_without_builds_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="has no builds"):
        select(parse(""))
