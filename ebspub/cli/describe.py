"""Jobs in words: what the documents of :mod:`ebspub.app.report` say in a line or a cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ebspub.cli.output import clean, columns, duration, plural, size

Document = Mapping[str, Any]
#: The id that a completed step is known by.
ID_OF_STATE = {
    "launched": "instance_id",
    "attached": "volume_id",
    "populated": "volume_id",
    "snapshotted": "snapshot_id",
    "registered": "ami_id",
}
#: Bytes of a block of a snapshot (EBS direct APIs).
_BLOCK = 512 * 1024
IDS = ("instance_id", "volume_id", "snapshot_id", "ami_id")
#: In this order: what needs a person first, what is through last.
STATUSES = ("failed", "interrupted", "cancelling", "running", "waiting", "cancelled", "done")


def group(job: Document) -> str:
    """Return the build that a job belongs to: `lucid-server-20101020`."""
    return f"{job['suite']}-{job['build']}-{job['serial']}"


def percent(progress: Document) -> str:
    """Return how much is done, `45%`, or nothing where that is not known."""
    share = progress.get("percent")
    done, total = progress.get("done"), progress.get("total")
    if share is None and isinstance(done, int | float) and isinstance(total, int | float) and total > 0:
        share = 100 * min(done / total, 1.0)
    text = str(share).rstrip("%") if share is not None else ""
    return f"{float(text):.0f}%" if text.replace(".", "", 1).isdigit() else ""


def doing(job: Document) -> str:
    """Return what happens to a job now: `populate: copy 45% (1.2 GiB of 2.7 GiB)`."""
    step, progress = job["step"] or "", job["progress"] or {}
    if job["status"] not in ("running", "cancelling"):
        return step
    what = clean(str(progress.get("what") or progress.get("phase") or ""))
    share, total = percent(progress), progress.get("total")
    if share and total:
        share = f"{share} ({size(progress.get('done') or 0)} of {size(total)})"
    text = " ".join(filter(None, (what, share)))
    return f"{step}: {text}" if text else step


def error_text(error: Document) -> str:
    """Return an error on one line: `register: no such image (InvalidAMIID.NotFound, RequestId 1a2b...)`."""
    message, code = clean(error["message"]), error["code"]
    request = f"RequestId {error['request_id']}" if error["request_id"] else ""
    about = ", ".join(filter(None, (code, request)))
    step = f"{error['step']}: " if error["step"] else ""
    return f"{step}{message}{f' ({about})' if about else ''}"


def standing_error(job: Document) -> Document | None:
    """Return the error that a person may want to see: that of a job which has not ended."""
    return None if job["status"] in ("done", "cancelled") else job["error"]


def counted(jobs: Iterable[Document]) -> str:
    """Return how many jobs are in each status: `2 failed, 12 registered`."""
    found = [job["status"] for job in jobs]
    words = {"done": "registered"}
    return ", ".join(f"{found.count(each)} {words.get(each, each)}" for each in STATUSES if each in found)


def lines(jobs: Sequence[Document]) -> list[str]:
    """Return jobs as a table for pipes: one line a job, every column whole, however wide."""
    head = ("JOB", "STATE", "STATUS", "TRY", "ELAPSED", "INSTANCE", "VOLUME", "SNAPSHOT", "AMI", "NOW")
    rows: list[tuple[str, ...]] = [head]
    for job in jobs:
        error = standing_error(job)
        now = "; ".join(filter(None, (doing(job), f"last error: {error_text(error)}" if error else "")))
        ids = tuple(job[each] or "" for each in IDS)
        start = (job["id"], job["state"], job["status"], str(job["attempt"]), duration(job["elapsed"]))
        rows.append((*start, *ids, now or "-"))
    return columns(rows)


def heading(jobs: Sequence[Document]) -> str:
    """Return the line above the jobs of one build."""
    return f"{group(jobs[0])} {jobs[0]['label']}: {plural(len(jobs), 'job')}, {counted(jobs)}"


def proof(source: Document) -> str:
    """Return what proves a source, in words; loud where nothing does."""
    if source["verify"] == "signature":
        return f"signed by {source['signer']}" if source["signer"] else "not looked at"
    if source["verify"] == "none":
        return 'NOT PROVED (verify = "none")'
    return "sha256 in the configuration" if not source["sums_url"] else "sha256 in a list"


def parent(facts: Document) -> str:
    """Return the snapshot from which an upload began, or why there was none; empty where none was wanted."""
    reason = clean(str(facts.get("parent_reason") or ""))
    return str(facts.get("parent") or "") or (f"none: {reason}" if reason else "")


def sent(facts: Document) -> str:
    """Return what an upload sent: `9 blocks (4.5 MiB); 40 have data`. Empty for other methods, and before its end."""
    count = facts.get("blocks_sent")
    return "" if count is None else f"{plural(count, 'block')} ({size(count * _BLOCK)}); {facts['blocks']} have data"


def boot(instance_type: str, told: Document) -> str:
    """Return the outcome of a test boot in words: `m5.large: verified, identity lucid 20101020, file kept`."""
    how = told["message"] or f"identity {told['identity']}, file {told['file']}"
    return f"{instance_type}: {told['result']} {told['at']}, {clean(how)}"
