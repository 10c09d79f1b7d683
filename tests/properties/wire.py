"""Stands where botocore sends its requests: what was sent is written down, what is answered is the test's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.httpsession import URLLib3Session

_READING = ("Describe", "Get", "List")


@dataclass(frozen=True)
class Sent:
    """One request: the action, and EC2's parameters."""

    action: str
    parameters: dict[str, str]

    @property
    def changes(self) -> bool:
        """Whether it would change something in an account."""
        return not self.action.startswith(_READING) and self.parameters.get("DryRun") != "true"


@dataclass(frozen=True)
class Answer:
    """What comes back. ``refusal``: EC2 itself says no, with a code of its own."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refusal: bool = False


Answering = Callable[[Sent], Answer]


@dataclass
class Wire:
    """What was sent so far."""

    sent: list[Sent] = field(default_factory=list)

    @property
    def changes(self) -> list[str]:
        """Return the actions that would have changed something."""
        return [each.action for each in self.sent if each.changes]


@dataclass
class _Raw:
    body: bytes

    def stream(self) -> Iterator[bytes]:
        yield self.body


@contextmanager
def wire(answering: Answering) -> Iterator[Wire]:
    """Answer every request of every client by ``answering``; nothing reaches the network, nothing waits."""
    found = Wire()

    def send(_session: URLLib3Session, request: Any) -> AWSResponse:
        sent = _read(request)
        found.sent.append(sent)
        answer = answering(sent)
        return AWSResponse(request.url, answer.status, HTTPHeaders.from_dict(answer.headers), _Raw(answer.body))

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(URLLib3Session, "send", send))
        # Between tries botocore sleeps, and after a throttled one it holds the next back.
        stack.enter_context(mock.patch("botocore.endpoint.time", mock.Mock(sleep=lambda _seconds: None)))
        stack.enter_context(mock.patch("botocore.retries.bucket.TokenBucket.acquire", return_value=True))
        yield found


def _read(request: Any) -> Sent:
    target = request.headers.get("X-Amz-Target")
    if target:
        return Sent((target.decode() if isinstance(target, bytes) else target).rpartition(".")[2], {})
    body = request.body.decode() if isinstance(request.body, bytes) else request.body or ""
    parameters = {key: values[0] for key, values in parse_qs(body).items()}
    return Sent(parameters.get("Action", "?"), parameters)
