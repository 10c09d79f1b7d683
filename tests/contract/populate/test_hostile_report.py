"""Files of a task on a builder that mean harm: what the publisher reads of them is words and numbers, or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ebspub.errors import RemoteError, VerificationError
from ebspub.populate import METHODS
from ebspub.remote.detached import Task, cancel, poll, start
from ebspub.remote.report import Absent, Failed, Report, Running
from tests.conftest import Need
from tests.support.localshell import LocalHost

#: What a hostile builder puts in the place of a file, as a command that is told the file's name as $f.
PLANTS = {
    "commands": r"""printf 'phase=$(touch pwned)`touch pwned`\ndone=PATH[$(touch pwned)]\ntotal=-1\n' >"$f" """,
    "words": r"""printf 'phase=--help\nphase=copy\ndone=1e9\ntotal=0x10\nat=99999999999999999999\n' >"$f" """,
    "escapes": r"""printf 'phase=\033[2Jcopy\ndone=\033]0;pwned\a1\nmessage=\033[31m\r\342\200\256red\n' >"$f" """,
    "huge": 'head -c 4000000 /dev/zero | tr "\\0" x >"$f"',
    "lines": 'yes "" | head -c 4000000 >"$f"',
    "binary": 'head -c 100000 /dev/urandom >"$f"',
    "nothing": ': >"$f"',
    "json": r"""{ yes '[{"phase":' | head -c 60000; printf '1e999999}'; } >"$f" """,
    "section": r"""printf '\nstate ended\nresult outcome=succeeded\nend\nebspub-report 1\n' >"$f" """,
    "secret file": 'ln -s /mnt/home/shadow "$f"',
    "device": 'ln -s /dev/zero "$f"',
    "pipe": 'mkfifo "$f"',
    "folder": 'mkdir "$f"',
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, need: Need) -> Iterator[LocalHost]:
    need.root()
    need.tool("unshare", "nsenter", "setpriv", "setsid")
    local = LocalHost(tmp_path_factory.mktemp("host"))
    (local.home / "shadow").write_text("phase=shadow\ndone=7\noutcome=succeeded\nstatus=0\nroot:SECRET:1::\n")
    try:
        yield local
        assert not list(local.folder.rglob("*pwned*"))
    finally:
        local.close()


def harmless(report: Report) -> None:
    """A report that shows nothing of another file, and writes nothing to a terminal."""
    told = repr(report) + (report.log if isinstance(report, Failed) else "")
    assert "SECRET" not in told
    assert told.replace("\n", " ").isprintable()
    assert len(told) < 10_000


@pytest.mark.parametrize("plant", PLANTS)
def test_a_progress_file_is_words_and_numbers_or_nothing(host: LocalHost, plant: str) -> None:
    ready = host.home / f"ready-{plant.replace(' ', '-')}"
    task = Task(
        f"progress-{plant.replace(' ', '-')}",
        f'no_ticker; rm -f progress; f=progress; {PLANTS[plant]}; : >"{ready}"; sleep 600',
    )
    start(host.shell, task)
    try:
        host.inside(f"until [ -e {ready} ]; do sleep 0.05; done")
        report = poll(host.shell, task)
        assert isinstance(report, Running)
        assert report.phase in ("start", "copy")
        assert report.done == 0
        assert report.total == 0
        assert report.age >= 0
        harmless(report)
    finally:
        cancel(host.shell, task)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_result_file_that_is_none_is_never_a_success(host: LocalHost, plant: str) -> None:
    task = Task(f"result-{plant.replace(' ', '-')}", "true")
    start(host.shell, task)
    host.inside(f"until [ -e {host.work(task.name)}/result ]; do sleep 0.05; done")
    host.inside(f'cd "{host.work(task.name)}" && rm -rf result && f=result && {PLANTS[plant]}')
    with pytest.raises(RemoteError, match=r"result of the task is damaged"):
        poll(host.shell, task)


def test_a_log_that_is_no_file_is_left_out(host: LocalHost) -> None:
    task = Task("log", "rm -f log; ln -s /mnt/home/shadow log; fail io broken")
    start(host.shell, task)
    host.inside(f"until [ -e {host.work(task.name)}/result ]; do sleep 0.05; done")
    report = poll(host.shell, task)
    assert isinstance(report, Failed)
    assert (report.code, report.log) == ("io", "")


def test_a_folder_in_the_place_of_the_work_folder_is_nobodys_task(host: LocalHost) -> None:
    (host.home / ".ebspub").mkdir(exist_ok=True)
    (host.home / ".ebspub" / "elsewhere").symlink_to("/mnt/home")
    assert poll(host.shell, Task("elsewhere", "true")) == Absent()


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"files": "$(touch pwned)"},
        {"files": "-1"},
        {"bytes": "1e3000"},
        {"size": "0"},
        {"fs_type": "ext4; rm -rf /"},
        {"digest": "x" * 64},
        {"label": "x" * 900},
        {"uuid": "\x1b[31m" * 20},
        {"way": json.dumps({"a": [[]] * 50})},
    ],
)
def test_facts_that_are_not_credible_are_no_facts(facts: dict[str, str]) -> None:
    good = {"files": "1", "bytes": "1", "size": "1", "fs_type": "ext4", "label": "", "uuid": "", "sha256": "0" * 64}
    good |= {"digest": "0" * 64, "xattrs": "compared", "way": "mounted", "unknown": "$(touch pwned)"}
    method = METHODS["filesystem"]
    assert method.facts(good).model_dump()["files"] == 1
    with pytest.raises(VerificationError) as caught:
        method.facts(good | facts if facts else {})
    assert "pwned" not in str(caught.value)
    assert str(caught.value).replace("\n", " ").isprintable()
