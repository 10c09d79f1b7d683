"""Show that what was published is what the source says: every entry of every tree."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebspub.demo.trees import ImageError, Tree, differences, from_ext, mounted, snapshot
from ebspub.localcloud import Cloud


def source_tree(images: Path, suite: str, arch: str, scratch: Path) -> Tree:
    """Return the tree of the image inside an arch's tarball. ``scratch`` is a folder with room for it."""
    tarball = images / f"{suite}-server-uec-{arch}.tar.gz"
    member = f"{suite}-server-uec-{arch}.img"
    with tarfile.open(tarball) as archive:
        names = [name for name in archive.getnames() if Path(name).name == member]
    if len(names) != 1:
        raise ImageError(f"{tarball} does not hold one {member}")
    # tar itself writes the holes of a sparse member as holes.
    subprocess.run(["tar", "-xzf", str(tarball), "-C", str(scratch), "--", names[0]], check=True)
    image = scratch / names[0]
    try:
        return tree_of(image)
    finally:
        image.unlink()


def tree_of(image: Path) -> Tree:
    """Return the tree of a file-system image: mounted as root, read by debugfs otherwise."""
    if os.geteuid() != 0:
        return from_ext(image)
    with mounted(image) as folder:
        return snapshot(folder)


def compare(jobs: Sequence[Mapping[str, Any]], sources: Mapping[str, Tree], cloud: Cloud) -> dict[str, list[str]]:
    """Return, for each job's id, how its published snapshot differs from its arch's source; empty lists are equal."""
    found = {}
    for job in jobs:
        published = tree_of(cloud.snapshot_path(job["snapshot_id"]))
        found[job["id"]] = differences(sources[job["arch"]], published)
    return found
