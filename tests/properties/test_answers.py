"""Whatever answers in EC2's place: a value or an AwsError, never a traceback, an endless loop or a false "done"."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.aws import parameters
from ebspub.aws.answers import MAX_PAGES
from ebspub.aws.clients import BotoClients, RegionClients
from ebspub.aws.failures import AwsError, Cause
from tests.properties.calls import CHANGERS, LISTS, MAKERS, READERS, REGION, Call
from tests.properties.examples import examples
from tests.properties.garbled import answers, json_answers, spoilt
from tests.properties.wire import Answer, Sent, wire

STS = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>"
    "</GetCallerIdentityResponse>"
)
XHTML = b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body><p>Sign in</p></body></html>'


def ids(table: dict[str, tuple[Call, str]]) -> list[object]:
    return [pytest.param(*row, id=name.replace(" ", "-")) for name, row in table.items()]


def reply(body: bytes, _: Sent) -> Answer:
    return Answer(body)


def told(error: AwsError, answer: Answer | None = None) -> None:
    """See that an error says something, and is sure of nothing that it cannot know from ``answer``."""
    assert error.action
    assert error.code
    assert error.message.strip()
    assert answer is None or not error.definite or answer.refusal


@pytest.mark.parametrize(("call", "good"), ids(READERS))
def test_a_right_answer_is_understood(clients: RegionClients, call: Call, good: str) -> None:
    with wire(lambda _: Answer(good.encode())) as sent:
        assert call(clients.writer) or READERS["clock"][0] is call
    assert sent.changes == []


@pytest.mark.parametrize(("call", "good"), ids(READERS))
@examples(15)
@given(data=st.data())
def test_what_is_read_is_a_value_or_an_error_of_aws(
    clients: RegionClients, call: Call, good: str, data: st.DataObject
) -> None:
    answer = data.draw(answers(good))
    with wire(lambda _: answer) as sent:
        try:
            call(clients.writer)
        except AwsError as error:
            told(error, answer)
    assert sent.changes == []
    assert len(sent.sent) <= 2


@pytest.mark.parametrize(("call", "good"), ids(LISTS))
def test_an_answer_without_its_list_is_not_an_empty_one(clients: RegionClients, call: Call, good: str) -> None:
    root = ET.fromstring(good)
    bare = ET.Element(root.tag)
    empty = ET.fromstring(good)
    empty[1].clear()
    for body in (ET.tostring(bare), XHTML):
        with wire(partial(reply, body)), pytest.raises(AwsError) as caught:
            call(clients.writer)
        assert caught.value.cause is Cause.TRANSIENT
    with wire(lambda _: Answer(ET.tostring(empty))):
        call(clients.writer)


@pytest.mark.parametrize(("call", "good"), ids({k: v for k, v in LISTS.items() if k.startswith(("view", "owned"))}))
def test_a_thing_without_its_id_or_its_tags_is_not_passed_over(clients: RegionClients, call: Call, good: str) -> None:
    """What is not seen is taken for gone, and made again."""
    lacking = 0
    for tag in ("instanceId", "volumeId", "snapshotId", "imageId", "groupId", "name", "tagSet", "instancesSet"):
        root = ET.fromstring(good)
        places = [(parent, child) for parent in root.iter("item") for child in parent if child.tag == tag]
        if not places:
            continue
        places[0][0].remove(places[0][1])
        with wire(partial(reply, ET.tostring(root))):
            try:
                found = call(clients.writer)
            except AwsError as error:
                told(error)
                lacking += 1
            else:
                # Volume ids of a snapshot, states of an instance: what the thing can be known without.
                assert len(found) == 1
    assert lacking >= 2


@pytest.mark.parametrize(("call", "good"), ids({"images": LISTS["view of image"], "volumes": LISTS["owned volume"]}))
def test_pages_without_an_end_are_an_error(clients: RegionClients, call: Call, good: str) -> None:
    tokens = itertools.count()

    def another(fresh: bool, _: Sent) -> Answer:
        more = f"<nextToken>{next(tokens) if fresh else 'again'}</nextToken>"
        head, _slash, tail = good.rpartition("</")
        return Answer(f"{head}{more}</{tail}".encode())

    for fresh, most in ((False, 2), (True, MAX_PAGES + 1)):
        with wire(partial(another, fresh)) as sent, pytest.raises(AwsError, match="no end"):
            call(clients.writer)
        assert len(sent.sent) <= most


@pytest.mark.parametrize(("call", "good"), ids(MAKERS))
@examples(25)
@given(data=st.data())
def test_what_makes_a_thing_tells_its_id_or_is_not_sure(
    clients: RegionClients, call: Call, good: str, data: st.DataObject
) -> None:
    """An answer that cannot be read leaves the intent open: only a refusal of EC2's own says that nothing was made."""
    answer = data.draw(answers(good))
    with wire(lambda _: answer) as sent:
        try:
            made = call(clients.writer)
        except AwsError as error:
            told(error, answer)
        else:
            assert made
            assert made.isprintable()
            assert answer.status <= 300
    assert len(sent.sent) == 1


@pytest.mark.parametrize(("call", "good"), ids(CHANGERS))
@examples(15)
@given(data=st.data())
def test_what_changes_a_thing_is_done_only_if_ec2_says_so(
    clients: RegionClients, call: Call, good: str, data: st.DataObject
) -> None:
    answer = data.draw(answers(good))
    with wire(lambda _: answer) as sent:
        try:
            call(clients.writer)
        except AwsError as error:
            told(error, answer)
        else:
            assert answer.status <= 300
            root = ET.fromstring(answer.body).tag
            assert root.endswith("Response")
            assert root != "Response"
    assert len(sent.sent) == 1


@examples(40)
@given(answer=json_answers())
def test_a_parameter_is_an_id_or_an_error(clients: RegionClients, answer: Answer) -> None:
    with wire(lambda _: answer):
        try:
            assert parameters.image_id(clients.ssm, "ssm:/x").strip()
        except AwsError as error:
            told(error)


@examples(25)
@given(answer=st.one_of(spoilt(STS), answers(STS)))
def test_an_account_is_known_or_an_error(boto: BotoClients, answer: Answer) -> None:
    # As if it had not been asked yet: to make clients anew takes longer than all the rest.
    boto._accounts.clear()
    boto._refusals.clear()
    with wire(lambda _: answer):
        try:
            assert boto.account(REGION).strip()
        except AwsError as error:
            told(error)


@pytest.fixture(scope="module")
def boto() -> BotoClients:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        return BotoClients()


def test_an_answer_of_many_megabytes_is_read(clients: RegionClients) -> None:
    call, good = LISTS["view of volume"]
    item = good[good.index("<item>") : good.rindex("</volumeSet>")]
    with wire(lambda _: Answer(good.replace(item, item * 10_000).encode())):
        assert len(call(clients.writer)) == 1
