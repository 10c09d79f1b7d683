"""Laws: whatever a file says, it is a configuration or a ConfigError; whatever is asked, jobs or an EbspubError."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebspub.config import from_dict, parse, select
from ebspub.config.model import Build, BuilderTable, Config, RegionTable, RegistrationTable, SourceTable, VolumeTable
from ebspub.errors import ConfigError, EbspubError, UsageError
from ebspub.spec import JobSpec

EXAMPLES = Path(__file__).parents[3] / "examples"
NOBLE: dict[str, Any] = tomllib.loads((EXAMPLES / "noble.toml").read_text())
LUCID: dict[str, Any] = tomllib.loads((EXAMPLES / "lucid.toml").read_text())
KEYS = sorted(
    {
        field.alias or name
        for model in (Config, Build, BuilderTable, RegionTable, RegistrationTable, SourceTable, VolumeTable)
        for name, field in model.model_fields.items()
    }
    | {"us-east-1", "us-esat-1", "ephemeral0", "arm64", "[key]", "", "a b", "custom"}
)
PLAUSIBLE = [
    "lucid", "20101020", "20101020.1", "amd64", "i386", "us-east-1", "ami-0a1b2c3d", "ssm:/a/b", "10.0.0.0/8", "hvm",
    "paravirtual", "uefi", "gp3", "io2", "/dev/sda1", "/dev/sdb", "https://e.com/{arch}", "{serial}", "{", "0" * 64,
    "https://[", "https://e.com:99999999/x", "sqlite:////x.db", "x://:@:/", "//", "~", "~nobody/x", "sg-0a1b2c3d",
]  # fmt: skip
LEAVES = st.one_of(
    st.sampled_from(PLAUSIBLE),
    st.text(max_size=20),
    st.integers(),
    st.integers(min_value=10**5000, max_value=10**5001),
    st.floats(),
    st.booleans(),
    st.just(date(2010, 10, 20)),
    st.just(time(1, 2, 3)),
    st.just(datetime(2010, 10, 20, tzinfo=UTC)),
)
ANY_KEY = st.one_of(st.sampled_from(KEYS), st.text(max_size=8))
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(ANY_KEY, inner, max_size=6)),
    max_leaves=25,
)
DOCUMENTS = st.dictionaries(ANY_KEY, VALUES, max_size=8)
WORDS = st.lists(
    st.one_of(st.sampled_from([*PLAUSIBLE, "noble", "server", "daily", "20240501"]), st.text(max_size=9)), max_size=3
)


def _refused(work: Callable[[], object]) -> EbspubError | None:
    """Return the error with which ``work`` refuses; anything but the user's own errors goes through."""
    try:
        work()
    except (ConfigError, UsageError) as error:
        return error
    return None


def _judge(document: dict[str, Any]) -> None:
    def work() -> None:
        config = from_dict(document)
        if config.builds:
            for spec in select(config, suites=[config.builds[0].suite], serials=["20101020"]):
                assert JobSpec.model_validate_json(spec.model_dump_json()) == spec

    error = _refused(work)
    assert all(line.isprintable() for line in getattr(error, "problems", ()))


@given(DOCUMENTS)
def test_a_document_of_any_shape_is_a_configuration_or_a_config_error(document: dict[str, Any]) -> None:
    _judge(document)


def _places(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inner for place in [(*here, key), *_places(each, (*here, key))]]


def _changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    copy = value.copy()
    copy[place[0]] = _changed(value[place[0]], place[1:], new)
    return copy


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_right_document_with_anything_changed_is_still_judged(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from([NOBLE, LUCID]))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(_places(document)))
        document = _changed(document, place, data.draw(VALUES))
    _judge(document)


@given(st.text(max_size=200))
def test_a_file_of_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    error = _refused(lambda: parse(text))
    assert error is None or error.exit_code == 2


@given(WORDS, WORDS, WORDS, WORDS, WORDS, WORDS)
def test_any_choice_gives_jobs_or_a_usage_error(
    suites: list[str], serials: list[str], archs: list[str], regions: list[str], builds: list[str], labels: list[str]
) -> None:
    config = from_dict(NOBLE)
    specs: list[JobSpec] = []

    def work() -> None:
        specs.extend(
            select(config, suites=suites, serials=serials, archs=archs, regions=regions, builds=builds, labels=labels)
        )

    error = _refused(work)
    assert bool(specs) is (error is None)
    assert error is None or (isinstance(error, UsageError) and error.todo)
    assert len({spec.job_id for spec in specs}) == len(specs)
    assert all(not suites or spec.suite in suites for spec in specs)
    assert all(not serials or spec.serial in serials for spec in specs)
    assert all(not archs or spec.arch in archs for spec in specs)
    assert all(not regions or spec.region in regions for spec in specs)
