"""A region at one moment: asked for no more than is wanted, and silent about nothing that it was not asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from botocore.stub import ANY, Stubber

from ebspub.aws import images
from ebspub.aws.clients import RegionClients
from ebspub.aws.failures import AwsError
from ebspub.aws.view import RegionView, look
from ebspub.states import Kind

FILTERS = [{"Name": "tag:ebspub:store", "Values": ["store"]}, {"Name": "tag:ebspub:job", "Values": ["job"]}]
TAGS = [
    {"Key": "ebspub:store", "Value": "store"},
    {"Key": "ebspub:job", "Value": "job"},
    {"Key": "ebspub:token", "Value": "token"},
]
NAMED = {
    "Owners": ["self"],
    "Filters": [{"Name": "name", "Values": ["lucid"]}],
    "IncludeDisabled": True,
}
#: Kind: EC2's action, what it is sent, an answer, and the id of the one thing in it.
ASKED: dict[Kind, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    Kind.INSTANCE: (
        "describe_instances",
        {"Filters": FILTERS, "MaxResults": 1000},
        {"Reservations": [{"Instances": [{"InstanceId": "i-1", "Tags": TAGS}]}]},
        "i-1",
    ),
    Kind.VOLUME: (
        "describe_volumes",
        {"Filters": FILTERS, "MaxResults": 500},
        {"Volumes": [{"VolumeId": "vol-1", "Tags": TAGS}]},
        "vol-1",
    ),
    Kind.SNAPSHOT: (
        "describe_snapshots",
        {"OwnerIds": ["self"], "Filters": FILTERS, "MaxResults": 1000},
        {"Snapshots": [{"SnapshotId": "snap-1", "Tags": TAGS}]},
        "snap-1",
    ),
    Kind.IMAGE: ("describe_images", NAMED, {"Images": [{"ImageId": "ami-1", "Name": "lucid", "Tags": TAGS}]}, "ami-1"),
    Kind.GROUP: (
        "describe_security_groups",
        {"Filters": FILTERS, "MaxResults": 1000},
        {"SecurityGroups": [{"GroupId": "sg-1", "Tags": TAGS}]},
        "sg-1",
    ),
}
GETTERS: dict[Kind, Callable[[RegionView, str | None], Any]] = {
    Kind.INSTANCE: RegionView.instance,
    Kind.VOLUME: RegionView.volume,
    Kind.SNAPSHOT: RegionView.snapshot,
    Kind.IMAGE: RegionView.image,
    Kind.GROUP: RegionView.group,
}


def view(clients: RegionClients, *kinds: Kind, jobs: Sequence[str] = ("job",)) -> RegionView:
    """Look at the region."""
    return look(clients.writer, store="store", jobs=jobs, names=["lucid"], kinds=kinds, at=17.0)


@pytest.mark.parametrize("kind", Kind)
def test_only_the_kinds_that_are_wanted_are_asked_for(clients: RegionClients, stub: Stubber, kind: Kind) -> None:
    action, sent, answer, found = ASKED[kind]
    stub.add_response(action, answer, sent)  # any other call has no answer here, and fails
    seen = view(clients, kind)
    assert (seen.at, seen.asked) == (17.0, frozenset({kind}))
    thing = GETTERS[kind](seen, found)
    assert thing.id == found
    assert GETTERS[kind](seen, None) is None
    assert GETTERS[kind](seen, "no-such-thing") is None
    assert seen.by_token(kind, "token") == thing
    assert seen.by_token(kind, "other") is None
    assert seen.of_job(kind, "job") == [thing]
    assert seen.of_job(kind, "other") == []
    for other in set(Kind) - {kind}:
        for question in (
            lambda other=other: GETTERS[other](seen, found),
            lambda other=other: GETTERS[other](seen, None),
            lambda other=other: seen.by_token(other, "token"),
            lambda other=other: seen.of_job(other, "job"),
        ):
            with pytest.raises(LookupError, match=other.value):
                question()


def test_a_view_that_was_not_asked_for_images_does_not_say_that_a_name_is_free() -> None:
    seen = RegionView(at=0.0, asked=frozenset({Kind.VOLUME}))
    with pytest.raises(LookupError, match="image"):
        seen.images_named("lucid")


def test_all_kinds_at_once(clients: RegionClients, stub: Stubber) -> None:
    for action, sent, answer, _ in ASKED.values():
        stub.add_response(action, answer, sent)
    seen = view(clients, *ASKED)
    assert {kind: set(found) for kind, found in seen.things.items()} == {k: {a[3]} for k, a in ASKED.items()}


def test_what_is_gone_is_seen_but_not_found_as_ours(clients: RegionClients, stub: Stubber) -> None:
    ended = {"InstanceId": "i-1", "State": {"Name": "terminated"}, "Tags": TAGS}
    going = {"InstanceId": "i-2", "State": {"Name": "shutting-down"}, "Tags": TAGS}
    stub.add_response("describe_instances", {"Reservations": [{"Instances": [ended]}, {"Instances": [going]}]})
    image = {"ImageId": "ami-1", "Name": "lucid", "State": "deregistered", "Tags": TAGS}
    stub.add_response("describe_images", {"Images": [image, {"ImageId": "ami-2", "Name": "lucid", "State": "failed"}]})
    seen = view(clients, Kind.INSTANCE, Kind.IMAGE)
    assert [thing.id for thing in seen.of_job(Kind.INSTANCE, "job")] == ["i-2"]
    found = seen.by_token(Kind.INSTANCE, "token")
    assert found is not None
    assert found.id == "i-2"
    gone = seen.instance("i-1")
    assert gone is not None
    assert gone.state == "terminated"
    assert [named.id for named in seen.images_named("lucid")] == ["ami-2"]
    assert seen.images_named("lucid-2") == []
    assert seen.by_token(Kind.IMAGE, "token") is None


def test_many_jobs_are_asked_for_in_as_few_calls_as_ec2_takes(clients: RegionClients, stub: Stubber) -> None:
    jobs = [f"job-{number:03d}" for number in range(450)]
    for start in (0, 200, 400):
        filters = [FILTERS[0], {"Name": "tag:ebspub:job", "Values": jobs[start : start + 200]}]
        answer = {"Volumes": [{"VolumeId": f"vol-{start}", "Tags": TAGS}]}
        stub.add_response("describe_volumes", answer, {"Filters": filters, "MaxResults": 500})
    assert set(view(clients, Kind.VOLUME, jobs=jobs).things[Kind.VOLUME]) == {"vol-0", "vol-200", "vol-400"}


def test_all_pages_are_seen(clients: RegionClients, stub: Stubber) -> None:
    sent = {"Filters": FILTERS, "MaxResults": 500}
    stub.add_response("describe_volumes", {"Volumes": [{"VolumeId": "vol-1", "Tags": TAGS}], "NextToken": "more"}, sent)
    stub.add_response(
        "describe_volumes", {"Volumes": [{"VolumeId": "vol-2", "Tags": TAGS}]}, {**sent, "NextToken": "more"}
    )
    assert set(view(clients, Kind.VOLUME).things[Kind.VOLUME]) == {"vol-1", "vol-2"}


def test_a_view_is_whole_or_not_at_all(clients: RegionClients, stub: Stubber) -> None:
    stub.add_response(*ASKED[Kind.VOLUME][:1], ASKED[Kind.VOLUME][2])
    stub.add_client_error("describe_snapshots", "RequestLimitExceeded", "slow down", 503)
    with pytest.raises(AwsError, match="slow down"):
        view(clients, Kind.VOLUME, Kind.SNAPSHOT)


@pytest.mark.parametrize(
    ("name", "escaped"), [("lucid", "lucid"), ("a*b?c", "a\\*b\\?c"), ("back\\slash", "back\\\\slash"), ("[x]", "[x]")]
)
def test_a_name_is_meant_literally(clients: RegionClients, stub: Stubber, name: str, escaped: str) -> None:
    stub.add_response("describe_images", {"Images": []}, {**NAMED, "Filters": [{"Name": "name", "Values": [escaped]}]})
    assert images.named(clients.writer, [name]) == []


def test_an_image_is_found_by_id_or_is_none(clients: RegionClients, stub: Stubber) -> None:
    """By a filter: a list of ids would be refused as a whole for one that EC2 hides."""
    stub.add_response("describe_images", {"Images": []}, {"Filters": [{"Name": "image-id", "Values": ["ami-1"]}]})
    stub.add_response("describe_images", {"Images": [{"ImageId": "ami-2"}]}, {"Filters": ANY})
    assert images.get(clients.writer, "ami-1") is None
    found = images.get(clients.writer, "ami-2")
    assert found is not None
    assert found.id == "ami-2"
