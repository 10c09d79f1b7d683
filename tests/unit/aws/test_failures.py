"""What a failed call means: may it be tried again, did it take effect, and what is the user to do."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ebspub.aws.failures import RETRYABLE, AwsError, Cause, calling, classify, preparing
from ebspub.errors import EbspubError

#: Code, status, message: what it is.
ANSWERS: list[tuple[str, int, str, Cause]] = [
    ("RequestLimitExceeded", 503, "Request limit exceeded.", Cause.THROTTLED),
    ("Throttling", 400, "Rate exceeded", Cause.THROTTLED),
    ("ThrottlingException", 400, "Rate exceeded", Cause.THROTTLED),
    ("EC2ThrottledException", 503, "", Cause.THROTTLED),
    ("SnapshotCreationPerVolumeRateExceeded", 400, "", Cause.THROTTLED),
    ("ConcurrentSnapshotLimitExceeded", 400, "", Cause.THROTTLED),
    ("ResourceLimitExceeded", 400, "You have reached your limit of Concurrent copies", Cause.THROTTLED),
    ("ResourceLimitExceeded", 400, "The maximum number of public images (5)", Cause.QUOTA),
    ("ResourceLimitExceeded", 400, "The maximum number of snapshots", Cause.QUOTA),
    ("RequestThrottledException", 400, "Slow down", Cause.THROTTLED),
    ("ConcurrentLimitExceededException", 400, "", Cause.THROTTLED),
    ("InternalServerException", 500, "", Cause.TRANSIENT),
    ("ResourceNotFoundException", 404, "The snapshot does not exist", Cause.NOT_YET),
    ("ConflictException", 409, "The client token was used with other parameters", Cause.TOKEN_SPENT),
    ("ServiceQuotaExceededException", 402, "", Cause.QUOTA),
    ("ValidationException", 400, "", Cause.REFUSED),
    ("InternalError", 500, "An internal error has occurred", Cause.TRANSIENT),
    ("InternalFailure", 500, "", Cause.TRANSIENT),
    ("ServiceUnavailable", 503, "", Cause.TRANSIENT),
    ("Unavailable", 503, "", Cause.TRANSIENT),
    ("RequestTimeout", 400, "", Cause.TRANSIENT),
    ("503", 503, "Service Unavailable", Cause.TRANSIENT),
    ("NeverHeardOf", 500, "", Cause.TRANSIENT),
    ("NeverHeardOf.NotFound", 502, "", Cause.TRANSIENT),
    ("", 500, "", Cause.TRANSIENT),
    ("InvalidInstanceID.NotFound", 400, "The instance ID 'i-1' does not exist", Cause.NOT_YET),
    ("InvalidVolume.NotFound", 400, "", Cause.NOT_YET),
    ("InvalidSnapshot.NotFound", 400, "", Cause.NOT_YET),
    ("InvalidAMIID.NotFound", 400, "", Cause.NOT_YET),
    ("InvalidGroup.NotFound", 400, "", Cause.NOT_YET),
    ("ParameterNotFound", 400, "", Cause.REFUSED),
    ("InvalidAMIID.Unavailable", 400, "", Cause.NOT_YET),
    ("IncorrectState", 400, "vol-1 is not 'available'", Cause.NOT_YET),
    ("IncorrectInstanceState", 400, "", Cause.NOT_YET),
    ("VolumeInUse", 400, "", Cause.NOT_YET),
    ("InvalidSnapshot.InUse", 400, "", Cause.NOT_YET),
    ("DependencyViolation", 400, "resource sg-1 has a dependent object", Cause.NOT_YET),
    ("InvalidParameterValue", 400, "Value (b) for parameter iamInstanceProfile.name is invalid", Cause.NOT_YET),
    ("InvalidParameterValue", 400, "Value (b) for parameter volumeSize is invalid", Cause.REFUSED),
    ("InsufficientInstanceCapacity", 500, "", Cause.CAPACITY),
    ("InsufficientFreeAddressesInSubnet", 400, "", Cause.CAPACITY),
    ("Unsupported", 400, "Your requested instance type is not supported in this zone", Cause.CAPACITY),
    ("InvalidAMIName.Duplicate", 400, "AMI name lucid is already in use by AMI ami-1", Cause.DUPLICATE),
    ("InvalidGroup.Duplicate", 400, "", Cause.DUPLICATE),
    ("InvalidPermission.Duplicate", 400, "", Cause.DUPLICATE),
    ("IdempotentParameterMismatch", 400, "", Cause.TOKEN_SPENT),
    ("IdempotentInstanceTerminated", 400, "", Cause.TOKEN_SPENT),
    ("UnauthorizedOperation", 403, "Encoded authorization failure message: abc", Cause.PERMISSION),
    ("AccessDenied", 403, "", Cause.PERMISSION),
    ("OperationNotPermitted", 400, "Sharing publicly is blocked", Cause.REFUSED),
    ("AuthFailure", 401, "", Cause.OPT_IN),
    ("OptInRequired", 403, "", Cause.OPT_IN),
    ("InstanceLimitExceeded", 400, "", Cause.QUOTA),
    ("VcpuLimitExceeded", 400, "", Cause.QUOTA),
    ("SnapshotLimitExceeded", 400, "", Cause.QUOTA),
    ("ExpiredToken", 400, "", Cause.CREDENTIALS),
    ("RequestExpired", 400, "", Cause.CREDENTIALS),
    ("SignatureDoesNotMatch", 403, "", Cause.CREDENTIALS),
    ("Client.UnauthorizedOperation", 403, "", Cause.PERMISSION),
    ("Server.InternalError", 500, "", Cause.TRANSIENT),
    ("InvalidParameterCombination", 400, "", Cause.REFUSED),
    ("MissingParameter", 400, "", Cause.REFUSED),
    ("NeverHeardOf", 400, "", Cause.REFUSED),
]
#: What botocore raises by itself: what it is.
RAISED: list[tuple[Exception, Cause]] = [
    (exceptions.NoCredentialsError(), Cause.CREDENTIALS),
    (exceptions.PartialCredentialsError(provider="env", cred_var="x"), Cause.CREDENTIALS),
    (exceptions.CredentialRetrievalError(provider="process", error_msg="x"), Cause.CREDENTIALS),
    (exceptions.ProfileNotFound(profile="x"), Cause.CREDENTIALS),
    (exceptions.UnauthorizedSSOTokenError(), Cause.CREDENTIALS),
    (exceptions.TokenRetrievalError(provider="sso", error_msg="x"), Cause.CREDENTIALS),
    # no connection: nothing was sent
    (exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), Cause.THROTTLED),
    (exceptions.ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"), Cause.THROTTLED),
    # a defect of ours: nothing was sent, and nothing will be
    (exceptions.ParamValidationError(report="x"), Cause.REFUSED),
    (exceptions.NoRegionError(), Cause.REFUSED),
    # it was sent, or may have been
    (exceptions.ReadTimeoutError(endpoint_url="http://127.0.0.1:1"), Cause.TRANSIENT),
    (exceptions.ConnectionClosedError(endpoint_url="http://127.0.0.1:1"), Cause.TRANSIENT),
    (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), Cause.TRANSIENT),
    (exceptions.SSLError(endpoint_url="http://127.0.0.1:1", error=OSError()), Cause.TRANSIENT),
    (exceptions.ProxyConnectionError(proxy_url="http://127.0.0.1:1"), Cause.TRANSIENT),
    (exceptions.HTTPClientError(error="x"), Cause.TRANSIENT),
    (ResponseParserError("x"), Cause.TRANSIENT),
]
#: Causes that the engine mends by itself, by another call: the user need do nothing.
MENDED = {Cause.DUPLICATE, Cause.TOKEN_SPENT}


def answer(code: str, status: int = 400, message: str = "no") -> ClientError:
    """Return what botocore raises for an answer of EC2's."""
    metadata: Any = {"RequestId": "r-1", "HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}, "CreateVolume")


@pytest.mark.parametrize(("code", "status", "message", "cause"), ANSWERS)
def test_an_answer_means_one_thing(code: str, status: int, message: str, cause: Cause) -> None:
    error = classify("CreateVolume", answer(code, status, message))
    assert (error.cause, error.code, error.action) == (cause, code or "Unknown", "CreateVolume")
    assert error.request_id == "r-1"
    assert error.message == (message or "(no message)")
    assert error.definite == (cause is not Cause.TRANSIENT)


def test_too_many_copies_at_a_time_are_waited_out() -> None:
    told = answer(
        "ResourceLimitExceeded", 400, "Too many snapshot copies in progress. The limit is 20 for this region."
    )
    assert classify("CopySnapshot", told).cause is Cause.THROTTLED
    assert classify("RegisterImage", told).cause is Cause.QUOTA


@pytest.mark.parametrize(("raised", "cause"), RAISED, ids=lambda value: type(value).__name__)
def test_what_botocore_raises_means_one_thing(raised: Exception, cause: Cause) -> None:
    with pytest.raises(AwsError) as told, calling("CreateVolume"):
        raise raised
    error = told.value
    assert (error.cause, error.code, error.request_id) == (cause, type(raised).__name__, "")
    assert error.definite == (cause is not Cause.TRANSIENT)
    assert error.__cause__ is raised


def test_an_exception_that_nobody_knows_says_nothing() -> None:
    """A new botocore may raise what this version never heard of: the call may have taken effect."""
    known = {type(raised) for raised, _ in RAISED}

    class NewError(BotoCoreError):
        pass

    assert not classify("CreateVolume", NewError()).definite
    # Whatever happens to a connection that was made is never taken for a refusal.
    for _, kind in inspect.getmembers(exceptions, inspect.isclass):
        if not issubclass(kind, exceptions.HTTPClientError) or kind in known:
            continue
        fields = {"endpoint_url": "x", "error": "x", "proxy_url": "x"}
        assert not classify("CreateVolume", kind(**fields)).definite, kind


@pytest.mark.parametrize("cause", Cause)
def test_what_will_not_mend_by_waiting_says_what_to_do(cause: Cause) -> None:
    error = AwsError("CreateVolume", cause, code="Code", message="no")
    assert bool(error.todo) == (cause not in RETRYABLE | MENDED)
    assert "ebspub resume" in error.todo or "run it again" in error.todo or not error.todo
    assert str(error).startswith("CreateVolume: Code: no")
    assert isinstance(error, EbspubError)


@pytest.mark.parametrize(
    ("action", "code", "message", "cause"),
    [
        ("RunInstances", "InvalidAMIID.NotFound", "", Cause.REFUSED),
        ("RunInstances", "InvalidSubnetID.NotFound", "", Cause.REFUSED),
        ("RunInstances", "InvalidGroup.NotFound", "", Cause.NOT_YET),
        ("DeregisterImage", "InvalidAMIID.NotFound", "", Cause.NOT_YET),
        (
            "DescribeImages",
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            Cause.OPT_IN,
        ),
        (
            "GetCallerIdentity",
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            Cause.CREDENTIALS,
        ),
        ("RunInstances", "AuthFailure", "Not authorized for images: [ami-1]", Cause.PERMISSION),
        ("DescribeImages", "AuthFailure", "", Cause.OPT_IN),
    ],
)
def test_one_code_may_mean_several_things(action: str, code: str, message: str, cause: Cause) -> None:
    assert classify(action, answer(code, 400, message)).cause is cause


def test_what_may_be_the_credentials_or_the_region_says_both() -> None:
    message = "AWS was not able to validate the provided access credentials"
    refusals = (
        classify("DescribeImages", answer("AuthFailure", 401, message)),
        classify("GetCallerIdentity", answer("InvalidClientTokenId", 403, "The security token is invalid")),
    )
    for error in refusals:
        assert "nable the region" in error.todo
        assert "ive valid" in error.todo


def test_a_protection_is_no_missing_permission() -> None:
    """Who may do it may not do it all the same, until the protection is taken off."""
    message = "The instance 'i-1' may not be terminated. Modify its 'disableApiTermination' instance attribute."
    error = classify("TerminateInstances", answer("OperationNotPermitted", 400, message))
    assert (error.cause, error.definite) == (Cause.REFUSED, True)
    assert "protection" in error.todo
    assert "iam-policy" not in error.todo


def test_an_ami_that_is_deregistered_already_is_missing() -> None:
    assert classify("DeregisterImage", answer("InvalidAMIID.Unavailable")).missing


@pytest.mark.parametrize(
    ("code", "missing"),
    [
        ("InvalidVolume.NotFound", True),
        ("InvalidInstanceID.NotFound", True),
        ("InvalidAMIID.Unavailable", False),
        ("InvalidVolumeID.Malformed", False),
        ("VolumeInUse", False),
        ("InvalidVpcID.Unknown", True),
        ("ParameterNotFound", True),
    ],
)
def test_what_does_not_exist_is_known_by_its_code(code: str, missing: bool) -> None:
    assert classify("DeleteVolume", answer(code)).missing is missing


def test_an_answer_without_anything_in_it_is_told_all_the_same() -> None:
    error = classify("CreateVolume", ClientError({}, "CreateVolume"))
    assert (error.code, error.message, error.request_id) == ("Unknown", "(no message)", "")


def test_an_error_without_a_code_says_nothing_of_the_call() -> None:
    """The page of a proxy, of a portal: whoever it is, it is not EC2 that refuses."""
    for code in ("", "404"):
        error = classify("CreateVolume", answer(code, 404))
        assert (error.cause, error.definite) == (Cause.TRANSIENT, False)


def test_an_answer_that_makes_no_sense_is_like_a_lost_one() -> None:
    with pytest.raises(AwsError) as told, calling("CreateVolume"):
        raise KeyError("VolumeId")
    assert (told.value.code, told.value.cause, told.value.definite) == ("GarbledAnswer", Cause.TRANSIENT, False)


def test_what_is_no_failure_of_aws_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), calling("CreateVolume"):
        raise ZeroDivisionError


@pytest.mark.parametrize("raised", [ValueError("Invalid endpoint: x"), exceptions.InvalidRegionError(region_name="-")])
def test_what_keeps_a_client_from_being_made_does_not_mend(raised: Exception) -> None:
    with pytest.raises(AwsError) as told, preparing("creating a client"):
        raise raised
    assert (told.value.cause, told.value.definite, told.value.message) == (Cause.CREDENTIALS, True, str(raised))
