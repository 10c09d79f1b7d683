"""`ebspub show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebspub.cli import complete, describe, options, output

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ebspub.config import Config
    from ebspub.store import Resource
    from ebspub.store.releases import Release

Document = Mapping[str, Any]


def show(
    ctx: typer.Context,
    *,
    job_id: Annotated[
        str,
        typer.Argument(
            metavar="JOB|BUILD",
            help="Id of a job, or of a build that was published: suite-build-serial.",
            autocompletion=complete.job_ids,
        ),
    ],
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    verbose: options.Verbose = False,  # noqa: ARG001 - its callback has done the work
) -> None:
    """Show the history of a job, or of a published build.

    Every transition and every call to AWS in order of time, and what the job made. --json prints {"job": {...},
    "history": [...], "resources": [...]}; "record" in the history is "event" or "call". Of a build: {"release": {...},
    "history": [...]}.

    Examples:
      ebspub show lucid-server-20101020-amd64-us-east-1
      ebspub show lucid-server-20101020
      ebspub show lucid-server-20101020-amd64-us-east-1 --json | jq '.resources[] | select(.presence != "gone")'
    """
    document = _document(options.configuration(ctx, config), job_id)
    if as_json:
        output.out_json(document)
        return
    if "release" in document:
        for line in [*_release(document["release"]), "", *_history(document["history"])]:
            output.out(line)
        return
    for line in [*_facts(document["job"]), "", *_history(document["history"]), "", *_resources(document["resources"])]:
        output.out(line)


def _document(config: Config, job_id: str) -> dict[str, Any]:
    from ebspub.app import report
    from ebspub.clock import SystemClock
    from ebspub.errors import UsageError
    from ebspub.store import effects, events, jobs, releases

    options.require_store(config, [job_id])
    with options.existing_store(config) as store:
        assert store is not None
        with store.read() as conn:
            job = jobs.get(conn, job_id)
            release = releases.get(conn, job_id if job is None else releases.release_id(job.spec))
            if job is None and release is not None:
                return _release_document(conn, release)
            if job is None:
                raise UsageError(f"no such job: {job_id}", todo="`ebspub status` lists the jobs.")
            happened, called = events.history(conn, job_id), effects.history(conn, job_id)
            shared = releases.history(conn, [release.id], job_id=job_id) if release is not None else []
    made = {each.id: each for each in job.resources}
    # Where the clock shows the same time for both, the event goes first: it made way for the call.
    records = [(each.at, 0, {"record": "event", **report.event_document(each)}) for each in happened]
    records += [(each.opened_at, 1, {"record": "call", **report.effect_document(each, made)}) for each in called]
    records += [(each.opened_at, 2, {"record": "call", **report.change_document(each)}) for each in shared]
    return {
        "job": report.job_document(job, SystemClock().now()),
        "history": [document for _, _, document in sorted(records, key=lambda record: record[:2])],
        "resources": [_resource(each) for each in job.resources],
    }


def _release_document(conn: Connection, release: Release) -> dict[str, Any]:
    from ebspub.app import report
    from ebspub.store import releases

    known = releases.jobs_of(conn, release.suite, release.build, release.serial)
    public = {each.job_id for each in releases.announced(conn)}
    made = [{"record": "call", **report.change_document(each)} for each in releases.history(conn, [release.id])]
    return {"release": report.release_document(release, known, public), "history": made}


def _release(release: Document) -> list[str]:
    rows = [
        ("label", release["label"]),
        ("state", release["state"]),
        ("published", release["published_at"]),
        ("unpublished", release["unpublished_at"]),
        *(("error", output.clean(what)) for what in (release["error"] or {}).values()),
    ]
    jobs = [("JOB", "STATUS", "PUBLIC", "AMI")]
    jobs += [(j["id"], j["status"], "yes" if j["public"] else "no", j["ami_id"] or "-") for j in release["jobs"]]
    facts = output.columns([(name, value) for name, value in rows if value], indent="  ")
    return [release["id"], *facts, "", "jobs", *output.columns(jobs, indent="  ")]


def _resource(resource: Resource) -> dict[str, Any]:
    from ebspub.clock import isoformat

    times = {name: getattr(resource, name) for name in ("intended_at", "made_at", "leaving_at", "gone_at")}
    return {
        "kind": resource.kind.value,
        "id": resource.resource_id,
        "purpose": resource.purpose,
        "attempt": resource.attempt,
        "region": resource.region,
        "presence": resource.presence.value,
        **{name: None if at is None else isoformat(at) for name, at in times.items()},
    }


def _facts(job: Document) -> list[str]:
    error = job["error"]
    label = f", {job['label']}" if job["label"] else ""
    rows = [
        ("name", job["name"]),
        ("build", f"{describe.group(job)} {job['arch']} in {job['region']}{label}"),
        ("account", job["account"]),
        ("source", job["source"]["url"]),
        ("sha256", job["source"]["sha256"] or job["facts"].get("sha256")),
        ("proof", describe.proof(job["source"])),
        ("way", f"copy of the snapshot of {job['copy_of']}" if job["copy_of"] else job["way"]),
        ("parent", describe.parent(job["facts"])),
        ("sent", describe.sent(job["facts"])),
        ("digest", job["facts"].get("digest")),
        *(("verified", describe.boot(kind, told)) for kind, told in job["facts"].get("verified", {}).items()),
        ("state", f"{job['state']}, {job['status']}, attempt {job['attempt']}"),
        ("now", describe.doing(job)),
        ("elapsed", f"{output.duration(job['elapsed'])}, planned {job['created_at']}"),
        *((name.removesuffix("_id"), job[name]) for name in describe.IDS),
        ("error", f"{error['at']} {describe.error_text(error)}" if error else ""),
        ("todo", output.clean(error["todo"]) if error else ""),
    ]
    return [job["id"], *output.columns([(name, value) for name, value in rows if value], indent="  ")]


def _history(history: list[Document]) -> list[str]:
    rows = [_event(each) if each["record"] == "event" else _call(each) for each in history]
    return ["history", *output.columns(rows, indent="  ")]


def _event(event: Document) -> tuple[str, ...]:
    change = f"{event['from']} -> {event['to']}" if event["to"] else ""
    facts = event["facts"]
    ids = ", ".join(str(facts[each]) for each in describe.IDS if facts.get(each))
    request = f"RequestId {facts['request_id']}" if facts.get("request_id") else ""
    message = output.clean(event["message"])
    told = " ".join(filter(None, (change, ids, message, request)))
    return (event["at"], str(event["attempt"]), event["action"], _seconds(facts.get("seconds")), told)


def _call(call: Document) -> tuple[str, ...]:
    error = describe.error_text(call["error"]) if call["error"] else ""
    status = "" if call["status"] == "done" else call["status"]
    told = " ".join(filter(None, (call["target"], status, error)))
    attempt = "" if call["attempt"] is None else str(call["attempt"])
    return (call["at"], attempt, f"  {call['action']}", _seconds(call["seconds"]), told)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}s"


def _resources(resources: list[Document]) -> list[str]:
    head = ("KIND", "ID", "PURPOSE", "TRY", "PRESENCE", "SINCE")
    rows: list[tuple[str, ...]] = [head] if resources else []
    for each in resources:
        since = {"intended": each["intended_at"], "present": each["made_at"], "gone": each["gone_at"]}
        start = (each["kind"], each["id"] or "", each["purpose"], str(each["attempt"]), each["presence"])
        rows.append((*start, since[each["presence"]] or ""))
    return ["resources", *(output.columns(rows, indent="  ") or ["  none"])]
