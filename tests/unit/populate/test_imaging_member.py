"""The image in an archive, as the builder's program takes it out: the one, and never more than there may be."""

from __future__ import annotations

import io
import tarfile

import pytest

from ebspub.populate.imaging.refusal import Refusal
from ebspub.populate.imaging.streams import Member, Stream

KIB = 1 << 10
IMAGE = b"disk" * KIB
#: What an archive of the image and something small has: two headers, and zeros up to a whole record.
RECORD = 10 * KIB


class Source:
    """Bytes in order, which remember how many were taken."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def readinto(self, view: memoryview) -> int:
        return self._file.readinto(view)

    @property
    def taken(self) -> int:
        return self._file.tell()


def archive(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def image(source: Source, most: int) -> bytes:
    member = Member(Stream(source), most)
    found = b""
    piece = memoryview(bytearray(64 * KIB))
    while count := member.readinto(piece):
        found += piece[:count]
    return found


def test_the_one_image_is_taken_and_the_archive_read_to_its_end() -> None:
    source = Source(archive(notes=b"x", disk_img=IMAGE, kernel=b"y"))
    assert image(source, RECORD) == IMAGE
    assert source.taken == RECORD


@pytest.mark.parametrize("before", [True, False], ids=["before the image", "behind the image"])
def test_an_archive_that_unpacks_to_more_than_there_may_be_is_not_read_to_its_end(before: bool) -> None:
    members = {"disk_img": IMAGE, "bomb": bytes(3 * KIB * KIB)}
    source = Source(archive(**(dict(reversed(members.items())) if before else members)))
    with pytest.raises(Refusal, match=f"the archive unpacks to more than {KIB * KIB} bytes") as refusal:
        image(source, KIB * KIB)
    assert refusal.value.code == "too-large"
    assert source.taken <= 2 * KIB * KIB


def test_two_images_are_refused() -> None:
    with pytest.raises(Refusal, match="more than one image"):
        image(Source(archive(a_img=IMAGE, b_img=IMAGE)), KIB * KIB)
