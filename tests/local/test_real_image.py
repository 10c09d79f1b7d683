"""A real root file system goes through the whole tool: the same tree comes out, and it boots."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebspub.demo.trees import differences
from ebspub.demo.verify import tree_of
from tests.local.publisher import Publisher
from tests.local.real import publish_debian
from tests.support.images import real_image
from tests.support.qemu import boot_to_login

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first run makes a Debian with debootstrap; the boot is emulated
    pytest.mark.needs_loop,
    pytest.mark.needs_tool("debootstrap", "qemu-system-x86_64"),
]


def test_debian_is_published_entry_by_entry_and_boots_to_its_login_prompt(publisher: Publisher, tmp_path: Path) -> None:
    real = real_image()
    done = publish_debian(publisher, tmp_path / "mirror")

    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = publisher.status()
    published = publisher.cloud.snapshot_path(job["snapshot_id"])
    tree = tree_of(real.image)
    assert len(tree) > 5000
    assert differences(tree, tree_of(published)) == []
    log = boot_to_login(published, real.kernel, real.initrd)
    assert "login:" in log
