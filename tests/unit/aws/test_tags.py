"""Tags and tokens: by what we know our own again."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.aws import answers, tags
from ebspub.spec import Source

#: Of the first intent in ``test_a_token_never_changes_between_versions``.
TOKEN = "ebspub-e3cb12573c6029a2687b25174b1cd1fbe7991123"
INTENTS = st.tuples(st.text(max_size=40), st.text(max_size=255), st.integers(1, 10_000), st.text(max_size=40))


@given(INTENTS)
def test_a_token_is_what_ec2_takes(intent: tuple[str, str, int, str]) -> None:
    token = tags.token(*intent)
    assert 1 <= len(token) <= 64
    assert set(token) <= set(string.ascii_lowercase + string.digits + "-")
    assert token == tags.token(*intent)


@given(INTENTS, INTENTS)
def test_two_intents_have_two_tokens(one: tuple[str, str, int, str], other: tuple[str, str, int, str]) -> None:
    # NUL parts the fields; none can hold it: not a database id, a job id or a purpose.
    if "\0" not in "".join((one[0], one[1], one[3], other[0], other[1], other[3])):
        assert (tags.token(*one) == tags.token(*other)) == (one == other)


def test_fields_do_not_run_into_each_other() -> None:
    tokens = {tags.token("a", "b1", 2, "c"), tags.token("a", "b", 12, "c"), tags.token("ab", "1", 2, "c")}
    tokens |= {tags.token("a", "b", 1, "2c"), tags.token("a", "b", 12, "")}
    assert len(tokens) == 5


def test_a_token_never_changes_between_versions() -> None:
    """A database outlives versions: a later one must find what an earlier one was about to make."""
    assert tags.token("0123456789abcdef", "lucid-server-20101020-amd64-us-east-1", 1, "root") == TOKEN


@given(st.dictionaries(st.text(max_size=128), st.text(max_size=256), max_size=5))
def test_tags_come_back_as_they_were_sent(pairs: dict[str, str]) -> None:
    sent = tags.specification("volume", pairs)
    assert sent.get("ResourceType") == "volume"
    listed: Any = sent.get("Tags")
    assert tags.as_dict(listed) == pairs


def test_what_has_no_tags_has_none() -> None:
    assert tags.as_dict(None) == tags.as_dict([]) == {}


def test_our_own_are_found_by_database_and_job() -> None:
    assert tags.of_jobs("store", ["a", "b"]) == [
        {"Name": "tag:ebspub:store", "Values": ["store"]},
        {"Name": "tag:ebspub:job", "Values": ["a", "b"]},
    ]


@given(st.lists(st.text(alphabet="abc", max_size=6), max_size=700), st.integers(1, 250))
def test_chunks_hold_every_value_once(values: list[str], size: int) -> None:
    chunks = tags.chunks(values, size)
    flat = [value for chunk in chunks for value in chunk]
    assert flat == sorted(set(values))
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert all(len(chunk) == size for chunk in chunks[:-1])


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (200, [200]), (201, [200, 1]), (1000, [200] * 5)])
def test_a_filter_takes_two_hundred_values(count: int, sizes: list[int]) -> None:
    assert [len(chunk) for chunk in tags.chunks(map(str, range(count)))] == sizes


def test_all_pages_are_asked_for() -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"Volumes": [1, 2], "NextToken": "a"},
        "a": {"Volumes": [], "NextToken": "b"},  # an empty page says nothing of the next one
        "b": {"Volumes": [], "NextToken": "c"},
        "c": {"Volumes": [3], "NextToken": ""},
    }
    asked = []

    def call(**arguments: Any) -> dict[str, Any]:
        asked.append(dict(arguments))
        return pages[arguments.get("NextToken")]

    assert answers.paged(call, "Volumes", MaxResults=500) == [1, 2, 3]
    assert asked == [{"MaxResults": 500}, *({"MaxResults": 500, "NextToken": token} for token in "abc")]


def test_what_is_made_from_a_proved_source_is_known_by_its_bytes() -> None:
    source = Source(url="https://example.com/x", sha256="a" * 64)
    assert tags.of_source(source, None) == {tags.SOURCE: "a" * 64}  # as before there were signatures
    signed = source.model_copy(update={"verify": "signature"})
    made = tags.of_source(signed, None)
    assert made == {tags.SOURCE: "a" * 64, tags.VERIFY: "signature"}
    assert tags.is_from(made, signed.model_copy(update={"url": "https://example.com/moved"}))
    assert not tags.is_from(made, signed.model_copy(update={"sha256": "b" * 64}))


def test_what_is_made_from_an_unproved_source_is_known_by_its_url_until_it_is_measured() -> None:
    source = Source(url="https://example.com/x", verify="none")
    before, after = tags.of_source(source, None), tags.of_source(source, "a" * 64)
    assert before[tags.VERIFY] == "none"
    assert after == {**before, tags.SOURCE: "a" * 64}
    assert tags.is_from(after, source)
    assert tags.is_from(after, source, "a" * 64)
    assert not tags.is_from(after, source, "b" * 64)
    assert not tags.is_from(after, source.model_copy(update={"url": "https://example.com/y"}))
    assert not tags.is_from({tags.SOURCE: "a" * 64}, source)
