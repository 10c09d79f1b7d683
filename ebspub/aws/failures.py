"""What a failed AWS call means: may it be tried again, did it take effect, and what is the user to do.

From EC2's error code list and the behaviour of the services (DESIGN, "EC2 as it really behaves"). The one question
that matters for "nothing twice" is :attr:`AwsError.definite`: whether EC2 surely refused the call. A connection that
broke, a 5xx or an ``InternalError`` says nothing: the call may have taken effect.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
    UnknownRegionError,
    UnknownServiceError,
)
from botocore.parsers import ResponseParserError

from ebspub.aws.answers import GarbledAnswerError
from ebspub.errors import ConfigError, EbspubError


class Cause(StrEnum):
    """Kinds of failure, by what can be done about them."""

    THROTTLED = "throttled"  #: refused for now; slow down
    TRANSIENT = "transient"  #: no answer, or the service's own fault; may have taken effect
    NOT_YET = "not-yet"  #: the thing is not visible yet, or not in the right state yet
    CAPACITY = "capacity"  #: not here, or not this type: another zone or type may do
    DUPLICATE = "duplicate"  #: the name is in use
    TOKEN_SPENT = "token-spent"  #: the client token's resource is gone, or was made with other parameters
    PERMISSION = "permission"
    OPT_IN = "opt-in"
    QUOTA = "quota"
    CREDENTIALS = "credentials"
    REFUSED = "refused"  #: anything else that EC2 says no to


_BY_CODE: dict[str, Cause] = {
    "RequestLimitExceeded": Cause.THROTTLED,
    "Throttling": Cause.THROTTLED,
    "ThrottlingException": Cause.THROTTLED,
    "EC2ThrottledException": Cause.THROTTLED,
    "SnapshotCreationPerVolumeRateExceeded": Cause.THROTTLED,
    "ConcurrentSnapshotLimitExceeded": Cause.THROTTLED,
    "RequestThrottledException": Cause.THROTTLED,
    "ConcurrentLimitExceededException": Cause.THROTTLED,
    "PendingSnapshotLimitExceeded": Cause.THROTTLED,
    "TooManyUpdates": Cause.THROTTLED,
    "InternalError": Cause.TRANSIENT,
    "InternalFailure": Cause.TRANSIENT,
    "InternalServerException": Cause.TRANSIENT,
    "ServiceUnavailable": Cause.TRANSIENT,
    "Unavailable": Cause.TRANSIENT,
    "RequestTimeout": Cause.TRANSIENT,
    "IncorrectState": Cause.NOT_YET,
    "IncorrectInstanceState": Cause.NOT_YET,
    "VolumeInUse": Cause.NOT_YET,
    "DependencyViolation": Cause.NOT_YET,
    "InvalidAMIID.Unavailable": Cause.NOT_YET,
    "InvalidSnapshot.InUse": Cause.NOT_YET,
    "ResourceNotFoundException": Cause.NOT_YET,
    "InsufficientInstanceCapacity": Cause.CAPACITY,
    "InsufficientHostCapacity": Cause.CAPACITY,
    "InsufficientFreeAddressesInSubnet": Cause.CAPACITY,
    "InsufficientVolumeCapacity": Cause.CAPACITY,
    "InsufficientAddressCapacity": Cause.CAPACITY,
    "InsufficientCapacity": Cause.CAPACITY,
    "VolumeTypeNotAvailableInZone": Cause.CAPACITY,
    "Unsupported": Cause.CAPACITY,
    "MaxSpotInstanceCountExceeded": Cause.CAPACITY,
    "InvalidAMIName.Duplicate": Cause.DUPLICATE,
    "InvalidGroup.Duplicate": Cause.DUPLICATE,
    "InvalidPermission.Duplicate": Cause.DUPLICATE,
    "IdempotentParameterMismatch": Cause.TOKEN_SPENT,
    "IdempotentInstanceTerminated": Cause.TOKEN_SPENT,
    "ConflictException": Cause.TOKEN_SPENT,
    "UnauthorizedOperation": Cause.PERMISSION,
    "AccessDenied": Cause.PERMISSION,
    "AccessDeniedException": Cause.PERMISSION,
    "OperationNotPermitted": Cause.REFUSED,
    "AuthFailure": Cause.OPT_IN,
    "OptInRequired": Cause.OPT_IN,
    "InstanceLimitExceeded": Cause.QUOTA,
    "VcpuLimitExceeded": Cause.QUOTA,
    "VolumeLimitExceeded": Cause.QUOTA,
    "SnapshotLimitExceeded": Cause.QUOTA,
    "ResourceLimitExceeded": Cause.QUOTA,
    "SecurityGroupLimitExceeded": Cause.QUOTA,
    "MaxIOPSLimitExceeded": Cause.QUOTA,
    "NetworkInterfaceLimitExceeded": Cause.QUOTA,
    "RulesPerSecurityGroupLimitExceeded": Cause.QUOTA,
    "MaxConfigLimitExceededException": Cause.QUOTA,
    "ServiceQuotaExceededException": Cause.QUOTA,
    "RequestExpired": Cause.CREDENTIALS,
    "ExpiredToken": Cause.CREDENTIALS,
    "ExpiredTokenException": Cause.CREDENTIALS,
    "InvalidClientTokenId": Cause.CREDENTIALS,
    "UnrecognizedClientException": Cause.CREDENTIALS,
    "SignatureDoesNotMatch": Cause.CREDENTIALS,
}

_TODO: dict[Cause, str] = {
    Cause.PERMISSION: "Grant the action to the credentials in use (examples/iam-policy.json), then `ebspub resume`.",
    Cause.OPT_IN: "Enable the region for the account, or take it out of the configuration, then `ebspub resume`.",
    Cause.QUOTA: "Raise the quota in Service Quotas, or free what fills it, then `ebspub resume`.",
    Cause.CREDENTIALS: "Give valid AWS credentials (AWS_PROFILE, ~/.aws, an instance role), then run it again.",
    Cause.REFUSED: "Mend what EC2 names, then `ebspub resume`.",
}

#: Where a code tells more than its cause does, or leaves two causes open.
_TODO_OF_CODE: dict[tuple[Cause, str], str] = {
    (Cause.OPT_IN, "AuthFailure"): (
        "Enable the region for the account, or take it out of the configuration; if other regions refuse the "
        "credentials, too, give valid ones (AWS_PROFILE, ~/.aws, an instance role). Then `ebspub resume`."
    ),
    (Cause.CREDENTIALS, "InvalidClientTokenId"): (
        "Give valid AWS credentials (AWS_PROFILE, ~/.aws, an instance role), or enable the region for the account "
        "if other regions accept them; then run it again."
    ),
    (Cause.REFUSED, "OperationNotPermitted"): (
        "Nothing is wrong with the permissions: take off what protects it (termination or deregistration protection, "
        "a block on public sharing), then run it again."
    ),
}

#: Causes that waiting may mend.
RETRYABLE = frozenset({Cause.THROTTLED, Cause.TRANSIENT, Cause.NOT_YET, Cause.CAPACITY})


class AwsError(EbspubError):
    """A call to AWS failed. ``code`` and ``request_id`` are AWS's own."""

    def __init__(self, action: str, cause: Cause, *, code: str, message: str, request_id: str = "") -> None:
        self.action = action
        self.cause = cause
        self.code = code
        self.request_id = request_id
        self.message = message
        if cause is Cause.CREDENTIALS:
            self.exit_code = ConfigError.exit_code
        todo = _TODO_OF_CODE.get((cause, code.rpartition(".")[2]), _TODO.get(cause, ""))
        super().__init__(f"{action}: {code}: {message}", todo=todo)

    @property
    def definite(self) -> bool:
        """Whether the call surely had no effect."""
        return self.cause is not Cause.TRANSIENT

    @property
    def unsigned(self) -> bool:
        """Whether there are no credentials to send: every region is then the same."""
        return isinstance(self.__cause__, _CREDENTIALS)

    @property
    def missing(self) -> bool:
        """Whether EC2 says that the thing does not exist (or is not visible yet)."""
        if self.action == "DeregisterImage" and self.code == "InvalidAMIID.Unavailable":
            return True  # what EC2 says of an AMI that is deregistered already
        return self.code.endswith(("NotFound", ".Unknown")) or self.code == "ResourceNotFoundException"


#: Exceptions of a configuration without usable credentials.
_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
#: Exceptions that botocore raises before it sends anything, and would raise again.
_NEVER_SENT = (ParamValidationError, NoRegionError, UnknownRegionError, UnknownServiceError)


def classify(action: str, error: ClientError | BotoCoreError | ResponseParserError) -> AwsError:
    """Return what a botocore exception of the call ``action`` means."""
    if isinstance(error, ClientError):
        return _from_answer(action, error)
    if isinstance(error, _CREDENTIALS):
        return AwsError(action, Cause.CREDENTIALS, code=type(error).__name__, message=str(error))
    if isinstance(error, _NEVER_SENT):
        return AwsError(action, Cause.REFUSED, code=type(error).__name__, message=str(error))
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        # No connection was made, so nothing was sent: a definite refusal that is worth trying again.
        return AwsError(action, Cause.THROTTLED, code=type(error).__name__, message=str(error))
    return AwsError(action, Cause.TRANSIENT, code=type(error).__name__, message=str(error))


def _from_answer(action: str, error: ClientError) -> AwsError:
    answer = error.response
    detail = answer.get("Error", {})
    metadata = answer.get("ResponseMetadata", {})
    code = str(detail.get("Code", "") or "").strip() or "Unknown"
    status = int(metadata.get("HTTPStatusCode", 0) or 0)
    message = str(detail.get("Message", "") or "").strip() or "(no message)"
    cause = _by_message(action, code, message) or _not_ours(action, code) or _BY_CODE.get(code)
    if cause is None and code.startswith(("Client.", "Server.")):
        cause = _BY_CODE.get(code.partition(".")[2])
    if cause is None:
        # Without a code of its own it is not EC2 that refuses, but something on the way to it or back.
        told = code != "Unknown" and not code.isdigit()
        cause = Cause.REFUSED if told and status < 500 else Cause.TRANSIENT
        if code.endswith("NotFound") and status < 500:
            cause = Cause.NOT_YET
    return AwsError(
        action,
        cause,
        code=code,
        message=message,
        request_id=str(metadata.get("RequestId", "") or answer.get("RequestId", "")),
    )


def _by_message(action: str, code: str, message: str) -> Cause | None:
    """Return the cause where one code stands for several and only the message tells which."""
    if code == "ResourceLimitExceeded" and ("concurrent" in message.lower() or action == "CopySnapshot"):
        # Of copies EC2 says "Too many snapshot copies in progress. The limit is 20 for this destination region."
        return Cause.THROTTLED
    if code == "AuthFailure" and "validate the provided access credentials" in message:
        # What EC2 says of wrong credentials, and of right ones in a region that is not enabled for their account. That
        # they are right somewhere STS has told by then.
        return Cause.CREDENTIALS if action == "GetCallerIdentity" else Cause.OPT_IN
    if code == "AuthFailure" and message.startswith("Not authorized"):
        return Cause.PERMISSION
    if code == "InvalidParameterValue" and "iaminstanceprofile" in message.lower():
        return Cause.NOT_YET  # an instance profile that was just made is not known everywhere yet
    return None


def _not_ours(action: str, code: str) -> Cause | None:
    """Refuse at once what names a thing that somebody configured: unlike what we just made, it will not appear."""
    configured = code == "ParameterNotFound" or action == "DescribeSubnets"
    configured |= action == "RunInstances" and code.startswith(("InvalidAMIID.", "InvalidSubnetID."))
    configured |= action == "RegisterImage" and code.startswith("InvalidAMIID.")
    missing = code.endswith(("NotFound", ".Malformed"))
    missing |= action == "RunInstances" and code == "InvalidAMIID.Unavailable"
    return Cause.REFUSED if configured and missing else None


#: What comes of an answer that is not what it should be: our own GarbledAnswerError, and what botocore's readers of
#: numbers, dates, JSON and documents of another shape let through.
_GARBLED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RuntimeError)


@contextmanager
def calling(action: str) -> Iterator[None]:
    """Turn what botocore raises, or the reading of its answer, into an :class:`AwsError` of the call ``action``.

    An answer that makes no sense says nothing of what the call did: it is like one that was lost.
    """
    try:
        yield
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        raise classify(action, error) from error
    except _GARBLED as error:
        what = str(error) if isinstance(error, GarbledAnswerError) else f"{type(error).__name__}: {error}"
        message = f"the answer cannot be understood: {what[:200]}"
        raise AwsError(action, Cause.TRANSIENT, code="GarbledAnswer", message=message) from error


@contextmanager
def preparing(action: str) -> Iterator[None]:
    """Turn what botocore raises while nothing is sent yet into an :class:`AwsError` that trying again does not mend."""
    try:
        with calling(action):
            yield
    except AwsError as error:
        if error.cause is not Cause.TRANSIENT:
            raise
        cause = error.__cause__
        raise AwsError(action, Cause.CREDENTIALS, code=type(cause).__name__, message=str(cause)) from cause
