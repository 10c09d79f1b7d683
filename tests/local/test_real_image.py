"""A real root file system goes through the whole tool: the same tree comes out, and it boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebspub.demo.image import serve, write_sums
from ebspub.demo.signing import KEYRING, sign_sums
from ebspub.demo.trees import differences
from ebspub.demo.verify import tree_of
from tests.local.publisher import Publisher
from tests.support.images import real_image
from tests.support.qemu import boot_to_login

pytestmark = [
    pytest.mark.timeout(1200),  # the first run makes a Debian with debootstrap; the boot is emulated
    pytest.mark.needs_loop,
    pytest.mark.needs_tool("debootstrap", "qemu-system-x86_64"),
]


def test_debian_is_published_entry_by_entry_and_boots_to_its_login_prompt(publisher: Publisher, tmp_path: Path) -> None:
    real = real_image()
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    tarball = mirror / "lucid-server-uec-amd64.tar.gz"
    tarball.symlink_to(real.tarball)
    write_sums(mirror, [tarball])
    keyring = sign_sums(mirror)
    with serve(mirror) as url:
        publisher.configure(
            "us-east-1",
            edit=lambda text: (
                text.replace(f"{publisher.url}/lucid/20101020", url)
                .replace("size = 1", "size = 2")
                .replace(str(publisher.images / KEYRING), str(keyring))
            ),
        )

        done = publisher.call("run", "--arch", "amd64", timeout=600)

    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = publisher.status()
    published = publisher.cloud.snapshot_path(job["snapshot_id"])
    tree = tree_of(real.image)
    assert len(tree) > 5000
    assert differences(tree, tree_of(published)) == []
    log = boot_to_login(published, real.kernel, real.initrd)
    assert "login:" in log
