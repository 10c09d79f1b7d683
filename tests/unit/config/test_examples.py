"""The examples are right, and say what they are said to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebspub.config import load, parse, select
from ebspub.spec import JobSpec

EXAMPLES = Path(__file__).parents[3] / "examples"


def _specs(name: str, **options: list[str]) -> dict[str, JobSpec]:
    return {spec.job_id: spec for spec in select(load(EXAMPLES / name), **options)}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.toml")), ids=lambda file: file.name)
def test_every_example_is_right(file: Path) -> None:
    config = load(file)
    open_ = any(build.serial is None for build in config.builds)
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


def test_a_build_launcher_needs_no_edit() -> None:
    specs = _specs("noble.toml", suites=["noble"], serials=["20240501.2"], archs=["arm64"], regions=["us-east-1"])
    assert list(specs) == ["noble-server-20240501.2-arm64-us-east-1"]
