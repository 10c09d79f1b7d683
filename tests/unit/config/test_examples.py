"""The examples are right, and say what they are said to say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ebspub.config import Config, load, model, parse, select
from ebspub.config.model import PerArch, RegistrationTable, SourceTable
from ebspub.config.table import Table
from ebspub.spec import JobSpec

EXAMPLES = Path(__file__).parents[3] / "examples"


def _specs(name: str, **options: list[str]) -> dict[str, JobSpec]:
    return {spec.job_id: spec for spec in select(load(EXAMPLES / name), **options)}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.name)
def test_every_example_is_right(file: Path) -> None:
    config = load(file)
    open_ = any(build.fixed_serial is None for build in config.builds)
    assert select(config, serials=["20240423"] if open_ else [])


def test_lucid_is_registered_as_the_real_one_was() -> None:
    """Compare with the published row: us-east-1, i386, ebs, aki-754aa41c."""
    specs = _specs("lucid.toml")
    assert len(specs) == 8
    i386 = specs["lucid-server-20100427.1-i386-us-east-1"].registration
    assert i386.name == "ebs/ubuntu-images/ubuntu-lucid-10.04-i386-server-20100427.1"
    assert (i386.virtualization, i386.kernel_id, i386.architecture) == ("paravirtual", "aki-754aa41c", "i386")
    assert (i386.root_device, i386.ephemeral) == ("/dev/sda1", (("/dev/sda2", "ephemeral0"),))
    amd64 = specs["lucid-server-20100427.1-amd64-eu-west-1"].registration
    assert (amd64.kernel_id, amd64.ephemeral) == ("aki-cb4d67bf", (("/dev/sdb", "ephemeral0"),))


def test_noble_names_nothing_but_the_defaults() -> None:
    """What is spelt out in the example, and said to be the default, is the default."""
    text = (EXAMPLES / "noble.toml").read_text()
    spelt = _specs("noble.toml")
    lines = [line for line in text.splitlines() if not line.startswith(("name =", "description ="))]
    assert {spec.job_id: spec for spec in select(parse("\n".join(lines)))} == spelt
    assert {spec.registration.boot_mode for spec in spelt.values()} == {"uefi", "uefi-preferred"}


def test_noble_shows_every_key() -> None:
    """In the file itself, or in a comment that would be right without its number sign."""
    text = (EXAMPLES / "noble.toml").read_text()
    shown = set(_keys(load(EXAMPLES / "noble.toml")))
    for path, line in _commented(text):
        shown |= set(_keys(_with(path, line)))
    assert {f"{table.__name__}.{key}" for table in _tables() for key in table.model_fields} - shown == set()


def _tables() -> set[type[Table]]:
    """Return every table of the configuration; what is said per arch is said once."""
    found = {value for value in vars(model).values() if isinstance(value, type) and issubclass(value, Table)}
    return {table for table in found if not issubclass(table, PerArch)} - {Table, RegistrationTable, SourceTable}


def _keys(table: Table) -> Iterator[str]:
    """Return the keys that are set in ``table`` and in those below it, as `BuilderTable.zones`."""
    name = {"RegistrationTable": "RegistrationKeys", "SourceTable": "SourceKeys"}.get(type(table).__name__)
    for key in table.model_fields_set:
        yield f"{name or type(table).__name__}.{key}"
        value = getattr(table, key)
        several = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,)
        for each in several:
            if isinstance(each, Table):
                yield from _keys(each)


def _commented(text: str) -> Iterator[tuple[str, str]]:
    """Yield the keys in comments, each with the table in which it stands."""
    table = ""
    for line in text.splitlines():
        if header := re.match(r"\[+([^]]+)\]", line):
            table = header[1]
        elif key := re.match(r"#\s*([a-z_]\w*(\.[\w-]+)* = .*)", line):
            yield table, key[1]


def _with(path: str, line: str) -> Config:
    """Return a configuration that has this line in the table at ``path``, and else as little as can be."""
    build: dict[str, Any] = {"suite": "noble", "label": "daily", "version": "24.04", "arches": ["amd64"], "source": {}}
    told = tomllib.loads(line)
    if path == "builds":
        return Config.model_validate({"builds": [{**build, **told}]})
    if path == "builds.source":
        return Config.model_validate({"builds": [{**build, "source": told}]})
    for name in reversed(path.split(".")):
        told = {name: told}
    return Config.model_validate(told)


def test_a_build_launcher_needs_no_edit() -> None:
    specs = _specs("noble.toml", suites=["noble"], serials=["20240501.2"], archs=["arm64"], regions=["us-east-1"])
    assert list(specs) == ["noble-server-20240501.2-arm64-us-east-1"]
