"""The demonstration: publish a real image to an embedded cloud, be killed in the middle, and resume."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ebspub.app.report import job_document
from ebspub.demo.release import publish
from ebspub.demo.report import DemoError, Report, Say
from ebspub.demo.setting import ARCHES, KERNELS, SUITE, Setting, setting
from ebspub.demo.verify import compare, source_tree
from ebspub.states import State
from ebspub.store import Store, jobs

#: Seconds within which the first run must have got far enough to be killed.
_PATIENCE = 120.0


def demo(report_file: Path, feeds: Path, say: Say) -> None:
    """Play the demonstration and write what was said to ``report_file``. Raises DemoError where it fails.

    Everything happens in a temporary folder and on the loopback network; nothing else is left but the files about what
    was published, in the folder ``feeds``.
    """
    report = Report(say)
    try:
        with tempfile.TemporaryDirectory(prefix="ebspub-demo-") as name:
            _play(Path(name), report, feeds.absolute())
            report.tell("taking everything down")
        report.tell(f"done: nothing is left but this report and {feeds}")
    finally:
        report_file.write_text("\n".join(report.lines) + "\n", encoding="utf-8")


def _play(folder: Path, report: Report, feeds: Path) -> None:
    report.tell("making a small Ubuntu 10.04 image (ext3 in a UEC tarball, signed SHA256SUMS) and an embedded cloud")
    with setting(folder) as stage:
        many = f"{len(KERNELS)} regions x {len(ARCHES)} arches"
        report.tell(f"image served over HTTP, cloud at {stage.cloud.endpoint}; publishing to {many}: ebspub run")
        _run_and_kill(stage, report)
        report.tell("killed by SIGKILL; this is what the state database says: ebspub status")
        report.show(_ebspub(stage, "status").stdout)
        report.tell("going on where each job stopped: ebspub resume")
        _follow(stage, report, "resume")
        report.tell("ebspub status")
        report.show(_ebspub(stage, "status").stdout)
        _verify(stage, report)
        _run_again(stage, report)
        _left_over(stage, report)
        publish(stage, report, lambda *words: _ebspub(stage, *words), feeds)


def _run_and_kill(stage: Setting, report: Report) -> None:
    """Start `ebspub run`, and kill it when some job is populated and another is not."""
    process = _start(stage, "run")
    deadline = time.monotonic() + _PATIENCE
    shown: dict[str, str] = {}
    try:
        while process.poll() is None and time.monotonic() < deadline:
            seen = _jobs(stage)
            _tell_changes(seen, shown, report)
            states = {State(job["state"]) for job in seen}
            if State.POPULATED in states or State.SNAPSHOTTED in states:
                break
            time.sleep(0.3)
        else:
            raise DemoError(f"`ebspub run` ended by itself with {process.poll()}", todo=_tail(stage))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _follow(stage: Setting, report: Report, command: str) -> None:
    """Run a command to its end and tell what its jobs do meanwhile."""
    process = _start(stage, command)
    shown = {job["id"]: f"{job['state']}" for job in _jobs(stage)}
    try:
        while process.poll() is None:
            _tell_changes(_jobs(stage), shown, report)
            time.sleep(0.3)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    _tell_changes(_jobs(stage), shown, report)
    if process.returncode != 0:
        raise DemoError(f"`ebspub {command}` ended with {process.returncode}", todo=_tail(stage))


def _tell_changes(seen: list[dict[str, Any]], shown: dict[str, str], report: Report) -> None:
    for job in seen:
        if shown.get(job["id"], State.PENDING.value) != job["state"]:
            newest = {"launched": "instance_id", "snapshotted": "snapshot_id", "registered": "ami_id"}
            detail = job[newest.get(job["state"], "volume_id")]
            report.tell(f"{job['region']:<15} {job['arch']:<6} {job['state']:<12} {detail}")
        shown[job["id"]] = job["state"]


def _verify(stage: Setting, report: Report) -> None:
    report.tell("comparing every published file system with its source, entry by entry")
    sources = {arch: source_tree(stage.images, SUITE, arch, stage.folder) for arch in ARCHES}
    published = _jobs(stage)
    for job_id, lines in compare(published, sources, stage.cloud).items():
        if lines:
            raise DemoError(f"{job_id} differs from its source: {'; '.join(lines[:5])}")
    entries = sum(len(sources[job["arch"]]) for job in published)
    report.tell(
        f"{len(published)} AMIs, {entries} entries: no difference in content, owners, modes, times, links or xattrs"
    )


def _run_again(stage: Setting, report: Report) -> None:
    before = len(stage.cloud.calls())
    done = _ebspub(stage, "run")
    calls = [call for call in stage.cloud.calls(before) if call.mutating]
    if done.returncode != 0 or calls:
        raise DemoError(f"running again ended with {done.returncode} and made {len(calls)} calls that change something")
    report.tell("ebspub run once more: everything is registered, no call that changes anything was made")


def _left_over(stage: Setting, report: Report) -> None:
    inventory = stage.cloud.inventory()
    left = inventory.leftovers()
    wanted = len(KERNELS) * len(ARCHES)
    if left or len(inventory.images) != wanted:
        raise DemoError(f"{len(inventory.images)} AMIs instead of {wanted}; left over: {', '.join(left) or 'nothing'}")
    report.tell(f"in the account: {wanted} AMIs and their snapshots; no instance, volume or security group is left")


def _command(stage: Setting, *words: str) -> list[str]:
    return [sys.executable, "-m", "ebspub", "--config", str(stage.config), *words]


def _start(stage: Setting, command: str) -> subprocess.Popen[bytes]:
    with (stage.folder / "ebspub.log").open("ab") as log:
        return subprocess.Popen(
            _command(stage, command), env=stage.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )


def _ebspub(stage: Setting, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**stage.environment(), "COLUMNS": "100"}
    return subprocess.run(_command(stage, *words), env=environment, capture_output=True, text=True, check=False)


def _jobs(stage: Setting) -> list[dict[str, Any]]:
    """Return what `ebspub status --json` says, read in this process: it is asked for several times a second."""
    store = Store.open_existing(f"sqlite:///{stage.folder / 'ebspub.db'}")
    if store is None:
        return []
    with store, store.read() as conn:
        return [job_document(job, time.time()) for job in jobs.find(conn)]


def _tail(stage: Setting) -> str:
    text = (stage.folder / "ebspub.log").read_text(encoding="utf-8", errors="replace")
    return "Its last words:\n" + "\n".join(text.splitlines()[-15:])
