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

from ebspub.errors import EbspubError


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
    "OperationNotPermitted": Cause.PERMISSION,
    "AuthFailure": Cause.OPT_IN,
    "OptInRequired": Cause.OPT_IN,
    "InstanceLimitExceeded": Cause.QUOTA,
    "VcpuLimitExceeded": Cause.QUOTA,
    "VolumeLimitExceeded": Cause.QUOTA,
    "SnapshotLimitExceeded": Cause.QUOTA,
    "ResourceLimitExceeded": Cause.QUOTA,
    "SecurityGroupLimitExceeded": Cause.QUOTA,
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
        super().__init__(f"{action}: {code}: {message}", todo=_TODO.get(cause, ""))

    @property
    def definite(self) -> bool:
        """Whether the call surely had no effect."""
        return self.cause is not Cause.TRANSIENT

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
    code = str(detail.get("Code", "") or "Unknown")
    status = int(metadata.get("HTTPStatusCode", 0) or 0)
    message = str(detail.get("Message", "")) or "(no message)"
    cause = _by_message(code, message) or _not_ours(action, code) or _BY_CODE.get(code)
    if cause is None and code.startswith(("Client.", "Server.")):
        cause = _BY_CODE.get(code.partition(".")[2])
    if cause is None:
        cause = Cause.REFUSED if status < 500 else Cause.TRANSIENT
        if code.endswith("NotFound") and status < 500:
            cause = Cause.NOT_YET
    return AwsError(
        action,
        cause,
        code=code,
        message=message,
        request_id=str(metadata.get("RequestId", "") or answer.get("RequestId", "")),
    )


def _by_message(code: str, message: str) -> Cause | None:
    """Return the cause where one code stands for several and only the message tells which."""
    if code == "ResourceLimitExceeded" and "concurrent" in message.lower():
        return Cause.THROTTLED
    if code == "AuthFailure" and "validate the provided access credentials" in message:
        return Cause.CREDENTIALS
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
    return Cause.REFUSED if configured and missing else None


@contextmanager
def calling(action: str) -> Iterator[None]:
    """Turn what botocore raises into an :class:`AwsError` of the call ``action``."""
    try:
        yield
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        raise classify(action, error) from error
