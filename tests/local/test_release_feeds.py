"""Builds that are published, and the folder that tells of them: what is public is in every format, and nothing else."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ebspub.app import release as app
from ebspub.app.release.drift import stale
from ebspub.config import load
from ebspub.demo.signing import Signer, signer
from ebspub.feeds import files, query
from ebspub.store import tables
from tests.local.leftovers import Stage
from tests.local.released import (
    PUBLISH,
    clients,
    cloud,
    configure,
    ebspub,
    public,
    publish,
    register_all,
    runtime_of,
    seen,
    stage,
    state,
)

__all__ = ["clients", "cloud", "stage"]
pytestmark = pytest.mark.needs_tool("gpg", "gpgv")
RELEASED = "query/lucid/server/released.txt"
#: What others published before, by an older tool: instance-store AMIs of another serial.
THEIRS = (
    b"lucid\tserver\trelease\t20100427.1\tinstance-store\tamd64\teu-west-1\tami-cb97bbbf\taki-3eba914a\t\tparavirtual\n"
)


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as found:
        found.make_key()
        yield found


@pytest.fixture
def folder(stage: Stage, key: Signer) -> Path:
    """A folder of feeds in which others' rows lie, and a configuration that writes there."""
    made = stage.config.parent / "feeds"
    (made / RELEASED).parent.mkdir(parents=True)
    (made / RELEASED).write_bytes(THEIRS)
    configure(
        stage,
        f'{PUBLISH}\n[feeds]\nfolder = "{made}"\norigin = "images.example.com"\nurl = "https://images.example.com"\n'
        f'sign = {{ key = "{key.fingerprint}", home = "{key.home}" }}\n'
        f'[notify]\ncommand = ["tee", "--append", "{made.parent}/told"]\n',
    )
    register_all(stage)
    return made


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of every file that readers see."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def amis(stage: Stage) -> set[str]:
    """Return the AMIs that the database says are to be found."""
    return {str(stage.get(job_id).ami_id) for job_id in public(stage)}


def told(folder: Path, path: str) -> set[str]:
    return set(re.findall(r"ami-[0-9a-f]+", (folder / path).read_text()))


def test_what_is_published_is_in_every_format_and_nothing_is_touched_the_second_time(
    stage: Stage, folder: Path
) -> None:
    done = ebspub(stage, "publish", "lucid-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"published as release: \d+ calls, \d+ files written", done.stdout)
    ours, theirs = amis(stage), {"ami-cb97bbbf"}
    assert len(ours) == 4
    (note,) = map(json.loads, (folder.parent / "told").read_text().splitlines())
    assert (note["event"], note["release"]["state"], {job["ami_id"] for job in note["jobs"]}) == (
        "published",
        "published",
        ours,
    )
    assert told(folder, RELEASED) == ours | theirs
    assert (folder / RELEASED).read_bytes().startswith(THEIRS)
    for path in ("query/lucid/server/released.current.txt", "streams/v1/com.ubuntu.cloud:released:aws.json",
                 "streams/v1/com.ubuntu.cloud:released:aws.sjson", "locator/ec2/releasesTable"):  # fmt: skip
        assert told(folder, path) & ours == ours, path
    assert {image["ami"] for image in json.loads((folder / "images.json").read_text())["images"]} == ours | theirs
    with (folder / "images.csv").open() as table:
        assert {row["ami"] for row in csv.DictReader(table)} == ours | theirs
    assert "lucid-server-20101020" in (folder / "changes.atom").read_text().replace(":", "-")
    before = everything(folder)
    again = ebspub(stage, "publish", "lucid-server", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["releases"][0]["files"] == []
    assert everything(folder) == before
    assert (folder.parent / "told").read_text().count("\n") == 1
    assert stale(load(stage.config), stage.store) == []


def test_what_is_unpublished_is_in_no_file_and_others_rows_stay(stage: Stage, folder: Path) -> None:
    publish(stage)
    ours = amis(stage)

    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)

    assert result.exit_code == 0, result
    assert state(stage) == ("unpublished", "release")
    texts = b"".join(content for content, _ in everything(folder).values()).decode()
    assert [ami for ami in ours if ami in texts] == []
    assert (folder / RELEASED).read_bytes() == THEIRS
    before = everything(folder)
    app.unpublish(runtime_of(stage), ["lucid-server-20101020"], lambda _: None)
    assert everything(folder) == before
    publish(stage)
    assert told(folder, RELEASED) == ours | {"ami-cb97bbbf"}


def _without_last(content: bytes) -> bytes:
    return b"".join(content.splitlines(keepends=True)[:-1])


def _other_ami(content: bytes) -> bytes:
    line = content.splitlines(keepends=True)[-1]
    image = query.parse(line.rstrip(b"\n"))
    assert image is not None
    return _without_last(content) + line.replace(image.ami.encode(), b"ami-00000000")


def test_a_file_that_somebody_changed_is_shown_by_plan_and_mended_by_publish(stage: Stage, folder: Path) -> None:
    publish(stage)
    whole = {path: content for path, (content, _) in everything(folder).items()}
    for path, spoil in (
        (RELEASED, _without_last),
        (RELEASED, _other_ami),
        ("images.csv", lambda _content: b""),
        ("streams/v1/index.json.gpg", lambda content: content.replace(b"\n", b"\nA", 3)),
    ):
        (folder / path).write_bytes(spoil(whole[path]))
        assert f"{folder / path} is stale, missing or left over" in stale(load(stage.config), stage.store)
        assert publish(stage) == []
        mended = {path: content for path, (content, _) in everything(folder).items()}
        if path.endswith(".gpg"):  # a signature holds its time
            mended[path] = whole[path]
        assert mended == whole
    (folder / "changes.atom").unlink()
    shown = ebspub(stage, "plan")
    lines = [line for line in shown.stdout.splitlines() if line.startswith("feeds: ")]
    assert lines == [f"feeds: {folder / 'changes.atom'} is stale, missing or left over"], shown.stdout + shown.stderr


class Died(BaseException):
    """The process is gone, at this very moment."""


def test_a_publish_that_dies_while_it_writes_is_finished_by_the_next(
    stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, counted = files._replace, itertools.count(1)

    def dying(contents: Mapping[Path, bytes]) -> None:
        if next(counted) == 7:
            raise Died(contents.keys())
        replace(contents)

    monkeypatch.setattr(files, "_replace", dying)
    with pytest.raises(Died):
        publish(stage)
    monkeypatch.setattr(files, "_replace", replace)
    with stage.store.write() as conn:
        conn.execute(tables.releases.update().values(lease_owner="gone", lease_until=0.0))
    assert not (folder / "query/released.latest.txt").exists()  # what readers begin with comes last

    assert publish(stage) == []

    assert state(stage) == ("published", "release")
    assert told(folder, RELEASED) == amis(stage) | {"ami-cb97bbbf"}
    assert stale(load(stage.config), stage.store) == []


def test_feeds_that_cannot_be_written_keep_what_is_named_usable(stage: Stage, folder: Path) -> None:
    publish(stage)
    configure(stage, f'{PUBLISH}\n[feeds]\nfolder = "{stage.config}/feeds"\n')

    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None)

    assert result.exit_code == 3
    assert "the feeds cannot be written" in str(result.releases[0].errors[""])
    assert state(stage) == ("unpublishing", "release")
    assert result.releases[0].made == []


@pytest.mark.long
def test_where_a_copy_is_dead_a_build_is_taken_back_by_who_says_so(stage: Stage, folder: Path) -> None:
    publish(stage)
    text = stage.config.read_text()
    stage.config.write_text(text.replace("[notify]", '[feeds.sync]\nrsync = "rsync://127.0.0.1:9/images"\n[notify]'))
    before = len(stage.cloud.calls())

    refused = ebspub(stage, "unpublish", "lucid-server")

    assert refused.returncode == 3
    assert "`ebspub unpublish --revoke-anyway lucid-server-20101020` does it all the same" in refused.stderr
    assert (stage.mutating(before), state(stage)[0]) == ([], "unpublishing")
    assert told(folder, RELEASED) == {"ami-cb97bbbf"}  # the folder itself is written

    done = ebspub(stage, "unpublish", "lucid-server", "--revoke-anyway")

    assert done.returncode == 3
    assert "127.0.0.1" in done.stderr
    found = seen(stage)
    assert (found["launch"], found["volume"], found["parameters"]) == ([], [], [])
    assert state(stage)[0] == "unpublishing"
    stage.config.write_text(text)
    assert app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None).exit_code == 0
    assert state(stage)[0] == "unpublished"
    publish(stage)
    configure(stage, f'{PUBLISH}\n[feeds]\nfolder = "{stage.config}/feeds"\n')  # cannot be written: no way past that
    result = app.unpublish(runtime_of(stage), ["lucid-server"], lambda _: None, anyway=True)
    assert (result.exit_code, result.releases[0].made) == (3, [])
    assert seen(stage)["launch"] != []
