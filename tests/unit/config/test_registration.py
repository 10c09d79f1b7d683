"""What is registered, and of what volume: what EC2 would refuse is refused when the file is read."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from ebspub.config import Config, rules, select

Texts = Callable[..., str]
Configs = Callable[..., Config]
Problems = Callable[[str], tuple[str, ...]]

WRONG = [
    ("[builds.volume]\niops = 4001", "expected at most 500 a GiB for gp3 (so many need 9 GiB)"),
    ("[builds.volume]\nsize = 1000\niops = 80001", "expected at most 80000 for gp3"),
    ("[builds.volume]\ntype = 'io1'\niops = 401", "expected at most 50 a GiB for io1 (so many need 9 GiB)"),
    ("[builds.volume]\ntype = 'io2'\niops = 8001", "expected at most 1000 a GiB for io2 (so many need 9 GiB)"),
    ("[builds.volume]\niops = 3000\nthroughput = 751", "expected a quarter of the IOPS at most (3004 IOPS"),
    (
        "[builds.volume]\ntype = 'gp2'\niops = 8001\n[builds.registration]\nvolume_type = 'io2'",
        "expected at most 1000 a GiB for io2",
    ),
    ("[builds.volume]\nkms_key = 'alias/images'", 'kms_key: found "alias/images", expected none without encrypted'),
    ("[builds.volume]\nencrypted = true\nkms_key = 'mine'", "kms_key: found"),
    (
        "[builds.volume]\nencrypted = true\nkms_key = 'arn:aws:kms:us-east-1:123456789012:alias/images'",
        "expected a key of eu-west-1",
    ),
    ("[builds.registration]\ntpm = 'v2.0'", 'registration.tpm: found "v2.0", expected none without boot_mode = "uefi"'),
    (
        "[builds.registration]\ntpm = 'v2.0'\nboot_mode = 'uefi-preferred'",
        'expected none without boot_mode = "uefi"',
    ),
    ("[builds.registration]\nuefi_data = 'vars'", 'expected none without boot_mode "uefi" or "uefi-preferred"'),
    (
        "[builds.registration]\nuefi_data = '/nonexistent/vars'\nboot_mode = 'uefi'",
        'registration.uefi_data: "/nonexistent/vars" cannot be read: No such file',
    ),
]


#: Makes another method of the configuration's.
DISK = ('suite = "lucid"', 'suite = "lucid"\nmethod = "disk"')


@pytest.mark.parametrize(("end", "line"), WRONG, ids=[line[:50] for _, line in WRONG])
def test_what_ec2_would_refuse_is_told_first(text: Texts, problems: Problems, end: str, line: str) -> None:
    found = problems(text(end=end))
    assert any(line in each for each in found), found


GOOD_VOLUMES = [
    {"iops": 4000, "throughput": 1000},
    {"iops": 3000, "throughput": 750, "size": 1},
    {"type": "io1", "iops": 400},
    {"type": "io2", "iops": 8000},
]


@pytest.mark.parametrize("volume", GOOD_VOLUMES, ids=str)
def test_as_much_as_ebs_provisions_is_taken(config: Configs, volume: dict[str, object]) -> None:
    lines = "".join(f"{key} = {value!r}\n" for key, value in volume.items())
    (spec, _) = select(config(end=f"[builds.volume]\n{lines}"))
    assert {key: getattr(spec.volume, key) for key in volume} == volume


def test_a_volume_is_encrypted_with_the_key_of_its_region(config: Configs) -> None:
    cfg = config(
        ("[regions.us-east-1]", "[regions.us-east-1]\nvolume.kms_key = 'arn:aws:kms:us-east-1:123456789012:key/a'"),
        ("[builder]", "[volume]\nencrypted = true\nkms_key = 'alias/images'\n[builder]"),
    )
    keys = {spec.region: (spec.volume.encrypted, spec.volume.kms_key) for spec in select(cfg)}
    own = "arn:aws:kms:us-east-1:123456789012:key/a"
    assert keys == {"us-east-1": (True, own), "eu-west-1": (True, "alias/images")}


def test_a_build_that_is_not_encrypted_needs_no_key(config: Configs) -> None:
    cfg = config(
        ("[builder]", "[volume]\nencrypted = true\nkms_key = 'alias/images'\n[builder]"),
        end="[builds.volume]\nencrypted = false\n",
    )
    assert {(spec.volume.encrypted, spec.volume.kms_key) for spec in select(cfg)} == {(False, None)}


def test_without_a_builder_a_key_is_named_by_its_arn(text: Texts, problems: Problems) -> None:
    found = problems(
        text(('suite = "lucid"', 'suite = "lucid"\nmethod = "direct"'))
        + "[builds.volume]\nencrypted = true\nkms_key = 'alias/images'\n"
    )
    assert any('expected the ARN of a key (arn:aws:kms:...:key/...): method "direct"' in line for line in found), found


def test_keys_of_secure_boot_are_refused_for_a_boot_loader_that_has_no_signature(
    text: Texts, problems: Problems, tmp_path: Path
) -> None:
    (tmp_path / "vars").write_bytes(b"AMZNUEFI")
    (found,) = problems(text(end=f"[builds.registration]\nboot_mode = 'uefi'\nuefi_data = '{tmp_path}/vars'\n"))
    assert "has no signature that Secure Boot would take (a disk that has one: disk, direct)" in found


@pytest.mark.parametrize("held", [b"\x00AMZNUEFI\xff" * 9, base64.b64encode(b"AMZNUEFI" * 9) + b"\n"])
def test_the_uefi_variables_are_in_the_document(config: Configs, tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "vars"
    file.write_bytes(held)
    cfg = config(DISK, end=f"[builds.registration]\nboot_mode = 'uefi'\ntpm = 'v2.0'\nuefi_data = '{file}'\n")
    (spec, _) = select(cfg)
    assert spec.registration.tpm == "v2.0"
    assert base64.b64decode(spec.registration.uefi_data or "") in (held, b"AMZNUEFI" * 9)
    assert "QU1a" not in repr(spec)


@pytest.mark.parametrize("size", [0, 48001])
def test_uefi_variables_of_another_size_are_refused(text: Texts, problems: Problems, tmp_path: Path, size: int) -> None:
    file = tmp_path / "vars"
    file.write_bytes(b"\xff" * size)
    found = problems(text(DISK, end=f"[builds.registration]\nboot_mode = 'uefi'\nuefi_data = '{file}'\n"))
    assert "expected 1 to 64000 characters of Base64" in found[0]


def test_what_is_encrypted_is_never_shared_with_everybody() -> None:
    assert rules.sharing_fault(encrypted=True, everybody=True)
    assert rules.sharing_fault(encrypted=True, everybody=False) is None
    assert rules.sharing_fault(encrypted=False, everybody=True) is None
