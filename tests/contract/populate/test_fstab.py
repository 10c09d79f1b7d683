"""`fstab.sh`: what an image's own /etc/fstab says, and what becomes of it on a volume with partitions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PREAMBLE = """
set -u
fail() { echo "failed: $2"; exit 1; }
changed() { echo "changed $1"; }
fs_uuid=11111111-2222-3333-4444-555555555555 fs_label=cloudimg-rootfs fs_type=ext4 loaders='bios uefi'
root_partuuid=99999999-2222-8333-8444-555555555555
derive_id() { echo d532a2a0-0000-8000-8000-000000000000; }
mkdir -p source/etc target/etc
[ ! -e fstab ] || { cp fstab source/etc/; cp fstab target/etc/; }
"""


def mend(folder: Path, text: str | None) -> tuple[list[str], str]:
    """Return what the shell says, and the fstab that it leaves."""
    if text is not None:
        (folder / "fstab").write_text(text)
    part = Path(__file__).parents[3] / "ebspub/populate/fstab.sh"
    script = f"{PREAMBLE}\n. {part}\nfstab_check\nname_esp\nmend_fstab\necho esp $esp_label $esp_serial"
    told = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert not told.stderr
    return told.stdout.splitlines(), (folder / "target/etc/fstab").read_text()


EFI = "UUID=D532-A2A0 /boot/efi vfat umask=0077,nofail 0 1\n"
OURS = "UUID=11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("LABEL=cloudimg-rootfs / ext4 defaults 0 1\n", "LABEL=cloudimg-rootfs / ext4 defaults 0 1\n" + EFI),
        ('LABEL="cloudimg-rootfs" / ext4 x 0 1\n', 'LABEL="cloudimg-rootfs" / ext4 x 0 1\n' + EFI),
        (f"{OURS} / ext4 x 0 1\n", f"{OURS} / ext4 x 0 1\n{EFI}"),
        ("#a\n/dev/sda1\t/ ext3  x 0 1\n\n #b\n", f"#a\n{OURS}\t/ ext3  x 0 1\n\n #b\n{EFI}"),
        ("PARTUUID=abc / ext4 x 0 1\nproc /proc proc", f"{OURS} / ext4 x 0 1\nproc /proc proc\n{EFI}"),
        ("/dev/vdb /mnt auto nofail\n", f"/dev/vdb /mnt auto nofail\n{OURS} / ext4 defaults 0 1\n{EFI}"),
        (None, f"{OURS} / ext4 defaults 0 1\n{EFI}"),
        (f"{OURS} / ext4 x\nPARTUUID=e /boot/efi vfat y\n", f"{OURS} / ext4 x\nUUID=D532-A2A0 /boot/efi vfat y\n"),
    ],
)
def test_fstab_names_the_root_and_the_esp_and_keeps_its_other_lines(
    tmp_path: Path, text: str | None, wanted: str
) -> None:
    told, found = mend(tmp_path, text)
    assert found == wanted
    assert told == ["changed etc/fstab", "esp UEFI D532-A2A0"]


@pytest.mark.parametrize(
    ("name", "esp"),
    [("LABEL=SYSTEM", "SYSTEM D532-A2A0"), ("UUID=AB12-CD34", "UEFI AB12-CD34"), ("LABEL=UEFI", "UEFI D532-A2A0")],
)
def test_the_esp_gets_the_name_by_which_fstab_looks_for_it(tmp_path: Path, name: str, esp: str) -> None:
    text = f"LABEL=cloudimg-rootfs / ext4 x\n{name} /boot/efi vfat umask=0077 0 1"
    assert mend(tmp_path, text) == ([f"esp {esp}"], text)


def test_a_partition_that_the_volume_will_not_have_is_told(tmp_path: Path) -> None:
    (tmp_path / "target/etc").mkdir(parents=True)
    told, _ = mend(tmp_path, "LABEL=cloudimg-rootfs / ext4 x\nLABEL=BOOT /boot ext4 defaults 0 2\n")
    assert "LABEL=BOOT at /boot" in told[0]
    told, _ = mend(tmp_path, "LABEL=x / ext4 x\nLABEL=D /data ext4 nofail\nUUID=s none swap sw\n/dev/sdb /b ext4 x\n")
    assert told[-1].startswith("esp")
