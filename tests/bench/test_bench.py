"""The benchmark itself: a tiny image goes through all that it measures, and its figures are what it says they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import feeds, report
from tests.bench.__main__ import main
from tests.bench.artefacts import pages
from tests.bench.meter import Taken, can_pace
from tests.bench.tree import plant

pytestmark = pytest.mark.needs_loop


@pytest.mark.variant  # nothing of the product but its speed depends on it
@pytest.mark.needs_tool("qemu-img", "pigz", "curl", "sfdisk", "mkfs.ext4", "unshare", "nsenter", "setpriv")
def test_a_tiny_image_goes_through_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--rounds", "1", "--size", "48", "--data", "2", "--memory", "0", "--feeds", "0"]
    words += ["--forms", "disk.img.gz"]
    assert main([*words, "--folder", str(tmp_path / "cache"), "--output", str(tmp_path / "bench.rst")]) == 0
    told = json.loads((tmp_path / "bench.json").read_text())
    rows = {(row["method"], row["artefact"]): row for row in told["methods"]}
    filesystem = rows["filesystem", "lucid-server-uec-amd64.tar.gz"]
    disk, direct = rows["disk", "disk.img.gz"], rows["direct", "disk.img.gz"]
    assert set(filesystem["ratios"]) == {"literal", "written"}
    assert set(disk["ratios"]) == {"slowest", "fill", "literal", "written"}
    assert set(direct["ratios"]) == {"slowest"}
    if can_pace():
        paced, late = rows["paced disk", "disk.img.gz"], rows["paced direct", "disk.img.gz"]
        assert set(paced["ratios"]) == {"slowest", "fill", "written"}
        assert set(late["ratios"]) == {"slowest"}
        (raw,), (bare,) = told["rounds"]["paced raw write/qemu-img"], told["rounds"]["paced bare puts"]
        assert raw["seconds"] >= 0.9 * raw["written"] / report.PACE
        assert bare["seconds"] >= report.LATE
        assert "at EC2's pace" in (tmp_path / "bench.rst").read_text()
    # What is on the device is the disk's data, and a little that growing it takes.
    assert 1.0 <= disk["ratios"]["written"]["value"] < 1.5
    rounds = told["rounds"]
    assert all(each["seconds"] > 0 for found in rounds.values() for each in found)
    assert rounds["raw write/copy"][0]["written"] >= rounds["raw write/qemu-img"][0]["written"] > 2_000_000
    assert (tmp_path / "bench.rst").read_text() == capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith("work-")) == []


def rounds_of(**seconds: list[float]) -> report.Rounds:
    rounds = report.Rounds()
    for name, found in seconds.items():
        for each in found:
            rounds.add(
                name.replace("__", "/").replace("_", " "), Taken(each, written=100 if name.startswith("disk") else None)
            )
    return rounds


def test_ratios_are_of_medians_to_the_slowest_part_by_its_best_decoder() -> None:
    rounds = rounds_of(
        download__x=[0.1, 0.1, 9.0],
        decompress__x__slow=[9.0, 9.0, 9.0],
        decompress__x__fast=[2.0, 2.0, 7.0],
        raw_write__qemu=[0.0],
        literal_sequence=[8.0, 8.0, 1.0],
        disk__x=[2.4, 2.2, 50.0],
    )
    rounds.taken["raw write/qemu-img"] = [Taken(1.0)]
    (row,) = report.judge(rounds, {"x": 98})
    assert row.slowest == "decompress/x/fast"
    values = {each.what: (round(each.value, 3), each.met) for each in row.ratios}
    assert values == {"slowest": (1.2, False), "literal": (3.333, True), "written": (1.02, False)}
    assert "decompress/x/fast  1.20 (≤ 1.15, MISSED)" in report.table(rounds, [row], None)


def test_what_is_measured_at_the_pace_of_ec2_is_compared_with_parts_at_that_pace() -> None:
    seconds = {
        "download/x": 0.1,
        "decompress/x/y": 2.0,
        "raw write/qemu-img": 9.0,
        "bare puts": 9.0,
        "paced raw write/qemu-img": 4.0,
        "paced bare puts": 5.0,
        "paced disk/x": 4.4,
        "paced direct/x": 6.0,
    }
    rounds = report.Rounds({name: [Taken(each)] for name, each in seconds.items()})
    disk, direct = report.judge(rounds, {})
    assert disk.paced
    assert direct.paced
    assert (disk.slowest, direct.slowest) == ("paced raw write/qemu-img", "paced bare puts")
    assert disk.ratios == [report.Ratio("slowest", 4.4 / 4.0, 1.15)]
    assert direct.ratios == [report.Ratio("slowest", 6.0 / 5.0, 1.15)]
    _, _, table = report.table(rounds, [disk, direct], None).partition("at EC2's pace")
    lines = [line.split() for line in table.splitlines()]
    assert ["paced", "disk,", "x", "4.40", "paced", "raw", "write/qemu-img", "1.10", "(≤", "1.15)"] in lines


def test_the_tables_replace_those_between_the_marks() -> None:
    text = "one\n\n.. bench begins\n\nold\n\n.. bench ends\n\ntwo\n"
    assert report.spliced(text, "new\n") == text.replace("old", "new")
    with pytest.raises(ValueError, match="marks"):
        report.spliced("one", "new")


@pytest.mark.needs_tool("chromium", "chromedriver")
def test_feeds_have_a_table_of_their_own_and_what_takes_too_long_is_called_so() -> None:
    found = feeds.measured(1, 200)
    assert [(each.what, each.rows) for each in found] == [("rendered", 200), ("page loaded", 200)]
    assert all(each.seconds > 0 for each in found)
    told = [report.Timed("rendered", 100_000, 5.01, 5.0), report.Timed("page loaded", 20_000, 0.25, 1.0)]
    table = report.table(report.Rounds({"part": [Taken(1.0)]}), [], None, told)
    assert "rendered     100,000  5.01  MISSED, less than 5\npage loaded  20,000   0.25  less than 1\n" in table


def test_a_tree_is_the_same_for_the_same_seed_and_has_the_size_that_was_asked_for(tmp_path: Path) -> None:
    trees = []
    for name in ("one", "two"):
        plant(tmp_path / name, 3_000_000)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file() and not path.is_symlink()]
        trees.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
    assert len(trees[0]) > 50
    inodes = {
        path.stat().st_ino: path.stat().st_size
        for path in (tmp_path / "one").rglob("*")
        if not path.is_symlink() and path.is_file()
    }
    assert 0 <= sum(inodes.values()) - (8 << 20) - 3_000_000 < 1000


def test_pages_of_zeros_are_no_data_whether_they_are_holes_or_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" + bytes(8191) + b"y" * 4096)
    with file.open("r+b") as opened:
        opened.truncate(1 << 20)
        opened.seek((1 << 20) - 1)
        opened.write(b"z")
    assert pages(file) == 3 * 4096
