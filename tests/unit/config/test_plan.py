"""Builds x regions x arches, with overrides, checked as a whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import Config, select
from ebspub.errors import ConfigError
from ebspub.spec import JobSpec
from tests.unit.config.conftest import HEAD

Texts = Callable[..., str]
Configs = Callable[..., Config]
Problems = Callable[[str], tuple[str, ...]]

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
PARAVIRTUAL = """
[builds.registration]
virtualization = "paravirtual"
"""
SHA = "0" * 64


def _ids(specs: tuple[JobSpec, ...]) -> list[str]:
    return [spec.job_id for spec in specs]


def test_a_build_is_a_job_in_every_region_for_every_arch(config: Configs) -> None:
    specs = select(config(('["amd64"]', '["amd64", "arm64"]')))
    assert _ids(specs) == [
        "lucid-server-20101020-amd64-us-east-1",
        "lucid-server-20101020-arm64-us-east-1",
        "lucid-server-20101020-amd64-eu-west-1",
        "lucid-server-20101020-arm64-eu-west-1",
    ]
    assert {spec.registration.boot_mode for spec in specs if spec.arch == "arm64"} == {"uefi"}
    assert specs[1].builder.image == "ssm:/images/arm64"
    assert specs[0].source.url == "https://example.com/lucid/20101020/lucid-server-uec-amd64.tar.gz"


def test_a_job_document_survives_its_storage(config: Configs) -> None:
    for spec in select(config()):
        assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_defaults_yield_to_region_and_region_to_build(config: Configs) -> None:
    cfg = config(
        head=(
            "[volume]\nsize = 10\n[tags]\na = '1'\nb = '1'\nc = '1'\n"
            "[builder]\nimages.amd64 = 'ami-00000001'\nimages.arm64 = 'ami-00000002'\nssh_cidr = '10.0.0.0/8'\n"
        ),
        regions=(
            "[regions.us-east-1]\nvolume.size = 20\ntags = { b = '2', c = '2' }\n"
            "builder.images.amd64 = 'ami-00000003'\n"
            "[regions.eu-west-1]\n"
        ),
        end="[builds.tags]\nc = '3'\n[builds.builder]\nroot_size = 30\n",
    )
    here, there = select(cfg)
    assert (here.volume.size, there.volume.size) == (20, 10)
    assert (here.builder.image, there.builder.image) == ("ami-00000003", "ami-00000001")
    assert here.builder.root_size == there.builder.root_size == 30
    assert here.tags == {"a": "1", "b": "2", "c": "3"}
    assert there.tags == {"a": "1", "b": "1", "c": "3"}


def test_the_builds_arch_is_above_the_build_and_the_build_above_the_defaults_arch(config: Configs) -> None:
    cfg = config(
        ('["amd64"]', '["amd64", "arm64"]'),
        head=(
            "[builder]\nimages = { amd64 = 'ami-00000001', arm64 = 'ami-00000002' }\nssh_cidr = '10.0.0.0/8'\n"
            "[registration]\nimds = 'v1.0'\n[registration.arm64]\nroot_device = '/dev/xvda'\nena = false\n"
        ),
        end=(
            "[builds.registration]\nroot_device = '/dev/sda1'\nena = true\n"
            "[builds.registration.arm64]\nimds = 'v2.0'\nena = false\n"
        ),
    )
    amd64, arm64 = (spec.registration for spec in select(cfg, regions=["us-east-1"]))
    assert (amd64.imds, amd64.ena) == ("v1.0", True)
    assert (arm64.imds, arm64.ena, arm64.root_device) == ("v2.0", False, "/dev/sda1")


def test_subnets_of_a_region_replace_zones_of_the_defaults(config: Configs) -> None:
    cfg = config(
        ("ssh_cidr =", 'zones = ["us-east-1a"]\nssh_cidr ='),
        ("[regions.eu-west-1]", '[regions.eu-west-1]\nbuilder.subnets = ["subnet-0a1b2c3d"]'),
    )
    here, there = select(cfg)
    assert (here.builder.zones, here.builder.subnets) == (("us-east-1a",), ())
    assert (there.builder.zones, there.builder.subnets) == ((), ("subnet-0a1b2c3d",))


def test_another_volume_type_leaves_the_iops_of_the_old_one_behind(config: Configs) -> None:
    cfg = config(("[builder]", '[volume]\ntype = "io1"\niops = 500\n[builder]'), end='[builds.volume]\ntype = "gp2"\n')
    assert {(spec.volume.type, spec.volume.iops) for spec in select(cfg)} == {("gp2", None)}


def test_existing_security_groups_need_no_network_and_open_none(config: Configs) -> None:
    cfg = config(('ssh_cidr = "203.0.113.0/24"', 'security_groups = "sg-0a1b2c3d"'))
    assert {spec.builder.ssh_cidr for spec in select(cfg)} == {"127.0.0.1/32"}


def test_i386_is_filled_on_the_amd64_builder_unless_it_has_its_own(config: Configs) -> None:
    kernels = "kernel_ids.i386 = 'aki-0a1b2c3d'"
    cfg = config(
        ('["amd64"]', '["i386"]'),
        ("[regions.us-east-1]", f"[regions.us-east-1]\n{kernels}"),
        ("[regions.eu-west-1]", f"[regions.eu-west-1]\n{kernels}\nbuilder.images.i386 = 'ami-00000386'"),
        end=PARAVIRTUAL,
    )
    here, there = select(cfg)
    assert (here.builder.image, there.builder.image) == ("ami-0a1b2c3d4e5f60718", "ami-00000386")
    assert here.registration.architecture == "i386"
    assert here.registration.ephemeral == (("/dev/sda2", "ephemeral0"),)


def test_kernels_of_a_build_are_above_those_of_the_region(config: Configs) -> None:
    cfg = config(
        (
            "[regions.us-east-1]",
            "[regions.us-east-1]\nkernel_ids.amd64 = 'aki-00000001'\nramdisk_ids.amd64='ari-00000001'",
        ),
        ("[regions.eu-west-1]", "[regions.eu-west-1]\nkernel_ids.amd64 = 'aki-00000002'"),
        end=PARAVIRTUAL + "[builds.kernel_ids.eu-west-1]\namd64 = 'aki-00000003'\n",
    )
    assert [(s.registration.kernel_id, s.registration.ramdisk_id) for s in select(cfg)] == [
        ("aki-00000001", "ari-00000001"),
        ("aki-00000003", None),
    ]


def test_kernels_of_a_region_are_not_for_its_hvm_images(config: Configs) -> None:
    cfg = config(("[regions.us-east-1]", "[regions.us-east-1]\nkernel_ids.amd64 = 'aki-00000001'"))
    assert {spec.registration.kernel_id for spec in select(cfg)} == {None}


WRONG_TOGETHER = [
    (PARAVIRTUAL, "regions.us-east-1.kernel_ids.amd64: missing, expected a kernel id (aki-...): builds[0]"),
    (PARAVIRTUAL + "ena = true", "builds[0].registration.ena: found true, expected false for paravirtual"),
    (
        PARAVIRTUAL + "boot_mode = 'uefi'",
        'builds[0].registration.boot_mode: found "uefi", expected none for paravirtual',
    ),
    (
        "[builds.kernel_ids.us-east-1]\namd64 = 'aki-00000001'",
        "builds[0].kernel_ids.us-east-1.amd64: found an id, expected",
    ),
    (
        "[builds.registration]\nephemeral = { ephemeral0 = '/dev/xvda1' }",
        "ephemeral0 on /dev/xvda1 clashes with the root",
    ),
    ("[builds.registration]\nephemeral = { ephemeral0 = '/dev/sda' }", "ephemeral0 on /dev/sda clashes with the root"),
    (
        "[builds.registration]\nephemeral = { ephemeral0 = '/dev/sdb', ephemeral1 = '/dev/xvdb' }",
        "ephemeral1 on /dev/xvdb clashes with ephemeral0",
    ),
    ("[builds.registration]\nephemeral = { ephemeral99 = '/dev/sdb' }", "ephemeral99: expected ephemeral0 to"),
    (
        "[builds.builder]\nzones = ['a-b']\nsubnets = ['subnet-00000001']",
        "builds[0].builder.zones: found zones and subnets",
    ),
    (
        "[builds.builder]\nzones = ['us-east-1a']",
        'builds[0].builder.zones: found "us-east-1a", expected a zone of eu-west-1',
    ),
    ("[builds.volume]\ntype = 'io2'", "volume.iops: missing, expected IOPS"),
    ("[builds.volume]\ntype = 'gp2'\niops = 3000", 'builds[0].volume.iops: found "3000", expected none for gp2'),
    ("[builds.volume]\ntype = 'gp2'\nthroughput = 125", "builds[0].volume.throughput: found"),
    ("[builds.volume]\niops = 100", "expected at least 3000 for gp3"),
    ("[builds.volume]\ntype = 'standard'\nsize = 2000", "expected at most 1024 GiB for standard"),
]


@pytest.mark.parametrize(("end", "line"), WRONG_TOGETHER, ids=[line[:50] for _, line in WRONG_TOGETHER])
def test_what_ec2_would_refuse_is_told_first(text: Texts, problems: Problems, end: str, line: str) -> None:
    found = problems(text(end=end))
    assert any(line in each for each in found), found


@pytest.mark.parametrize(
    ("method", "key", "line"),
    [
        ("direct", "grow = false", 'builds[0].grow: found a value, expected none: it belongs to method "disk"'),
        (
            "disk",
            'parent = "previous"',
            'builds[0].parent: found a value, expected none: it belongs to method "direct"',
        ),
    ],
)
def test_a_key_that_the_method_has_no_use_for_is_told(
    text: Texts, problems: Problems, method: str, key: str, line: str
) -> None:
    found = problems(text(('version = "10.04"', f'version = "10.04"\nmethod = "{method}"\n{key}')))
    assert line in found


@pytest.mark.parametrize(
    ("arch", "mode", "expected"),
    [
        ("i386", "uefi", '"legacy-bios" or none for i386'),
        ("i386", "uefi-preferred", '"legacy-bios" or none for i386'),
        ("arm64", "legacy-bios", '"uefi" for arm64'),
        ("arm64", "uefi-preferred", '"uefi" for arm64'),
    ],
)
def test_a_boot_mode_must_be_one_of_the_arch(
    text: Texts, problems: Problems, arch: str, mode: str, expected: str
) -> None:
    found = problems(text(('["amd64"]', f'["{arch}"]'), end=f"[builds.registration]\nboot_mode = '{mode}'\n"))
    assert found == (f'builds[0].registration.boot_mode: found "{mode}", expected {expected} (builds[0], {arch})',)


def test_arm64_is_never_paravirtual(text: Texts, problems: Problems) -> None:
    found = problems(text(('["amd64"]', '["arm64"]'), end=PARAVIRTUAL))
    assert 'builds[0].registration.virtualization: found "paravirtual", expected "hvm": arm64' in found[0]


def test_a_missing_builder_image_names_the_region_and_the_arch(text: Texts, problems: Problems) -> None:
    found = problems(text(('images.arm64 = "ssm:/images/arm64"', ""), ('["amd64"]', '["amd64", "arm64"]')))
    assert [each.split(":")[0] for each in found] == [
        "regions.us-east-1.builder.images.arm64",
        "regions.eu-west-1.builder.images.arm64",
    ]


def test_a_source_without_proof_is_refused(text: Texts, problems: Problems) -> None:
    sums = 'sha256sums = "https://example.com/{suite}/{serial}/SHA256SUMS"'
    (line,) = problems(text((sums, "")))
    assert line.startswith(
        "builds[0].source: nothing proves the artefact of amd64, expected sha256sums (a URL) with a "
    )
    assert line.endswith('a keyring, or sha256, or verify = "none"')


def test_one_checksum_is_not_that_of_two_artefacts(text: Texts, problems: Problems) -> None:
    (line,) = problems(text(('["amd64"]', '["amd64", "arm64"]'), end=f"sha256 = '{SHA}'"))
    assert line.startswith("builds[0].source.sha256: one checksum for several artefacts")


def test_a_source_per_arch_has_its_own_url_and_checksum(config: Configs) -> None:
    cfg = config(
        ('["amd64"]', '["amd64", "arm64"]'),
        end=f"[builds.source.arm64]\nurl = 'https://ports.example.com/{{serial}}.tar'\nsha256 = '{SHA}'\n",
    )
    amd64, arm64 = (spec.source for spec in select(cfg, regions=["us-east-1"]))
    assert (amd64.sha256, amd64.sums_url) == (None, "https://example.com/lucid/20101020/SHA256SUMS")
    assert (arm64.url, arm64.sha256) == ("https://ports.example.com/20101020.tar", SHA)


def test_a_checksum_in_the_file_is_not_used_for_a_serial_of_the_command_line(config: Configs) -> None:
    cfg = config(end=f"sha256 = '{SHA}'\n")
    assert {spec.source.sha256 for spec in select(cfg)} == {SHA}
    assert {spec.source.sha256 for spec in select(cfg, serials=["20101020"])} == {SHA}
    assert {spec.source.sha256 for spec in select(cfg, serials=["20101021"])} == {None}
    only = config(('sha256sums = "https://example.com/{suite}/{serial}/SHA256SUMS"', f"sha256 = '{SHA}'"))
    with pytest.raises(ConfigError, match=r"builds\[0\]\.source\.sha256sums: missing"):
        select(only, serials=["20101021"])


# Names ------------------------------------------------------------------------------------------------------------


def test_a_name_without_the_arch_is_a_duplicate(text: Texts, problems: Problems) -> None:
    found = problems(
        text(('["amd64"]', '["amd64", "arm64"]'), ("[builds.source]", 'name = "x-{serial}"\n[builds.source]'))
    )
    assert found[0] == (
        'builds[0].name: gives "x-20101020" in us-east-1, which is also the name of builds[0] (20101020 amd64), '
        "expected a name of its own ({arch} is missing in it)"
    )
    assert len(found) == 2


def test_two_builds_may_not_share_a_name_or_a_job(text: Texts, problems: Problems) -> None:
    other = 'serial = "20240423"\nname = "{x}"\n'
    twin = SECOND.replace("[builds.source]", other.format(x="ubuntu/images/{suite}") + "[builds.source]")
    assert any("is also the name of" in each for each in problems(text(end=twin)))
    start = text().index("[[builds]]")
    assert problems(text(end=text()[start:]))[0] == (
        "builds[1]: the same job as builds[0]: lucid-server-20101020-amd64-us-east-1"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a+{serial}", "EC2 refuses '+'"),
        ("ü-{serial}", "EC2 refuses '\\xfc'"),
        ("x" * 121 + "{serial}", "expected 3 to 128 characters (these are 129)"),
    ],
)
def test_a_name_that_ec2_refuses_is_told(text: Texts, problems: Problems, name: str, expected: str) -> None:
    assert expected in problems(text(("[builds.source]", f'name = "{name}"\n[builds.source]')))[0]


def test_a_name_of_exactly_128_characters_is_taken(config: Configs) -> None:
    cfg = config(("[builds.source]", f'name = "{"x" * 120}{{serial}}"\n[builds.source]'))
    assert {len(spec.registration.name) for spec in select(cfg)} == {128}


@pytest.mark.parametrize(
    ("kind", "virtualization", "name"),
    [
        ("gp3", "hvm", "ubuntu/images/hvm-ssd-gp3/ubuntu-lucid-10.04-amd64-server-20101020"),
        ("gp2", "hvm", "ubuntu/images/hvm-ssd/ubuntu-lucid-10.04-amd64-server-20101020"),
        ("standard", "paravirtual", "ubuntu/images/ebs/ubuntu-lucid-10.04-amd64-server-20101020"),
        ("gp2", "paravirtual", "ubuntu/images/ebs-ssd/ubuntu-lucid-10.04-amd64-server-20101020"),
    ],
)
def test_the_default_name_is_ubuntus(config: Configs, kind: str, virtualization: str, name: str) -> None:
    cfg = config(
        ("[regions.us-east-1]", "[regions.us-east-1]\nkernel_ids.amd64 = 'aki-00000001'"),
        ("[regions.eu-west-1]", "[regions.eu-west-1]\nkernel_ids.amd64 = 'aki-00000001'"),
        end=f"[builds.volume]\ntype = '{kind}'\n[builds.registration]\nvirtualization = '{virtualization}'\n",
    )
    assert {spec.registration.name for spec in select(cfg)} == {name}


@pytest.mark.parametrize(
    ("version", "told"),
    [("10.04", "10.04 LTS"), ("24.04.2", "24.04.2 LTS"), ("10.10", "10.10"), ("9.04", "9.04"), ("6.06", "6.06 LTS")],
)
def test_the_default_description_is_ubuntus(config: Configs, version: str, told: str) -> None:
    spec = select(config(('"10.04"', f'"{version}"')))[0]
    assert spec.registration.description == f"Canonical, Ubuntu, {told}, amd64 lucid image build on 2010-10-20"


def test_a_build_without_serial_needs_the_serial_in_its_name(text: Texts, problems: Problems) -> None:
    (line,) = problems(text(('serial = "20101020"\n', ""), ("[builds.source]", 'name = "x-{date}"\n[builds.source]')))
    assert line.startswith('builds[0].name: found "x-{date}", expected {serial} in it')


def test_a_job_id_longer_than_a_client_token_is_refused(text: Texts, problems: Problems) -> None:
    long = "a" * 30
    (line,) = {each[:30] for each in problems(text(('"lucid"', f'"{long}"\nbuild = "b{long}"')))}
    assert line.startswith("builds[0]: the job ")


def test_a_build_needs_regions(text: Texts, problems: Problems) -> None:
    assert problems(text(regions="")) == (
        "builds[0].regions: missing, expected a list of regions, or [regions] tables",
    )


# The dead-man timer ------------------------------------------------------------------------------------------------


def test_a_builder_waits_at_least_as_long_as_a_publisher_may_need_to_reach_it(config: Configs) -> None:
    (spec, *_) = select(config())
    assert (spec.builder.dead_man, spec.limits.launch) == (1800, 900)
    (spec, *_) = select(config(head=HEAD + "[limits]\nlaunch = 3600\n"))
    assert spec.builder.dead_man == 3600
    (spec, *_) = select(config(head=HEAD + "dead_man = 300\n[limits]\nlaunch = 300\n"))
    assert spec.builder.dead_man == 300


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("dead_man = 899\n", "at least limits.launch (900 s)"),
        ("dead_man = 60\n[limits]\nlaunch = 60\n[engine]\nlease = 60\npoll_interval = 30\n", "(90 s)"),
    ],
)
def test_a_builder_that_would_not_wait_for_its_publisher_is_refused(
    text: Texts, problems: Problems, head: str, expected: str
) -> None:
    (first, *_) = problems(text(head=HEAD + head))
    assert first.startswith("builder.dead_man: found ")
    assert expected in first
