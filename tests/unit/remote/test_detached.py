"""Work that survives its connection: started once, found again, ended whole. In a plain folder, without root."""

from __future__ import annotations

import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ebspub
from ebspub.errors import RemoteError
from ebspub.remote.detached import Task, assignments, cancel, poll, run_program, start
from ebspub.remote.report import Absent, Failed, Report, Running, Succeeded
from tests.support.localshell import LocalHost, LocalShell, await_file


class Place:
    """A home folder in which tasks run."""

    def __init__(self, home: Path) -> None:
        self.home = home
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "EBSPUB_DEVICES": str(home),
            "EBSPUB_TEST_SESSION": os.environ.get("EBSPUB_TEST_SESSION", ""),
        }
        self.shell = LocalShell(environment)
        self._tasks: dict[str, Task] = {}

    def task(self, script: str, name: str = "t", **parameters: str) -> Task:
        self._tasks[name] = Task(name, script, parameters)
        return self._tasks[name]

    def work(self, name: str = "t") -> Path:
        return self.home / ".ebspub" / name

    def end(self, task: Task) -> Report:
        deadline = time.monotonic() + 20
        while isinstance(report := poll(self.shell, task), Running):
            assert time.monotonic() < deadline
            await_file(self.work(task.name) / "result")
        return report

    def clear(self) -> None:
        for task in self._tasks.values():
            cancel(self.shell, task)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.clear()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.005)


def test_it_is_absent_until_it_is_started(place: Place) -> None:
    assert poll(place.shell, place.task("true")) == Absent()


def test_its_facts_are_told_when_it_has_ended(place: Place) -> None:
    task = place.task('fact one "$value"\nfact two 2', value="a=b")
    start(place.shell, task)
    assert place.end(task) == Succeeded({"one": "a=b", "two": "2"})


def test_progress_is_told_while_it_works(place: Place) -> None:
    task = place.task('phase copy\nprogress 5 10\n: >"$mark"\nsleep 30', mark=str(place.home / "mark"))
    start(place.shell, task)
    wait_for(place.home / "mark")
    report = poll(place.shell, task)
    assert isinstance(report, Running)
    assert (report.phase, report.done, report.total) == ("copy", 5, 10)
    assert 0 <= report.age < 5


def test_a_ticker_ends_with_its_phase_and_with_its_task(place: Place) -> None:
    task = place.task("phase a\nticker echo 1 2\nphase b\nticker echo 3 4\nsleep 1.5")
    start(place.shell, task)
    seen = set()
    while isinstance(report := poll(place.shell, task), Running):
        seen.add((report.phase, report.done))
        time.sleep(0.05)
    assert ("b", 3) in seen
    assert isinstance(report, Succeeded)


def test_a_failure_says_where_and_why(place: Place) -> None:
    task = place.task('phase two\necho noise >&2\nfail checksum "it is\nwrong"\nfact never told')
    start(place.shell, task)
    report = place.end(task)
    assert isinstance(report, Failed)
    assert (report.code, report.phase, report.message, report.status) == ("checksum", "two", "it is wrong", 1)
    assert "noise" in report.log


def test_a_failure_in_a_part_that_was_ignored_still_fails_it(place: Place) -> None:
    task = place.task('x=$(fail io "deep down")\nexit 0')
    start(place.shell, task)
    report = place.end(task)
    assert isinstance(report, Failed)
    assert report.message == "deep down"


def test_an_exit_status_alone_fails_it(place: Place) -> None:
    task = place.task("fact a b\nexit 3")
    start(place.shell, task)
    report = place.end(task)
    assert isinstance(report, Failed)
    assert (report.code, report.status) == ("script", 3)


def test_a_script_that_is_killed_has_vanished(place: Place) -> None:
    task = place.task("kill -KILL $$")
    start(place.shell, task)
    report = place.end(task)
    assert isinstance(report, Failed)
    assert (report.code, report.status) == ("vanished", 137)


def test_a_message_cannot_add_a_line_to_the_result(place: Place) -> None:
    task = place.task('fail io "x\noutcome=succeeded\nstatus=0"')
    start(place.shell, task)
    assert isinstance(place.end(task), Failed)


def test_a_fact_cannot_add_another(place: Place) -> None:
    task = place.task('fact label "$evil"', evil="x\nsha256=forged")
    start(place.shell, task)
    assert place.end(task) == Succeeded({"label": "x sha256=forged"})


COUNT = 'echo x >>"$HOME/count"\nsleep 0.3'


def test_started_by_many_at_once_it_runs_once(place: Place) -> None:
    task = place.task(COUNT)
    threads = [threading.Thread(target=start, args=(place.shell, task)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start(place.shell, task)
    assert isinstance(place.end(task), Succeeded)
    start(place.shell, task, again=True)
    assert (place.home / "count").read_text() == "x\n"


def test_a_failed_one_starts_again_only_when_asked(place: Place) -> None:
    task = place.task('echo x >>"$HOME/count"\n[ -e "$HOME/mended" ] || fail io "not yet"')
    start(place.shell, task)
    place.end(task)
    start(place.shell, task)
    assert isinstance(place.end(task), Failed)
    (place.home / "mended").touch()
    start(place.shell, task, again=True)
    assert isinstance(place.end(task), Succeeded)
    assert (place.home / "count").read_text() == "x\nx\n"


# The control program, cut off after every one of its files and lines.
@pytest.mark.parametrize("made", [[], ["parameters"], ["parameters", "script"], ["parameters", "script", "runner"]])
def test_a_start_that_was_cut_short_is_completed_by_the_next(place: Place, made: list[str]) -> None:
    task = place.task(COUNT)
    place.work().mkdir(parents=True)
    for name in (*made, "start.lock"):
        (place.work() / name).write_text("half")
    assert poll(place.shell, task) == Absent()
    start(place.shell, task)
    assert isinstance(place.end(task), Succeeded)
    assert (place.home / "count").read_text() == "x\n"


def test_a_leader_that_nobody_recorded_is_replaced_not_joined(place: Place) -> None:
    """A start that died between launching the leader and the leader's own record."""
    task = place.task(COUNT + "\nsleep 20")
    start(place.shell, task)
    wait_for(place.home / "count")
    (place.work() / "leader").unlink()
    assert poll(place.shell, task) == Absent()
    start(place.shell, task)
    marks = subprocess.run(
        ["sh", "-c", f"grep -lzxF 'EBSPUB_TASK={place.work()}' /proc/[0-9]*/environ 2>/dev/null"],
        capture_output=True,
        check=False,
        text=True,
    ).stdout.split()
    assert 0 < len(marks) <= 4  # one leader with its script and sleep, not two


def test_a_second_leader_gives_way_to_the_first(place: Place) -> None:
    task = place.task(COUNT + "\nsleep 2")
    start(place.shell, task)
    wait_for(place.home / "count")
    runner = ["flock", "-n", str(place.work() / "run.lock"), "true"]
    assert subprocess.run(runner, check=False).returncode == 1
    assert isinstance(place.end(task), Succeeded)
    assert subprocess.run(runner, check=False).returncode == 0


def test_half_a_program_runs_nothing(place: Place) -> None:
    """The connection breaks while the program is on its way: wherever that is, nothing of it has run."""
    programs: list[bytes] = []

    class Recorder(LocalShell):
        def run(self, command: str, *, stdin: bytes = b"", timeout: float, limit: int = 1 << 20):  # type: ignore[no-untyped-def]
            programs.append(stdin)
            return super().run(command, stdin=stdin, timeout=timeout, limit=limit)

    run_program(Recorder(place.shell.environment), "control.sh", 'touch "$HOME/ran"', {"task": "t"}, timeout=10)
    (place.home / "ran").unlink()
    whole = programs[0]
    for length in [*range(0, len(whole) - 2, 97), len(whole) - 2, len(whole) - 3]:
        place.shell.run("sh", stdin=whole[:length], timeout=10)
        assert not (place.home / "ran").exists(), length


def test_cancelled_it_cleans_up_and_all_of_it_ends(place: Place) -> None:
    script = 'cleanup() { : >"$HOME/cleaned"; }\n(setsid sleep 1000 &)\n: >"$HOME/up"\nsleep 1000'
    task = place.task(script)
    start(place.shell, task)
    wait_for(place.home / "up")
    cancel(place.shell, task)
    report = poll(place.shell, task)
    assert isinstance(report, Failed)
    assert report.code == "cancelled"
    assert (place.home / "cleaned").exists()
    found = place.shell.run(f"grep -lzxF 'EBSPUB_TASK={place.work()}' /proc/[0-9]*/environ 2>/dev/null", timeout=10)
    assert not found.stdout


def test_one_that_does_not_listen_is_cancelled_by_force(place: Place) -> None:
    task = place.task('trap "" TERM\n: >"$HOME/up"\nwhile :; do sleep 1; done')
    start(place.shell, task)
    wait_for(place.home / "up")
    cancel(place.shell, task)
    assert isinstance(poll(place.shell, task), Failed)


def test_what_has_ended_or_never_was_is_not_changed_by_cancelling(place: Place) -> None:
    never = place.task("true", name="never")
    cancel(place.shell, never)
    assert poll(place.shell, never) == Absent()
    task = place.task("fact a b")
    start(place.shell, task)
    ended = place.end(task)
    cancel(place.shell, task)
    assert poll(place.shell, task) == ended


def test_the_work_folder_is_for_its_owner_only(place: Place) -> None:
    task = place.task("true", secret="s")
    start(place.shell, task)
    place.end(task)
    assert place.work().stat().st_mode & 0o777 == 0o700
    assert not [file for file in place.work().iterdir() if file.stat().st_mode & 0o077]


def test_a_folder_that_somebody_laid_in_wait_is_refused(place: Place) -> None:
    (place.home / "elsewhere").mkdir()
    place.work().parent.mkdir()
    place.work().symlink_to(place.home / "elsewhere")
    with pytest.raises(RemoteError, match="belongs to somebody else"):
        start(place.shell, Task("t", "true"))
    assert not list((place.home / "elsewhere").iterdir())
    assert poll(place.shell, Task("t", "true")) == Absent()


def test_parameters_are_in_no_process_list(place: Place) -> None:
    task = place.task(
        'for f in /proc/[0-9]*; do cat "$f/cmdline" "$f/environ"; done >"$HOME/seen" 2>&1 || :', p="S3CRET" + "x"
    )
    start(place.shell, task)
    assert isinstance(place.end(task), Succeeded)
    seen = (place.home / "seen").read_bytes()
    assert b"EBSPUB_TASK=" in seen
    assert b"S3CRETx" not in seen


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60))
def test_any_parameter_arrives_as_it_is(value: str) -> None:
    script = assignments({"value": value}) + "printf '%s' \"$value\""
    done = subprocess.run(["sh"], input=script.encode(), capture_output=True, check=True)
    assert done.stdout == value.encode()


@pytest.mark.parametrize("name", ["", ".", "../x", "a b", "a/b", "-x", "$(id)", "a\n", "x" * 121])
def test_a_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="task name"):
        Task(name, "true")


@pytest.mark.parametrize("key", ["", "PATH", "a-b", "a=b", "1a", "a;id"])
def test_a_parameter_that_is_no_variable_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="parameter"):
        Task("t", "true", {key: "x"})


def test_a_control_program_that_fails_says_why(place: Place) -> None:
    with pytest.raises(RemoteError, match=r"exit status 7.*because"):
        run_program(place.shell, "control.sh", "{ echo because >&2; exit 7; }", {"task": "t"}, timeout=10)


@pytest.mark.needs_tool("shellcheck")
@pytest.mark.parametrize("package", ["remote", "populate"])
def test_all_shell_is_plain_posix_and_clean(package: str) -> None:
    files = sorted(Path(ebspub.__file__).parent.joinpath(package).glob("*.sh"))
    assert files
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.needs_loop
@pytest.mark.needs_tool("sudo", "unshare", "nsenter", "setpriv")
def test_a_user_who_may_become_root_without_a_password_does_so(tmp_path: Path) -> None:
    """As on a builder: user with sudo, work folder in /var/tmp, volumes below /dev."""
    host = LocalHost(tmp_path / "host")
    try:
        rules = host.folder / "sudoers"
        rules.write_text("Defaults !pam_session, !use_pty\nroot ALL=(ALL:ALL) ALL\nnobody ALL=(ALL) NOPASSWD:ALL\n")
        rules.chmod(0o440)
        (host.folder / "tmp").mkdir()
        (host.folder / "tmp").chmod(0o1777)
        host.inside(f"mount --bind {rules} /etc/sudoers && mount --bind {host.folder}/tmp /var/tmp")
        shell = host.user_shell()
        del shell.environment["EBSPUB_DEVICES"]
        task = Task("t", 'fact uid "$(id -u)"\nfact work "$EBSPUB_WORK"\nfact devices "$EBSPUB_DEVICES"')
        start(shell, task)
        deadline = time.monotonic() + 20
        while isinstance(report := poll(shell, task), Running):
            assert time.monotonic() < deadline
        assert report == Succeeded({"uid": "0", "work": "/var/tmp/ebspub-t", "devices": "/dev"})
        assert (host.folder / "tmp/ebspub-t").stat().st_mode & 0o777 == 0o700
        assert (host.folder / "tmp/ebspub-t").stat().st_uid == 0
    finally:
        host.close()


def test_shell_metacharacters_in_a_task_name_cannot_happen() -> None:
    assert shlex.quote(Task("a.b_c-1", "true").name) == "a.b_c-1"
