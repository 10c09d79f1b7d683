"""Query data: byte for byte what Ubuntu's was, read by independent readers, and merged with what others wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebspub.config.model import VolumeType
from ebspub.feeds import query, streams
from ebspub.feeds.catalog import ROOT_STORE, Catalog, Download, Image, serial_key
from tests.properties.examples import examples
from tests.unit.feeds import readers
from tests.unit.feeds.facts import image, lucid

REAL = (Path(__file__).parent / "golden/lucid.released.current.txt").read_bytes()
CURRENT = "query/lucid/server/released.current.txt"
WHOLE = "query/lucid/server/released.txt"
LATEST = "query/released.latest.txt"
VERSIONS = {"lucid": "10.04"}


def test_the_real_file_of_lucid_comes_out_byte_for_byte() -> None:
    rendered = query.render(Catalog.of(lucid()), query.LUCID_ERA)
    assert rendered[CURRENT] == REAL
    assert rendered[WHOLE] == REAL
    assert rendered[LATEST] == b"lucid\tserver\trelease\t20100427.1\n"
    assert sorted(rendered) == [CURRENT, WHOLE, LATEST]


def test_without_the_mode_rows_have_eleven_columns_with_the_virtualization_last() -> None:
    text = query.render(Catalog.of(lucid()))[CURRENT].decode()
    assert [row["virt"] for row in readers.strict(text)] == ["paravirtual"] * 16
    assert text.replace("\tparavirtual\n", "\n").encode() == REAL


def test_our_ebs_rows_come_among_the_instance_store_rows_of_the_older_publisher() -> None:
    ours = [each for each in lucid() if each.root_store == "ebs"]
    theirs = b"".join(line for line in REAL.splitlines(keepends=True) if b"instance-store" in line)
    catalog = query.keep(Catalog.of(ours), {CURRENT: theirs}, VERSIONS)
    # Ten columns, for the rows that are there have ten.
    assert query.render(catalog)[CURRENT] == REAL
    assert {each.root_store for each in catalog.others} == {"instance-store"}
    assert {each.version for each in catalog.others} == {"10.04"}


def test_what_was_written_before_is_recognized_and_not_written_twice() -> None:
    first = query.render(Catalog.of(lucid()))
    again = query.keep(Catalog.of(lucid()), first, VERSIONS)
    assert again.others == ()
    assert query.render(again) == first


@pytest.mark.parametrize(
    ("field", "value"), [("aki", ""), ("ari", ""), ("virt", "hvm"), ("root_store", "ebs-ssd"), ("serial", "20240423")]
)
def test_an_absent_kernel_is_an_empty_field(field: str, value: str) -> None:
    text = query.render(Catalog.of([image()]))["query/noble/server/released.current.txt"].decode()
    (row,) = readers.strict(text)
    assert row[field] == value
    assert "None" not in text
    assert text.endswith("\n")
    assert "\r" not in text


@pytest.mark.parametrize("volume_type", get_args(VolumeType))
def test_the_root_store_of_every_volume_type_is_a_word_that_readers_know(volume_type: str) -> None:
    assert ROOT_STORE[volume_type] in {"ebs", "ebs-ssd", "ebs-io1"}
    key = streams.item_key(image(root_store=ROOT_STORE[volume_type]))
    assert key in {"usee1he", "usee1hs", "usee1ho"}


def test_readers_in_the_wild_find_their_rows() -> None:
    text = query.render(Catalog.of(lucid()))[CURRENT].decode()
    assert readers.juju(text, "us-east-1", "amd64") == [("ami-4b4ba522", "paravirtual")]
    (row,) = readers.awk(text, c5="ebs", c6="i386", c7="eu-west-1")
    assert row[7] == "ami-a94d67dd"


def test_every_serial_is_there_oldest_first_and_current_has_the_newest_only() -> None:
    serials = ["20240423", "20240423.10", "20240423.9", "20231201"]
    images = [image(serial=serial, ami=f"ami-{number:017x}") for number, serial in enumerate(serials)]
    rendered = query.render(Catalog.of(images))
    whole = readers.strict(rendered["query/noble/server/released.txt"].decode())
    assert [row["serial"] for row in whole] == ["20231201", "20240423", "20240423.9", "20240423.10"]
    current = readers.strict(rendered["query/noble/server/released.current.txt"].decode())
    assert [row["serial"] for row in current] == ["20240423.10"]


def test_dailies_and_milestones_lie_where_ubuntu_has_them() -> None:
    images = [
        image(label="daily", serial="20240101", ami="ami-1"),
        image(label="beta2", serial="20240102", ami="ami-2"),
        image(build="desktop", serial="20240103", ami="ami-3"),
    ]
    files = [Download("noble", "server", "daily", "20240101", "amd64", "server/noble/x.img", "ubuntu-noble-daily")]
    rendered = query.render(Catalog.of(images, files))
    assert sorted(rendered) == [
        "query/daily.latest.txt",
        "query/noble/desktop/released.current.txt",
        "query/noble/desktop/released.txt",
        "query/noble/server/daily-dl.current.txt",
        "query/noble/server/daily-dl.txt",
        "query/noble/server/daily.current.txt",
        "query/noble/server/daily.txt",
        "query/noble/server/released.current.txt",
        "query/noble/server/released.txt",
        "query/released.latest.txt",
    ]
    assert rendered["query/released.latest.txt"] == (
        b"noble\tdesktop\trelease\t20240103\nnoble\tserver\tbeta2\t20240102\n"
    )
    line = b"noble\tserver\tdaily\t20240101\tamd64\tserver/noble/x.img\tubuntu-noble-daily\n"
    assert rendered["query/noble/server/daily-dl.txt"] == rendered["query/noble/server/daily-dl.current.txt"] == line


def test_a_daily_that_is_promoted_moves_from_one_file_to_the_other() -> None:
    daily = image(label="daily")
    written = query.render(Catalog.of([daily]))
    rendered = query.render(query.keep(Catalog.of([replace(daily, label="release")]), written, {}))
    assert sorted(path for path, content in rendered.items() if content) == [
        "query/noble/server/released.current.txt",
        "query/noble/server/released.txt",
        "query/released.latest.txt",
    ]


def test_a_build_that_is_withdrawn_is_named_nowhere_and_the_one_before_is_the_newest_again() -> None:
    old, bad = image(serial="20240401", ami="ami-1"), image(serial="20240402", ami="ami-2")
    written = query.render(Catalog.of([old, bad]))
    assert b"20240402" in written["query/released.latest.txt"]
    rendered = query.render(query.keep(Catalog.of([old]).withdraw([bad]), written, {}))
    assert rendered == query.render(Catalog.of([old]))


def test_the_artefact_of_a_withdrawn_build_goes_and_those_of_others_stay() -> None:
    good, bad = image(serial="20240401", ami="ami-1"), image(serial="20240402", ami="ami-2")
    files = [
        Download("noble", "server", "release", each.serial, "amd64", f"{each.serial}.img", "x") for each in (good, bad)
    ]
    path = "query/noble/server/released-dl.txt"
    # Of a build of ours, too: who builds images may tell of them, and we began with a file of our own machine.
    theirs = b"noble\tserver\trelease\t20240402\tarm64\ttheirs.img\ty\n"
    written = query.render(query.keep(Catalog.of([good, bad], files), {path: theirs}, {}))
    assert written[path].splitlines() == [
        b"noble\tserver\trelease\t20240401\tamd64\t20240401.img\tx",
        b"noble\tserver\trelease\t20240402\tamd64\t20240402.img\tx",
        theirs.rstrip(),
    ]
    rendered = query.render(query.keep(Catalog.of([good, bad], files).withdraw([bad]), written, {}))
    assert rendered[path].splitlines() == [written[path].splitlines()[0], theirs.rstrip()]
    # Without ours of that serial theirs is the newest still.
    assert rendered["query/noble/server/released-dl.current.txt"] == theirs


def test_a_withdrawal_that_died_before_the_list_of_newest_serials_is_ended() -> None:
    bad = image(serial="20240402")
    theirs = b"noble\tserver\trelease\t20230101\tebs\tamd64\tus-east-1\tami-9\t\t\tparavirtual\n"
    half = {
        "query/noble/server/released.txt": theirs,
        "query/noble/server/released.current.txt": theirs,
        "query/released.latest.txt": b"noble\tserver\trelease\t20240402\n",
    }
    rendered = query.render(query.keep(Catalog.of([]).withdraw([bad]), half, {}))
    assert rendered == {**half, "query/released.latest.txt": b"noble\tserver\trelease\t20230101\n"}


def test_a_row_of_another_ami_that_stands_where_ours_belongs_is_replaced() -> None:
    theirs = query.row(image(ami="ami-old")) + b"\n"
    catalog = query.keep(Catalog.of([image(ami="ami-new")]), {"query/noble/server/released.txt": theirs}, {})
    assert query.render(catalog)["query/noble/server/released.txt"] == query.row(image(ami="ami-new")) + b"\n"


def test_rows_that_only_the_current_file_had_become_history() -> None:
    ours = image(suite="lucid", serial="20101020", virtualization="paravirtual")
    rendered = query.render(query.keep(Catalog.of([ours]), {CURRENT: REAL}, VERSIONS))
    assert rendered[WHOLE] == REAL + query.row(ours, 10) + b"\n"
    assert rendered[CURRENT] == query.row(ours, 10) + b"\n"


def test_files_of_other_suites_are_given_back_as_they_are() -> None:
    theirs = {
        "query/hardy/server/released.current.txt": b"garbage \xff\r\nwithout an end",
        "query/daily.latest.txt": b"hardy\tserver\tdaily\t20120403",
        "query/karmic/server/daily.current.txt": REAL.replace(b"lucid", b"karmic"),
    }
    rendered = query.render(query.keep(Catalog.of(lucid()), theirs, VERSIONS))
    assert {path: rendered[path] for path in theirs} == theirs


def test_a_newer_serial_of_others_stays_the_newest() -> None:
    theirs = b"lucid\tserver\trelease\t20120403\nzesty\tserver\trelease\t20180105\n"
    rendered = query.render(query.keep(Catalog.of(lucid()), {LATEST: theirs}, VERSIONS))
    assert rendered[LATEST] == theirs


def test_where_nothing_of_ours_is_even_what_does_not_fit_together_stays() -> None:
    theirs = {CURRENT: REAL, LATEST: b"lucid\tserver\trelease\t20090101\n"}
    for catalog in (Catalog.of([image(suite="lucid", label="daily")]), Catalog.of([]).withdraw([image(suite="lucid")])):
        rendered = query.render(query.keep(catalog, theirs, VERSIONS))
        assert {path: rendered[path] for path in theirs} == theirs
        assert WHOLE not in rendered


def test_a_row_of_others_that_is_out_of_order_moves_nothing_else() -> None:
    theirs = [image(serial=serial, ami=f"ami-{serial}") for serial in ("20240101", "20240301", "20240102", "20240302")]
    content = b"".join(query.row(each) + b"\n" for each in theirs)
    path = "query/noble/server/released.txt"
    rendered = query.render(query.keep(Catalog.of([image(serial="20240201")]), {path: content}, {}))[path]
    serials = [row["serial"] for row in readers.strict(rendered.decode())]
    assert serials == ["20240101", "20240201", "20240301", "20240102", "20240302"]
    assert query.render(query.keep(Catalog.of([image(serial="20240303")]), {path: content}, {}))[path] == (
        content + query.row(image(serial="20240303")) + b"\n"
    )
    late = image(serial="20240301", region="us-west-2")
    rendered = query.render(query.keep(Catalog.of([late]), {path: content}, {}))[path]
    assert rendered.split(b"\n")[3] == query.row(late)


def test_what_would_not_be_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="no row"):
        query.render(Catalog.of([image(aki="aki-1\tx")]))


# Laws -----------------------------------------------------------------------------------------------------------------

REGIONS = st.sampled_from(["eu-west-1", "us-east-1", "us-west-2"])
SERIALS = st.sampled_from(["20100101", "20100101.2", "20100101.10", "20100427.1", "20101020"])
STORES = st.sampled_from(["ebs", "instance-store"])
AMIS = st.integers(0, 40).map(lambda number: f"ami-{number:08x}")


@st.composite
def images(draw: st.DrawFn) -> Image:
    return image(
        suite="lucid",
        serial=draw(SERIALS),
        region=draw(REGIONS),
        root_store=draw(STORES),
        ami=draw(AMIS),
        label=draw(st.sampled_from(["release", "beta2"])),
        virtualization="paravirtual",
    )


def once(found: list[Image]) -> list[Image]:
    """Drop what EC2 and the database keep from being: two AMIs of one id in a region, or of one build there."""
    return list({each.place: each for each in {each.key: each for each in found}.values()}.values())


ROWS = st.one_of(images().map(query.row), st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")))
FILES = st.builds(
    lambda rows, end: b"\n".join(rows) + end, st.lists(ROWS, max_size=12), st.sampled_from([b"", b"\n", b"\n\n"])
)
OURS = st.lists(images(), max_size=6).map(once)


def lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1] if content.endswith(b"\n") else content.split(b"\n") if content else []


@examples(60)
@given(theirs=FILES, ours=OURS)
@example(theirs=b"\n", ours=[])
@example(theirs=REAL[:-1], ours=[])
def test_rows_of_others_stay_byte_for_byte_in_their_order(theirs: bytes, ours: list[Image]) -> None:
    places, keys = {each.place for each in ours}, {each.key for each in ours}
    rendered = query.render(query.keep(Catalog.of(ours), {WHOLE: theirs}, VERSIONS)).get(WHOLE, b"")
    mine = {query.row(each) for each in ours}

    def foreign(line: bytes) -> bool:
        found = query.parse(line)
        return found is None or (found.place not in places and found.key not in keys)

    assert [line for line in lines(rendered) if line not in mine] == [line for line in lines(theirs) if foreign(line)]
    assert {line for line in lines(rendered) if line in mine} == mine


@examples(60)
@given(whole=FILES, current=FILES, latest=FILES, ours=OURS)
def test_what_is_rendered_again_is_the_same(whole: bytes, current: bytes, latest: bytes, ours: list[Image]) -> None:
    first = query.render(query.keep(Catalog.of(ours), {WHOLE: whole, CURRENT: current, LATEST: latest}, VERSIONS))
    assert query.render(query.keep(Catalog.of(ours), first, VERSIONS)) == first


@examples(60)
@given(theirs=st.lists(images(), max_size=10).map(once), ours=OURS)
def test_of_sorted_files_everything_stays_sorted(theirs: list[Image], ours: list[Image]) -> None:
    content = query.render(Catalog.of(theirs)).get(WHOLE, b"")
    rendered = query.render(query.keep(Catalog.of(ours), {WHOLE: content}, VERSIONS)).get(WHOLE, b"")
    rows = [found for line in lines(rendered) if (found := query.parse(line)) is not None]
    assert [each.key for each in rows] == [each.key for each in Catalog.of(rows).images]


@examples(60)
@given(theirs=st.lists(images(), max_size=8).map(once), ours=OURS)
def test_the_current_file_has_all_of_the_newest_serial_and_nothing_else(theirs: list[Image], ours: list[Image]) -> None:
    kept = {path: content for path, content in query.render(Catalog.of(theirs)).items() if path in (WHOLE, CURRENT)}
    rendered = query.render(query.keep(Catalog.of(ours), kept, VERSIONS))
    whole = [found for line in lines(rendered.get(WHOLE, b"")) if (found := query.parse(line)) is not None]
    last = max((serial_key(each.serial) for each in whole), default=None)
    expected = [query.row(each) for each in whole if serial_key(each.serial) == last]
    assert lines(rendered.get(CURRENT, b"")) == expected


@examples(60)
@given(theirs=FILES, ours=OURS)
def test_all_of_ours_withdrawn_leaves_what_was_there_before(theirs: bytes, ours: list[Image]) -> None:
    places, keys = {each.place for each in ours}, {each.key for each in ours}

    def foreign(line: bytes) -> bool:
        found = query.parse(line)
        return found is None or (found.place not in places and found.key not in keys)

    clean = b"".join(line + b"\n" for line in lines(theirs) if foreign(line))
    written = query.render(query.keep(Catalog.of(ours), {WHOLE: clean}, VERSIONS))
    rendered = query.render(query.keep(Catalog.of([]).withdraw(ours), written, VERSIONS))
    assert rendered.get(WHOLE, b"") == clean
