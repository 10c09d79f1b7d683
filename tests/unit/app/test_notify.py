"""Notifications: a real program, a real web server and a topic are told; whatever goes wrong there changes nothing."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from ebspub.app.notify import notifying
from ebspub.app.release import Released
from ebspub.app.report import job_document
from ebspub.config import parse
from ebspub.errors import JobError
from ebspub.store import Job, Store, jobs, notices, releases, tables
from ebspub.store.leases import this_process
from tests.contract.store import rows

#: Keeps what it is told on stdin, and how it was called.
KEEP = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


@dataclass
class Hook:
    """A web server that is told; ``answers``: what it says, the last of them for ever."""

    port: int = 0
    answers: list[int] = field(default_factory=lambda: [204])
    told: list[tuple[dict[str, Any], str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/T0/secret-path"


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.told.append((json.loads(body), self.headers.get("Authorization", "")))
            self.send_response(found.answers.pop(0) if len(found.answers) > 1 else found.answers[0])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'ebspub.db'}") as found:
        yield found


@pytest.fixture
def failed(store: Store) -> Job:
    (job_id,) = rows.plan(store, rows.spec())
    return changed(store, job_id, status="failed", error={"message": "broken", "at": 1.0})


def changed(store: Store, job_id: str, **values: Any) -> Job:
    with store.write() as conn:
        conn.execute(tables.jobs.update().where(tables.jobs.c.id == job_id).values(**values))
        found = jobs.get(conn, job_id)
    assert found is not None
    return found


def tell(store: Store, text: str, *failed: Job) -> None:
    with notifying(parse(f"[notify]\n{text}"), store) as notifier:
        for job in failed:
            notifier.listen(job, "failed")


def kept(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def command(file: Path) -> str:
    return f"command = {json.dumps([sys.executable, '-c', KEEP, str(file)])}\n"


def test_a_program_and_a_server_are_told_of_a_failed_job_as_status_has_it(
    store: Store, failed: Job, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "Bearer s3cret")
    file = tmp_path / "a $(file); with spaces"
    text = command(file) + f'webhook = "{hook.url}"\nheaders = {{ Authorization = "TOKEN" }}'
    with notifying(parse(f"[notify]\n{text}"), store) as notifier:
        notifier.listen(failed, "failed")
        notifier.listen(failed, "retry")
        notifier.published()
        notifier.finished("run", 0, [failed])
    (document,) = kept(file)
    assert document["event"] == "failed"
    wanted = job_document(failed, 0.0)
    ours = {key: value for key, value in document["jobs"][0].items() if key != "elapsed"}
    assert ours == json.loads(json.dumps({key: value for key, value in wanted.items() if key != "elapsed"}))
    assert hook.told == [(document, "Bearer s3cret")]


def test_only_what_is_asked_for_is_told(store: Store, failed: Job, tmp_path: Path) -> None:
    file = tmp_path / "told"
    with notifying(parse('[notify]\non = "finished"\n' + command(file)), store) as notifier:
        notifier.listen(failed, "failed")
        notifier.finished("run", 3, [failed])
        notifier.finished("run", 75, [failed])
    (document,) = kept(file)
    assert (document["event"], document["command"], document["exit_code"]) == ("finished", "run", 3)
    assert [job["status"] for job in document["jobs"]] == ["failed"]


@pytest.fixture
def registered(store: Store) -> tuple[Job, Job]:
    first, second = (
        changed(store, job_id, state="registered", status="done", ami_id="ami-1", snapshot_id="snap-1", ended_at=1.0)
        for job_id in rows.plan(store, rows.spec(), rows.spec(region="eu-west-1"))
    )
    return first, second


def announce(store: Store, *found: Job, label: str = "release", state: str = "published") -> None:
    """Let jobs be public, as publishing them leaves it."""
    with store.write() as conn:
        releases.add(conn, found[0].spec, label, 1.0)
        release = releases.get(conn, releases.release_id(found[0].spec))
        assert release is not None
        lease = releases.claim(conn, release, owner=this_process(), now=1.0, until=9.0)
        assert lease is not None
        releases.announce(conn, release.id, lease, found, 2.0)
        told = {"state": state, "published_at": release.published_at or 2.0, "unpublished_at": 3.0, "label": label}
        releases.change(conn, release.id, lease, 2.0, **told)
        releases.give_back(conn, release.id, lease, 2.0)
        ended = releases.get(conn, release.id)
        assert ended is not None
        if state == "published":
            notices.add(conn, ended, time.time())


def tell_published(store: Store, text: str) -> None:
    with notifying(parse(f"[notify]\n{text}"), store) as notifier:
        notifier.published()


def pending(store: Store) -> list[bool]:
    """Return of each notice whether somebody is still to be told."""
    with store.read() as conn:
        return [ended_at is None for _, ended_at in notices.history(conn, ["lucid-server-20101020"])]


def test_a_build_that_became_public_is_told_once(store: Store, registered: tuple[Job, Job], tmp_path: Path) -> None:
    file, (first, second) = tmp_path / "told", registered
    for found, label in (
        ([first], "release"),
        ([first], "release"),
        ([first, second], "release"),
        ([first, second], "beta1"),
    ):
        announce(store, *found, label=label)
        tell_published(store, command(file))
    told = kept(file)
    assert [each["event"] for each in told] == ["published"] * 3
    assert [len(each["jobs"]) for each in told] == [1, 2, 2]
    assert [each["release"]["label"] for each in told] == ["release", "release", "beta1"]
    assert pending(store) == [False] * 3


def test_what_a_process_died_over_is_told_by_the_next_and_once_whoever_else_is_at_it(
    store: Store, registered: tuple[Job, Job], tmp_path: Path
) -> None:
    announce(store, *registered)
    gone, file = "/".join((*this_process().split("/")[:2], "1", "1", "x")), tmp_path / "told"
    with store.write() as conn:
        (taken,) = notices.take(conn, gone, time.time(), lambda _: time.time() + 1000)
    slow = f"command = {json.dumps([sys.executable, '-c', 'import time; time.sleep(1);' + KEEP, str(file)])}\n"
    with notifying(parse(f"[notify]\n{slow}"), store) as first, notifying(parse(f"[notify]\n{slow}"), store) as second:
        first.published()
        second.published()
    assert [len(each["jobs"]) for each in kept(file)] == [2]
    with store.write() as conn:  # who comes back from the dead takes nothing from who has told it
        notices.give_back(conn, taken, gone, set())
    assert pending(store) == [False]


def test_who_could_not_be_told_is_told_by_the_next_and_nobody_twice(
    store: Store, registered: tuple[Job, Job], hook: Hook, tmp_path: Path
) -> None:
    announce(store, *registered)
    file = tmp_path / "told"
    text = command(file) + f'webhook = "{hook.url}"'
    hook.answers = [403, 204]
    for left in (True, False, False):
        tell_published(store, text)
        assert pending(store) == [left]
    assert len(kept(file)) == 1
    assert len(hook.told) == 2


def test_who_cannot_be_told_for_a_day_is_given_up(store: Store, registered: tuple[Job, Job], hook: Hook) -> None:
    announce(store, *registered)
    with store.write() as conn:
        conn.execute(tables.notices.update().values(at=time.time() - 90_000))
    tell_published(store, _refused(hook))
    assert pending(store) == [False]


def test_nobody_is_told_later_of_what_was_taken_back_or_when_nobody_was_to_be(
    store: Store, registered: tuple[Job, Job], tmp_path: Path
) -> None:
    file = tmp_path / "told"
    announce(store, *registered)
    tell_published(store, "")
    tell_published(store, command(file))
    announce(store, *registered, label="beta1")
    announce(store, *registered, label="beta1", state="unpublished")
    tell_published(store, command(file))
    assert (kept(file), pending(store)) == ([], [False, False])


def test_a_release_that_failed_is_told_with_its_jobs(store: Store, registered: tuple[Job, Job], tmp_path: Path) -> None:
    announce(store, *registered)
    failed = Released("lucid-server-20101020", errors={"eu-west-1": JobError("it is down")})
    with notifying(parse("[notify]\n" + command(tmp_path / "told")), store) as notifier:
        notifier.finished("publish", 3, None, [failed])
    (document,) = kept(tmp_path / "told")
    assert (document["command"], [each["region"] for each in document["errors"]]) == ("publish", ["eu-west-1"])
    assert {each["id"] for each in document["jobs"]} == {job.id for job in registered}


def _nobody_listens(hook: Hook) -> str:
    return f'webhook = "http://127.0.0.1:1/{hook.port}"\ntimeout = 0.2'


def _refused(hook: Hook) -> str:
    hook.answers = [403]
    return f'webhook = "{hook.url}"'


FAULTS: dict[str, tuple[Callable[[Hook], str], str]] = {
    "no such program": (lambda _: 'command = ["/nowhere/hook"]', "/nowhere/hook cannot be started"),
    "exit status": (
        lambda _: f"command = {json.dumps([sys.executable, '-c', 'raise SystemExit(repr(dict(token=None)))'])}",
        "ended with exit status 1; what it said is not kept: run it by hand",
    ),
    "hangs": (lambda _: 'command = ["sh", "-c", "sleep 1000 & sleep 1000"]\ntimeout = 0.3', "did not end within 0.3 s"),
    "leaves others": (lambda _: 'command = ["sh", "-c", "sleep 1001 &"]\ntimeout = 0.3', "did not end within 0.3 s"),
    "reads nothing": (lambda _: 'command = ["false"]', "false ended with exit status 1"),
    "refused": (_refused, "127.0.0.1: answered 403"),
    "nobody listens": (_nobody_listens, "the webhook at 127.0.0.1: "),
    "no token": (
        lambda hook: f'webhook = "{hook.url}"\nheaders = {{ Authorization = "NO_SUCH" }}',
        "the environment variable NO_SUCH is not set",
    ),
    "no topic": (lambda _: 'sns = "arn:aws:sns:us-east-1:123456789012:none"\ntimeout = 1', "notify.sns: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_who_cannot_be_told_is_named_in_the_log_and_nothing_else_happens(
    store: Store, failed: Job, hook: Hook, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    text, wanted = FAULTS[fault]
    with caplog.at_level(logging.WARNING, logger="ebspub"), mock_aws():
        tell(store, text(hook), failed)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "ebspub.app.notify"]
    assert wanted in line
    assert "nobody was told of 'failed'" in line
    assert "secret" not in line
    assert "token" not in line.lower()


def test_a_server_that_is_busy_is_asked_again_and_its_url_may_be_a_secret(
    store: Store, failed: Job, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", hook.url)
    hook.answers = [503, 204]
    tell(store, 'webhook_env = "HOOK"', failed)
    assert len(hook.told) == 2


def test_a_topic_gets_the_document_or_its_outcomes(store: Store, failed: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    with mock_aws():
        topic = boto3.client("sns", region_name="us-east-1").create_topic(Name="images")["TopicArn"]
        sqs = boto3.client("sqs", region_name="us-east-1")
        queue = sqs.create_queue(QueueName="told")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        boto3.client("sns", region_name="us-east-1").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        with notifying(parse(f'[notify]\nsns = "{topic}"'), store) as notifier:
            notifier.listen(failed, "failed")
            notifier.finished("run", 3, [failed] * 500)
        messages = [sqs.receive_message(QueueUrl=queue)["Messages"][0]["Body"] for _ in range(2)]
    small, large = (json.loads(json.loads(body)["Message"]) for body in messages)
    assert small["jobs"][0]["error"]["message"] == "broken"
    assert (large["shortened"], len(large["jobs"]), large["exit_code"]) == (True, 500, 3)
    assert large["counts"] == {"jobs": 500, "statuses": {"failed": 500}, "errors": 0}
    assert large["jobs"][0] == {"id": failed.id, "status": "failed", "ami_id": None, "error": {"message": "broken"}}
