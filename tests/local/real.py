"""Lets a publisher publish the real Debian of the tests, from a signed mirror of its own."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

from ebspub.demo.image import serve, write_sums
from ebspub.demo.signing import KEYRING, sign_sums
from tests.local.publisher import Publisher
from tests.support.images import real_image


def publish_debian(publisher: Publisher, mirror: Path, *replacements: tuple[str, str]) -> CompletedProcess[str]:
    """Run the publisher in one region, with these replacements in its configuration; ``mirror``: an absent folder."""
    mirror.mkdir()
    tarball = mirror / "lucid-server-uec-amd64.tar.gz"
    tarball.symlink_to(real_image().tarball)
    write_sums(mirror, [tarball])
    keyring = sign_sums(mirror)
    with serve(mirror) as url:

        def edit(text: str) -> str:
            for old, new in (
                (f"{publisher.url}/lucid/20101020", url),
                ("size = 1", "size = 2"),
                (str(publisher.images / KEYRING), str(keyring)),
                *replacements,
            ):
                assert old in text
                text = text.replace(old, new)
            return text

        publisher.configure("us-east-1", edit=edit)
        return publisher.call("run", "--arch", "amd64", timeout=600)
