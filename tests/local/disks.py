"""Lets a publisher publish one artefact by a method that the demonstration does not use."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tests.local.publisher import Publisher


def configure(
    publisher: Publisher, artefact: Path, url: str, method: str = "disk", *, build: str = "", size: int = 1
) -> None:
    """Let the publisher publish ``artefact``, which is below ``url``, in one region; ``build``: its name."""
    with artefact.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def edit(text: str) -> str:
        text, _, _ = text.partition("[builds.source]")
        text = text.replace('virtualization = "paravirtual"', 'virtualization = "hvm"').replace(
            "size = 1", f"size = {size}"
        )
        text = re.sub(r"arches = .*", f'arches = ["amd64"]\nmethod = "{method}"', text)
        if build:
            text = re.sub(r'build = ".*"', f'build = "{build}"', text)
        return f'{text}[builds.source]\nurl = "{url}/{artefact.name}"\nsha256 = "{sha256}"\n'

    publisher.configure("us-east-1", edit=edit)
