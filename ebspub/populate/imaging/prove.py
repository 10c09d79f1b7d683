"""What is on the volume against what came in, and the partition table of the image made that of the volume."""

from __future__ import annotations

import json

from ebspub.populate.imaging import table
from ebspub.populate.imaging.notes import Progress, facts, load, save
from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.volume import BLOCK, Volume, digest


def prove(device: str) -> None:
    """Read back what was written, compare; then move the GPT's backup and say what of the disk can grow."""
    poured = json.loads(load("poured"))
    volume = Volume(device)
    _compare(volume, {int(index): bytes.fromhex(each) for index, each in poured["blocks"].items()})
    facts(bytes=poured["bytes"], image_size=poured["size"], size=volume.size)
    save("reach", str(volume.size))  # from here on, anything may be written anywhere
    moved = table.relocate(volume, poured["size"])
    found = table.layout(volume)
    facts(table=found.table, moved="yes" if moved else "no")
    room = "yes" if found.room else "no"
    save("layout", f"{found.table} {found.number} {found.start} {found.sectors} {room}\n")


def _compare(volume: Volume, wanted: dict[int, bytes]) -> None:
    progress = Progress()
    progress.total = len(wanted) * BLOCK
    volume.flush()
    found = volume.digests(sorted(wanted), progress.count)
    if found != wanted:
        wrong = sorted(index for index in wanted if found.get(index) != wanted[index])
        raise Refusal("verify", f"{len(wrong)} blocks are not what was written, the first at byte {wrong[0] * BLOCK}")
    facts(digest=digest(found), blocks=len(found))
