"""Clients: readers are patient, writers never repeat a call by themselves, and boto3's own configuration applies."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ebspub import __version__
from ebspub.aws import images, snapshots
from ebspub.aws.clients import BotoClients, RegionClients
from ebspub.aws.failures import AwsError, Cause


class Ec2(http.server.BaseHTTPRequestHandler):
    """Answers as it is told to, and counts."""

    calls: list[str]
    status: int
    body: bytes

    def do_POST(self) -> None:
        self.calls.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has in the base class
        pass


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Ec2]]:
    """Run an EC2 on the loopback interface, found through the standard configuration."""
    handler = type("Handler", (Ec2,), {"calls": [], "status": 503, "body": b"<html>try again later</html>"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        monkeypatch.setattr("time.sleep", lambda _: None)
        yield handler
        server.shutdown()


def test_a_writer_sends_a_call_once_and_a_reader_asks_again(ec2: type[Ec2]) -> None:
    clients = BotoClients().region("us-east-1")
    with pytest.raises(AwsError) as told:
        snapshots.create(clients.writer, {"volume": "vol-1", "description": ""}, tags={})
    assert len(ec2.calls) == 1
    assert told.value.cause is Cause.TRANSIENT
    assert not told.value.definite
    ec2.calls.clear()
    with pytest.raises(AwsError):
        images.get(clients.reader, "ami-1")
    assert len(ec2.calls) == 4
    _close(clients)


def test_an_answer_that_is_cut_off_says_nothing(ec2: type[Ec2]) -> None:
    ec2.status, ec2.body = 200, b"<CreateSnapshotResponse><snapshotId>snap-"
    clients = BotoClients().region("us-east-1")
    with pytest.raises(AwsError) as told:
        snapshots.create(clients.writer, {"volume": "vol-1", "description": ""}, tags={})
    assert (told.value.cause, told.value.definite) == (Cause.TRANSIENT, False)
    assert len(ec2.calls) == 1
    _close(clients)


def config_of(client: Any) -> Any:
    """Return the configuration of a client, whose fields botocore's stubs do not know."""
    return client.meta.config


def _close(clients: RegionClients) -> None:
    for client in (clients.reader, clients.writer, clients.ssm):
        client.close()


def test_how_clients_repeat_calls(clients: RegionClients) -> None:
    for client in (clients.reader, clients.ssm):
        assert config_of(client).retries == {"mode": "adaptive", "total_max_attempts": 4}
    assert config_of(clients.writer).retries == {"mode": "standard", "total_max_attempts": 1}
    for client in (clients.reader, clients.writer, clients.ssm):
        config = config_of(client)
        assert (config.connect_timeout, config.read_timeout) == (10, 45)
        assert config.user_agent_extra == f"ebspub/{__version__}"


def test_there_are_connections_enough_for_the_workers() -> None:
    clients = BotoClients(workers=32).region("us-east-1")
    assert config_of(clients.writer).max_pool_connections == 32
    assert config_of(clients.reader).max_pool_connections == 32


def test_threads_that_ask_at_once_share_a_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    made, start = BotoClients(), threading.Barrier(4)

    def ask(region: str) -> RegionClients:
        start.wait(20)
        return made.region(region)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, ["us-east-1", "eu-west-1", "us-east-1", "eu-west-1"]))
    assert found[0] is found[2]
    assert found[1] is found[3]
    assert [clients.writer.meta.region_name for clients in found[:2]] == ["us-east-1", "eu-west-1"]


def test_the_account_is_asked_for_once_per_partition(ec2: type[Ec2]) -> None:
    ec2.status, ec2.body = (
        200,
        (
            b"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account>"
            b"</GetCallerIdentityResult></GetCallerIdentityResponse>"
        ),
    )
    clients = BotoClients()
    assert {clients.account("us-east-1"), clients.account("eu-west-1")} == {"123456789012"}
    assert len(ec2.calls) == 1
    clients.account("cn-north-1")
    assert len(ec2.calls) == 2


def test_a_profile_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(AwsError, match="no-such-profile") as told:
        BotoClients()
    assert told.value.cause is Cause.CREDENTIALS
    assert "Give valid AWS credentials" in told.value.todo


def test_no_credentials_are_told_before_anything_is_sent(ec2: type[Ec2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    clients = BotoClients().region("us-east-1")
    with pytest.raises(AwsError) as told:
        snapshots.delete(clients.writer, "snap-1")
    assert (told.value.cause, told.value.definite, ec2.calls) == (Cause.CREDENTIALS, True, [])


def test_a_place_where_nobody_listens_is_surely_not_reached(ec2: type[Ec2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    clients = BotoClients().region("us-east-1")
    with pytest.raises(AwsError) as told:
        snapshots.delete(clients.writer, "snap-1")
    assert (told.value.code, told.value.cause, told.value.definite) == (
        "EndpointConnectionError",
        Cause.THROTTLED,
        True,
    )
