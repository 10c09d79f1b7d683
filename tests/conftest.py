"""What every test gets: an environment that reaches no real account, and a search for what was left behind.

A test that needs root, loop devices or a program says so by a mark (``needs_root``, ``needs_loop``,
``needs_tool("sshd")``), or asks the fixture ``need`` when it finds out on the way. Without it the test fails in CI
(environment variable CI), and is skipped elsewhere; the summary says why.
"""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Set in this process and so in all that tests start: what still carries it at the end was left behind.
SESSION = "EBSPUB_TEST_SESSION"
#: Seconds that processes get to end after the last test.
GRACE = 10.0
#: Where Debian keeps programs of the administrator, which is not on everybody's PATH.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


# What a test needs ------------------------------------------------------------------------------------------------


class Need:
    """Fail (in CI) or skip (elsewhere) the running test where something is missing."""

    def root(self) -> None:
        """Go on only as root."""
        self.that(os.geteuid() == 0, "root")

    def loop(self) -> None:
        """Go on only where loop devices can be attached."""
        self.root()
        self.tool("losetup")
        self.that(not _loop_refusal(), f"loop devices ({_loop_refusal()})")

    def tool(self, *names: str) -> None:
        """Go on only where these programs are."""
        for name in names:
            self.that(shutil.which(name) is not None, f"the program {name}")

    def that(self, present: bool, what: str) -> None:
        """Go on only where ``what`` is ``present``."""
        if present:
            return
        if os.environ.get("CI"):
            pytest.fail(f"needs {what}, and CI skips nothing", pytrace=False)
        pytest.skip(f"needs {what}")


@functools.cache
def _loop_refusal() -> str:
    """Return why loop devices cannot be attached; empty where they can."""
    # In memory: an anonymous file has no path that another run could mistake for its own.
    image = os.memfd_create("ebspub-loop-probe")
    try:
        os.truncate(image, 1 << 20)
        probe = subprocess.run(
            ["losetup", "--find", "--show", f"/proc/{os.getpid()}/fd/{image}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if probe.returncode == 0:
            subprocess.run(["losetup", "--detach", probe.stdout.strip()], check=True, timeout=30)
            return ""
        return probe.stderr.strip() or f"losetup exited with {probe.returncode}"
    finally:
        os.close(image)


@pytest.fixture(scope="session")
def need() -> Need:
    """Return the means to say on the way what a test or a fixture needs."""
    return Need()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    need = Need()
    if item.get_closest_marker("needs_root"):
        need.root()
    if item.get_closest_marker("needs_loop"):
        need.loop()
    for mark in item.iter_markers("needs_tool"):
        need.tool(*mark.args)


# No test reaches a real account ------------------------------------------------------------------------------------


def _forget_accounts(home: Path) -> None:
    """Let nothing of the user's own environment reach the tests, or a program that they start."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "BOTO_", "EBSPUB_", "XDG_", "GNUPG")) and name != SESSION:
            del os.environ[name]
    # What would colour or fold the output that tests read.
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "COLUMNS"):
        os.environ.pop(name, None)
    os.environ.update(
        HOME=str(home),
        XDG_CONFIG_HOME=str(home / ".config"),
        XDG_CACHE_HOME=str(home / ".cache"),
        XDG_DATA_HOME=str(home / ".local/share"),
        XDG_STATE_HOME=str(home / ".local/state"),
        AWS_CONFIG_FILE=str(home / ".aws/config"),
        AWS_SHARED_CREDENTIALS_FILE=str(home / ".aws/credentials"),
        AWS_EC2_METADATA_DISABLED="true",
        NO_PROXY="127.0.0.1,localhost,::1",
        no_proxy="127.0.0.1,localhost,::1",
        NO_COLOR="1",
    )


@pytest.fixture(scope="session", autouse=True)
def _session_isolation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Isolate session fixtures, which start before any test."""
    before = dict(os.environ)
    _forget_accounts(tmp_path_factory.mktemp("home"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _isolation(_session_isolation: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give every test a home folder of its own and take back what it does to the environment."""
    before = dict(os.environ)
    home = tmp_path_factory.mktemp("home")
    for name, value in before.items():
        if name not in ("PATH", SESSION):
            os.environ[name] = value.replace(before["HOME"], str(home))
    yield
    os.environ.clear()
    os.environ.update(before)


# Nothing is left behind --------------------------------------------------------------------------------------------


class Leftovers:
    """What a run could leave on the machine: loop devices, mounts, processes."""

    def __init__(self, session: str, basetemp: Path) -> None:
        self.session = session
        self.basetemp = basetemp
        self._before = self._disks()

    def find(self) -> list[str]:
        """Return what is there now and is ours, one line each, after giving processes time to end."""
        deadline = time.monotonic() + GRACE
        while (found := self._new()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _new(self) -> list[str]:
        disks = self._disks() - self._before
        # In CI nobody else is on the machine. Elsewhere only what is backed by our temporary folder is surely ours.
        if not os.environ.get("CI"):
            disks = {line for line in disks if str(self.basetemp) in line}
        return sorted(disks) + self._processes()

    def _disks(self) -> set[str]:
        loops = {
            f"loop device {backing.parts[3]}, backed by {backing.read_text().strip()}"
            for backing in Path("/sys/block").glob("loop*/loop/backing_file")
        }
        mounts = {f"mount on {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
        return loops | mounts

    def _processes(self) -> list[str]:
        mark = f"{SESSION}={self.session}".encode()
        found = []
        for proc in Path("/proc").glob("[0-9]*"):
            if int(proc.name) == os.getpid():
                continue
            try:
                command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                # sudo and sshd clear the environment; their command lines then name our files.
                ours = mark in (proc / "environ").read_bytes() or f"{self.basetemp}/" in command
            except OSError:  # it ended while we looked, or is another user's
                continue
            if ours:
                found.append(f"process {proc.name}: {command[:200] or '(ended, not waited for)'}")
        return found


_LEFTOVERS = pytest.StashKey[Leftovers]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="pass all, variants and every crash point among them")
    parser.addoption("--long", action="store_true", help="pass the long tests, and no others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asked for; let what takes a minute begin first, on every worker.

    xdist hands out neighbours, a share to each.
    """
    if not config.getoption("--whole"):
        wanted = [item for item in items if _wanted(item, long=config.getoption("--long"))]
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = wanted
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = iter([item for item in items if not item.get_closest_marker("slow")])
    order: list[pytest.Item] = []
    for number in range(workers):
        end = len(order) + (len(items) - len(order)) // (workers - number)
        order += slow[number::workers]
        order += itertools.islice(others, max(0, end - len(order)))
    items[:] = [*order, *others]


def _wanted(item: pytest.Item, *, long: bool) -> bool:
    return bool(item.get_closest_marker("long")) == long and not item.get_closest_marker("variant")


def pytest_configure(config: pytest.Config) -> None:
    # A run in a shell's background ignores SIGINT, and so would all programs that tests start, and interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN))
    if not hasattr(config, "workerinput"):
        os.environ[SESSION] = uuid.uuid4().hex


def pytest_sessionstart(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # the run that started the workers looks, after their end
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    session.config.stash[_LEFTOVERS] = Leftovers(os.environ[SESSION], factory.getbasetemp())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Fail the run when something was left behind. Last of all wrappers: xdist's workers have ended by then."""
    result = yield
    leftovers = session.config.stash.get(_LEFTOVERS, None)
    found = leftovers.find() if leftovers else []
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        report = pytest.TestReport(
            nodeid="the whole run",
            location=("tests", None, "the whole run"),
            keywords={},
            outcome="failed",
            longrepr="Left behind by the tests:\n" + "\n".join(f"  {line}" for line in found),
            when="teardown",
        )
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.stats.setdefault("error", []).append(report)
    return result
