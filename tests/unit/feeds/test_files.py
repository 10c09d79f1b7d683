"""The folder of feeds: readers that poll it never see half, and a writer that is killed leaves it whole."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ebspub.feeds import files
from ebspub.feeds.files import FilesError, in_order, read, write
from tests.unit.feeds.writers import INDEX, NAMES, SIZE, rendering, start


def visible(folder: Path) -> dict[str, bytes]:
    return read(folder, lambda name: not name.startswith(".") and "/." not in name)


def test_a_rendering_is_written_with_its_folders_for_everybody_to_read(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        done = write(rendering(1), tmp_path / "feeds")
    finally:
        os.umask(mask)
    assert visible(tmp_path / "feeds") == rendering(1)
    assert done.written == tuple(in_order(rendering(1)))
    assert done.written[-1] == INDEX
    assert {stat.S_IMODE((tmp_path / "feeds" / path).stat().st_mode) for path in rendering(1)} == {0o644}
    folders = [tmp_path / "feeds", *(each for each in (tmp_path / "feeds").rglob("*") if each.is_dir())]
    assert {stat.S_IMODE(each.stat().st_mode) for each in folders} == {0o755}


def test_what_is_as_it_should_be_is_not_touched(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    before = {path: (tmp_path / path).stat() for path in (*rendering(1), files.LIST)}
    done = write(rendering(1), tmp_path)
    assert (done.written, done.removed, done.unchanged) == ((), (), len(rendering(1)))
    after = {path: (tmp_path / path).stat() for path in before}
    assert {path: (s.st_ino, s.st_mtime_ns) for path, s in before.items()} == {
        path: (s.st_ino, s.st_mtime_ns) for path, s in after.items()
    }


def test_one_who_reads_a_file_while_it_is_replaced_reads_the_old_one_to_its_end(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    with (tmp_path / NAMES[0]).open("rb") as file:
        begin = file.read(100)
        write(rendering(2), tmp_path)
        assert begin + file.read() == rendering(1)[NAMES[0]]
    assert visible(tmp_path) == rendering(2)


def test_a_document_takes_its_place_when_its_signature_waits_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(number: int) -> dict[str, bytes]:
        return {INDEX: b"%d" % number, f"{INDEX}.gpg": b"signature of %d" % number, "query/a.txt": b"%d" % number}

    write(version(1), tmp_path)
    placed: list[tuple[str, bytes]] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        waiting = tmp_path / "streams/v1/.index.json.gpg.ebspub-new"
        placed.append((target.relative_to(tmp_path).as_posix(), waiting.read_bytes() if waiting.exists() else b""))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert write(version(2), tmp_path).written == ("query/a.txt", INDEX, f"{INDEX}.gpg")
    assert placed[1:] == [("query/a.txt", b""), (INDEX, b"signature of 2"), (f"{INDEX}.gpg", b"signature of 2")]
    assert visible(tmp_path) == version(2)


def test_what_is_no_longer_rendered_goes_after_the_index_and_files_of_others_stay(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    (tmp_path / "robots.txt").write_bytes(b"theirs")
    (tmp_path / "data/theirs").write_bytes(b"theirs")
    steps: list[str] = []
    done = write({INDEX: b"{}"}, tmp_path, reach=steps.append)
    assert steps[1] == f"wrote {INDEX}"
    assert set(done.removed) == rendering(1).keys() - {INDEX}
    assert visible(tmp_path) == {INDEX: b"{}", "robots.txt": b"theirs", "data/theirs": b"theirs"}
    assert not (tmp_path / "query").exists()


def test_the_list_of_newest_serials_comes_after_the_rows_and_the_indexes_after_all() -> None:
    paths = ["streams/v1/index.json", "query/released.latest.txt", "query/a/b/released.current.txt",
             "streams/v1/index.json.gpg", "streams/v1/a.json", "streams/v1/a.json.gpg", "streams/v1/index.sjson",
             "query/a/b/released.txt", "locator/ec2/index.html", "locator/ec2/releasesTable"]  # fmt: skip
    assert in_order(paths) == [
        "locator/ec2/releasesTable",
        "query/a/b/released.txt",
        "streams/v1/a.json",
        "streams/v1/a.json.gpg",
        "query/a/b/released.current.txt",
        "query/released.latest.txt",
        "streams/v1/index.json",
        "streams/v1/index.json.gpg",
        "streams/v1/index.sjson",
        "locator/ec2/index.html",
    ]


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../x", "", ".", "a//b", ".hidden", "a/.b", "a\0b"])
def test_nothing_is_written_outside_the_folder(path: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no path"):
        write({path: b""}, tmp_path / "feeds")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [files._LOCK]


@pytest.mark.parametrize("listed", [b"nonsense", b'{"a": 1}', b'["../outside", 7, "inside"]'])
def test_a_damaged_list_removes_nothing_outside(listed: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    (tmp_path / "outside").touch()
    (folder / files.LIST).write_bytes(listed)
    write({"new": b""}, folder)
    assert (tmp_path / "outside").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FilesError, match="cannot be written"):
        write(rendering(1), tmp_path / "file")


def test_of_two_at_once_the_second_reads_what_the_first_wrote(tmp_path: Path) -> None:
    second_reads, begun = threading.Event(), threading.Event()

    def first(_there: dict[str, bytes]) -> dict[str, bytes]:
        begun.set()
        # Never set while the first is at it; a writer that does not wait would set it.
        assert not second_reads.wait(0.5)
        return {"one": b"1"}

    def second(there: dict[str, bytes]) -> dict[str, bytes]:
        second_reads.set()
        return {**there, "two": b"2"}

    with ThreadPoolExecutor() as pool:
        one = pool.submit(files.update, tmp_path, lambda _path: False, first)
        assert begun.wait(60)
        two = pool.submit(files.update, tmp_path, lambda path: path == "one", second)
        assert (one.result().written, two.result().written) == (("one",), ("two",))
    assert visible(tmp_path) == {"one": b"1", "two": b"2"}


def test_what_is_copied_stays_as_it_is_while_the_folder_is_written(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    (tmp_path / "robots.txt").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to("robots.txt")
    with files.copying(tmp_path), files.still(tmp_path) as source:
        write(rendering(2), tmp_path)
        (tmp_path / "robots.txt").unlink()
        assert files.kept(source) == rendering(1)
        assert (source / "robots.txt").read_bytes() == b"theirs"
        assert (source / "link").is_symlink()
        assert {stat.S_IMODE(each.stat().st_mode) for each in source.rglob("*") if each.is_dir()} == {0o755}
        assert visible(tmp_path).keys() == rendering(2).keys()
    assert not source.exists()


def test_what_one_who_died_while_copying_left_is_in_nobodys_way(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    (tmp_path / files._STILL / "query").mkdir(parents=True)
    (tmp_path / files._STILL / "query/old").touch()
    with files.copying(tmp_path), files.still(tmp_path) as source:
        assert visible(source) == rendering(1)


def test_nobody_else_can_take_the_lock_and_one_that_is_never_given_back_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / files._LOCK
    lock.touch()
    lock.chmod(0o644)  # as an earlier version made it
    write(rendering(1), tmp_path)
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    monkeypatch.setattr(files, "WAIT", 0.2)
    with lock.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(FilesError, match=r"another process has been writing or copying the feeds") as error:
            write(rendering(2), tmp_path)
        assert str(lock) in error.value.todo
        assert visible(tmp_path) == rendering(1)
    write(rendering(2), tmp_path)


# Readers and killers ------------------------------------------------------------------------------------------------


def look(folder: Path) -> int:
    """Read as one who polls: the index, then what it names; return its version. Whatever is not whole fails."""
    index = json.loads((folder / INDEX).read_bytes())
    for name in index["names"]:
        try:
            content = (folder / name).read_bytes()
        except FileNotFoundError:
            # Named by an index that is no longer there.
            assert json.loads((folder / INDEX).read_bytes())["version"] > index["version"]
            continue
        assert len(content) == SIZE
        assert set(content.split(b"\n")[:-1]) == {content[:9]}
        assert int(content[:9]) >= index["version"]  # what an index leads to was there before it
    return int(index["version"])


def test_readers_never_see_half_while_it_is_rewritten(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    with start("rewrite", tmp_path) as writer:
        seen: set[int] = set()
        # Until as many versions came by as it takes, however slow the machine is.
        while len(seen) < 20:
            assert writer.poll() is None
            seen.add(look(tmp_path))
        writer.communicate()
    assert writer.returncode == 0


def killed(*arguments: str | Path | int) -> None:
    with start(*arguments) as writer:
        writer.communicate()
    assert writer.returncode == -signal.SIGKILL


POINTS = ["listed", *(f"wrote {path}" for path in in_order(rendering(2))), "removed data/1.txt"]


@pytest.mark.parametrize("point", [POINTS[0], POINTS[1], POINTS[-3], POINTS[-2], POINTS[-1]])
def test_one_who_is_killed_leaves_what_can_be_read_and_the_next_ends_it(point: str, tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    killed("die_at", tmp_path, 2, point)
    assert look(tmp_path) in (1, 2)
    write(rendering(2), tmp_path)
    assert visible(tmp_path) == rendering(2)


def test_one_who_is_killed_while_writing_a_file_leaves_no_half_of_it(tmp_path: Path) -> None:
    write(rendering(1), tmp_path)
    killed("die_within", tmp_path, 2, "data/2.txt")
    assert look(tmp_path) == 1
    # Another version this time: what was begun is of no rendering any more.
    write(rendering(3), tmp_path)
    assert visible(tmp_path) == rendering(3)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(files._TEMPORARY)]
