"""What an instance wrote to its console, as far as EC2 shows it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.stub import Stubber

from ebspub.aws import instances
from ebspub.aws.clients import RegionClients
from ebspub.aws.instances import Console


def test_the_console_is_decoded(clients: RegionClients, stub: Stubber) -> None:
    posted = datetime(2010, 10, 20, tzinfo=UTC)
    answer = {"Output": "ebspub: shutting down\n", "Timestamp": posted}
    stub.add_response("get_console_output", answer, {"InstanceId": "i-1"})
    stub.add_response("get_console_output", {"InstanceId": "i-1"}, {"InstanceId": "i-1"})
    assert instances.console(clients.writer, "i-1") == Console("ebspub: shutting down\n", posted.timestamp())
    assert instances.console(clients.writer, "i-1") == Console()


@pytest.mark.parametrize(
    ("now", "new"),
    [
        (Console("boot\nlogin:", 5.0), ""),  # EC2 has posted nothing yet
        (Console("boot\nlogin:\ngoing down", 6.0), "\ngoing down"),  # posted late, but of the boot before
        (Console("boot", 6.0), "boot"),
        (Console("boot\nlogin:", 6.0), "boot\nlogin:"),
        (Console("other boot", 4.0), ""),
        (Console("", 6.0), ""),
    ],
)
def test_a_console_tells_what_is_newer_than_one_before(now: Console, new: str) -> None:
    assert now.since(Console("boot\nlogin:", 5.0)) == new


def test_where_ec2_does_not_say_when_a_console_was_posted_its_words_tell_what_is_new() -> None:
    assert Console("login:").since(Console("login:")) == ""
    assert Console("second login:").since(Console("login:")) == "second login:"
