"""What a user is told: one root, an exit code that each class owns, and what to do now."""

from __future__ import annotations

import inspect

import pytest

from ebspub import errors
from ebspub.errors import (
    ConfigError,
    EbspubError,
    HostKeyError,
    JobError,
    NameTakenError,
    StoreError,
    VerificationError,
)

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass) if issubclass(found, EbspubError)]
#: The command line's contract (README, "Exit codes").
CODES = {
    "EbspubError": 3,
    "UsageError": 2,
    "ConfigError": 2,
    "SourceError": 2,
    "StoreError": 4,
    "BusyError": 75,
    "LeaseLostError": 75,
    "JobError": 3,
    "NameTakenError": 3,
    "VerificationError": 3,
    "HostKeyError": 3,
    "RemoteError": 3,
}


def test_every_class_keeps_its_exit_code() -> None:
    assert {found.__name__: found.exit_code for found in CLASSES} == CODES


@pytest.mark.parametrize("kind", CLASSES)
def test_a_message_says_what_happened_and_then_what_to_do(kind: type[EbspubError]) -> None:
    error = kind("lucid-server: the disk is full", todo="Free some space.")
    assert str(error) == "lucid-server: the disk is full\n  Free some space."
    assert (error.what, error.todo) == ("lucid-server: the disk is full", "Free some space.")
    assert error.args == ("lucid-server: the disk is full",)
    assert isinstance(error, EbspubError)


@pytest.mark.parametrize("kind", CLASSES)
def test_where_there_is_nothing_to_do_nothing_is_said(kind: type[EbspubError]) -> None:
    assert str(kind("it broke")) == "it broke"


def test_all_problems_of_a_configuration_are_told_at_once() -> None:
    error = ConfigError("a.toml is wrong", problems=["line 1: no", "line 2: neither"], todo="Mend it.")
    assert error.problems == ("line 1: no", "line 2: neither")
    assert str(error) == "a.toml is wrong\n  line 1: no\n  line 2: neither\n  Mend it."


def test_an_error_of_a_job_keeps_what_aws_said() -> None:
    error = JobError("refused", code="AuthFailure", request_id="r-1")
    assert (error.code, error.request_id) == ("AuthFailure", "r-1")
    assert (JobError("refused").code, JobError("refused").request_id) == ("", "")
    assert {NameTakenError, VerificationError, HostKeyError} <= set(JobError.__subclasses__())


def test_a_database_that_cannot_be_used_is_no_failed_job() -> None:
    assert not issubclass(StoreError, JobError)
