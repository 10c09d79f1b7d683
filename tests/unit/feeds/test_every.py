"""All feeds together: golden files, identical bytes of an unchanged catalogue, and a folder that is published to."""

from __future__ import annotations

import json
import posixpath
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ebspub.demo.signing import Signer, signer
from ebspub.feeds import changes, every, locator, query
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import LIST, in_order, read, write
from ebspub.feeds.signing import Key
from tests.unit.feeds import readers
from tests.unit.feeds.facts import image, lucid, many

GOLDEN = Path(__file__).parent / "golden"
#: Every format, with what makes a difference in it: two streams, two partitions, a desktop, a kernel and none.
CATALOG = Catalog.of(
    [
        *[each for each in lucid() if each.arch == "amd64"],
        image(snapshot="snap-0123456789abcdef0", name="ubuntu/images/hvm-ssd-gp3/x", boot_mode="uefi-preferred"),
        image(region="cn-north-1", ami="ami-2", arch="arm64", released=1714003600.0),
        image(build="desktop", ami="ami-3"),
        image(label="daily", serial="20240501", ami="ami-4", released=1714600000.0),
        image(label="beta2", suite="oracular", version="24.10", serial="20240901.2", ami="ami-5"),
    ]
)
OPTIONS = every.Options(columns=query.LUCID_ERA, origin="images.example.com", url="https://images.example.com")


def golden() -> dict[str, bytes]:
    """Return what is compared: all but the page's own files, which are resources and not rendered."""
    rendered = every.render(CATALOG, OPTIONS)
    return {path: content for path, content in rendered.items() if not path.endswith((".html", ".css", "locator.js"))}


def test_the_golden_files_come_out_byte_for_byte() -> None:
    """``python -m tests.unit.feeds.test_every`` writes them anew: look at the difference before you commit it."""
    assert golden() == read(GOLDEN / "every", lambda _path: True)


def test_an_unchanged_catalogue_gives_identical_bytes_in_whatever_order_it_comes() -> None:
    images = [*lucid(), *many(500)]
    first = every.render(Catalog.of(images))
    random.Random(2).shuffle(images)
    assert every.render(Catalog.of(images)) == first


def test_a_hundred_thousand_images_take_less_than_five_seconds_of_the_processor() -> None:
    catalog = Catalog.of(many(100_000))
    begin = time.process_time()  # whatever else the machine does
    rendered = every.render(catalog)
    assert time.process_time() - begin < 5.0
    assert rendered.keys() == every.render(Catalog.of(many(2))).keys()
    assert rendered["images.csv"].count(b"\n") == rendered["images.json"].count(b'"ami":') + 1 == 100_001


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as found:
        found.make_key()
        yield found


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_folder_that_is_published_to_twice_is_not_touched_the_second_time(key: Signer, tmp_path: Path) -> None:
    ours = Key(key.fingerprint, key.home)
    theirs = tmp_path / "query/hardy/server/released.current.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(query.row(image(suite="hardy", ami="ami-9")) + b"\n")
    first = every.publish(tmp_path, lambda: CATALOG, OPTIONS, ours)
    assert first.written[-2:] == ("streams/v1/index.sjson", "locator/ec2/index.html")
    again = every.publish(tmp_path, lambda: CATALOG, OPTIONS, ours)
    assert (again.written, again.removed) == ((), ())
    assert theirs.read_bytes() == query.row(image(suite="hardy", ami="ami-9")) + b"\n"
    assert b"ami-9" in (tmp_path / "images.json").read_bytes()


def test_what_others_left_there_stops_nothing_and_stays(tmp_path: Path) -> None:
    # Rows of an older publisher's in another encoding, and what rsync keeps while it is at it.
    latin = query.row(image(suite="hardy", ami="ami-9")) + b"\xe9\n"
    rows, begun = (tmp_path / f"query/{name}/server/released.txt" for name in ("hardy", ".~tmp~"))
    for file in (rows, begun):
        file.parent.mkdir(parents=True)
        file.write_bytes(latin)
    in_between = tmp_path / "query/noble/.cache/released.current.txt"
    in_between.parent.mkdir(parents=True)
    in_between.write_bytes(query.row(image(ami="ami-8")) + b"\n")
    every.publish(tmp_path, lambda: CATALOG)
    assert every.publish(tmp_path, lambda: CATALOG).written == ()
    assert every.stale(tmp_path, CATALOG) == []
    assert rows.read_bytes() == begun.read_bytes() == latin
    found = (tmp_path / "images.json").read_bytes()
    assert b"ami-4b4ba522" in found
    assert not any(ami in found for ami in (b"ami-8", b"ami-9"))


@pytest.mark.needs_tool("gpg", "gpgv")
def test_the_signatures_of_what_is_not_rendered_any_more_are_stale_and_go(key: Signer, tmp_path: Path) -> None:
    ours, less = Key(key.fingerprint, key.home), every.Options(formats=("plain",))
    every.publish(tmp_path, lambda: CATALOG, None, ours)
    assert every.stale(tmp_path, CATALOG, None, ours) == []
    told = every.stale(tmp_path, CATALOG, less, ours)
    assert {"streams/v1/index.json.gpg", "streams/v1/index.sjson"} <= set(told)
    done = every.publish(tmp_path, lambda: CATALOG, less, ours)
    assert sorted([*done.written, *done.removed]) == told
    assert sorted(read(tmp_path, lambda path: not path.startswith("."))) == ["images.csv", "images.json"]


def test_without_a_list_too_much_stays_and_no_row_of_others_is_lost(tmp_path: Path) -> None:
    theirs = {f"query/{path}": b"" for path in ("daily.latest.txt", "noble/server/daily.txt")}
    write({**theirs, "query/hardy/server/released.txt": query.row(image(suite="hardy", ami="ami-9")) + b"\n"}, tmp_path)
    (tmp_path / LIST).unlink()
    before = read(tmp_path, query.is_query)
    every.publish(tmp_path, lambda: CATALOG)
    (tmp_path / LIST).unlink()
    every.publish(tmp_path, lambda: CATALOG, every.Options(formats=("plain",)))
    left = read(tmp_path, query.is_query)
    assert {path: content for path, content in left.items() if content or path in before} == before
    assert (tmp_path / "streams/v1/index.json").exists()


def test_what_is_withdrawn_is_in_no_file_any_more(tmp_path: Path) -> None:
    bad = image(serial="20240601", ami="ami-0bad0bad")
    every.publish(tmp_path, lambda: Catalog.of([*CATALOG.images, bad]))
    assert any(b"ami-0bad0bad" in content for content in read(tmp_path, lambda _path: True).values())
    every.publish(tmp_path, lambda: CATALOG.withdraw([bad]))
    assert not any(b"ami-0bad0bad" in content for content in read(tmp_path, lambda _path: True).values())
    every.publish(tmp_path, lambda: Catalog.of([]).withdraw(CATALOG.images))
    assert not any(b"ami-4b4ba522" in content for content in read(tmp_path, lambda _path: True).values())


LINK = re.compile(r'(?:href|src)="([^"#:]+|https://images.example.com/[^"]+)"')


@pytest.mark.parametrize(
    "formats", [[*every.RENDERERS], *([name for name in every.RENDERERS if name != left] for left in every.RENDERERS)]
)
def test_what_is_linked_is_written(formats: list[str]) -> None:
    rendering = every.render(CATALOG, replace(OPTIONS, formats=tuple(formats)))
    for page in {locator.PAGE, changes.PATH} & rendering.keys():
        links = [each.removeprefix(OPTIONS.url) for each in LINK.findall(rendering[page].decode())]
        assert len(links) > (4 if page == locator.PAGE else 0)
        targets = {posixpath.normpath(posixpath.join("/", posixpath.dirname(page), link)).lstrip("/") for link in links}
        assert targets <= rendering.keys()
    assert {"../../images.json", "../../changes.atom"} <= set(
        LINK.findall(every.render(CATALOG)[locator.PAGE].decode())
    )


def test_every_index_is_written_after_what_it_names() -> None:
    order = in_order(every.render(CATALOG))
    assert order.index("streams/v1/index.json") > order.index("streams/v1/com.ubuntu.cloud:daily:aws.json")
    assert order.index("query/released.latest.txt") > order.index("query/noble/server/released.current.txt")
    assert order.index("locator/ec2/index.html") > order.index("locator/ec2/releases.js")


class Dying:
    """Dies at a point, by its number, of those that a publish reaches."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, _point: str) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1


def led_to(folder: Path) -> None:
    """Go where the indexes lead: what they name is there, and is what they say."""
    for stream in ("released", "daily"):
        latest = folder / f"query/{stream}.latest.txt"
        for line in latest.read_text().splitlines() if latest.exists() else ():
            suite, build, _, serial = line.split("\t")
            rows = readers.strict((folder / f"query/{suite}/{build}/{stream}.txt").read_text())
            assert serial in {row["serial"] for row in rows}
    index = folder / "streams/v1/index.json"
    for entry in json.loads(index.read_bytes())["index"].values() if index.exists() else ():
        assert set(entry["products"]) <= json.loads((folder / entry["path"]).read_bytes())["products"].keys()


def test_one_that_dies_anywhere_leaves_indexes_that_lead_somewhere_and_the_next_ends_it(tmp_path: Path) -> None:
    before = Catalog.of([image(serial="20240101", ami="ami-old"), image(label="daily", ami="ami-4", serial="20240102")])
    after = Catalog.of([*before.images, *CATALOG.images[:6]])
    every.publish(tmp_path / "right", lambda: after)
    right = read(tmp_path / "right", lambda _path: True)
    for number in range(100):
        folder = tmp_path / str(number)
        every.publish(folder, lambda: before)
        try:
            every.publish(folder, lambda: after, reach=Dying(number))
            break
        except KeyboardInterrupt:
            led_to(folder)
        every.publish(folder, lambda: after)
        assert read(folder, lambda _path: True) == right
    assert number > 10


if __name__ == "__main__":
    for path, content in golden().items():
        (GOLDEN / "every" / path).parent.mkdir(parents=True, exist_ok=True)
        (GOLDEN / "every" / path).write_bytes(content)
    sys.exit(0)
