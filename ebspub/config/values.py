"""The types of single values: AMI ids, serials, CIDRs, URLs, devices.

Each says in one phrase what it expects; ``problems.py`` adds where it stood and what was found. No validator puts
the value itself into its message: the value may hold a secret, and only ``problems.py`` knows how to show it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from ebspub.config import templates
from ebspub.errors import UsageError

#: Query parameters that make a URL a credential (signed URLs of the object stores, tokens).
_SECRET_PARAMETERS = re.compile(
    r"sig|auth|.*(signature|credential|token|secret|passw|authorization).*|(api|access|private)[_-]?key|pwd"
)
_SERIAL = re.compile(r"[0-9]{8}(\.[1-9][0-9]{0,2})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def refuse(expected: str, *, key: str = "") -> PydanticCustomError:
    """Return the error for what is not ``expected`` (a noun phrase): the value, or ``key`` of the table."""
    return PydanticCustomError("ebspub", "expected {expected}", {"expected": expected, "key": key})


def matching(pattern: str | re.Pattern[str], expected: str) -> AfterValidator:
    """Return what refuses a text that is not as a whole like ``pattern``; ``expected``: what it should be."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise refuse(expected)
        return value

    return AfterValidator(check)


def web(*, query: bool = False) -> AfterValidator:
    """Return what refuses all but an http(s) URL without user name, password and fragment.

    ``query``: it may have a ``?``, too.
    """
    left_out = "user name and password" if query else "user name, password, ? and #"
    expected = f"an http:// or https:// URL without {left_out}"

    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and value.isascii()
        except ValueError:
            raise refuse(expected) from None
        more = "@" in parts.netloc or parts.fragment or (parts.query and not query)
        if not usable or more or re.search(r"[\s\\\"'`<>]", value):
            raise refuse(expected)
        return value

    return AfterValidator(check)


def is_serial(value: str) -> bool:
    """Return whether ``value`` is a serial: YYYYMMDD or YYYYMMDD.N, of a day that exists."""
    if not _SERIAL.fullmatch(value):
        return False
    try:
        templates.serial_date(value)
    except ValueError:
        return False
    return True


def _serial(value: Any) -> Any:
    if isinstance(value, str) and is_serial(value):
        return value
    if isinstance(value, str) and _SERIAL.fullmatch(value):
        raise refuse("YYYYMMDD or YYYYMMDD.N of a day that exists")
    raise refuse("YYYYMMDD or YYYYMMDD.N, in quotes")


def _serial_or_current(value: Any) -> Any:
    return value if value == "current" else _serial(value)


def _plain(value: str) -> str:
    if _CONTROL.search(value):
        raise refuse("text without control characters or line ends")
    return value


def _template(value: str) -> str:
    try:
        templates.pieces(value)
    except templates.TemplateError as error:
        raise refuse(str(error)) from None
    return _plain(value)


def _url_fault(url: str) -> str | None:
    """Return what is expected instead of ``url``."""
    expected = "an http:// or https:// URL with a host, or an absolute path"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return expected
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or re.search(r"[\s\\\"'`<>]", url):
        return expected
    if parts.username is not None or parts.password is not None:
        return "a URL without a user name or password (it would be written into the state database)"
    if any(_SECRET_PARAMETERS.fullmatch(name.lower()) for name, _ in parse_qsl(parts.query)):
        return "a URL without a signature or token (it would be written into the state database)"
    if parts.fragment or not parts.path.strip("/") or parts.path.endswith("/"):
        return "the URL of a file, not of a folder"
    return None


def _place_fault(place: str, *, folder: bool = False) -> str | None:
    """Return what is expected instead of the URL or path ``place`` of a file (or of a ``folder``)."""
    if place.startswith(("/", "file:")):
        path = place.removeprefix("file://")
        if not path.startswith("/") or "/../" in f"{path}/":
            return "an absolute path, or file:/// and an absolute path"
        named = folder or (path.strip("/") and not path.endswith("/"))
        return None if named else "the path of a file, not of a folder"
    return _url_fault(place.rstrip("/") + "/folder" if folder and place.count("/") > 1 else place)


def as_url(place: str) -> str:
    """Return a URL or an absolute path as a URL; ``file:///...`` for a path."""
    return f"file://{quote(place)}" if place.startswith("/") else place


def _url_template(value: str) -> str:
    fault = _place_fault(templates.expand(_template(value), templates.SAMPLE))
    if fault:
        raise refuse(fault)
    return value


def _folder_template(value: str) -> str:
    fault = _place_fault(templates.expand(_template(value), templates.SAMPLE), folder=True)
    if fault:
        raise refuse(fault)
    return value


def _file_template(value: str) -> str:
    if re.search(r"[\s\\\"'`<>?#%]|(^|/)\.{0,2}(/|$)", templates.expand(_template(value), templates.SAMPLE)):
        raise refuse("the name of a file in the directory")
    return value


def _signature_template(value: str) -> str:
    return value if value == "inline" else _url_template(value)


def _proxy_url(value: str) -> str:
    if value == "":
        return value
    expected = "an http:// or https:// URL of a proxy without a path, a user name or a password, or an empty string"
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and value.isascii()
    except ValueError:
        raise refuse(expected) from None
    if not usable or "@" in value or parts.path.strip("/") or parts.query or re.search(r"[\s\\\"'`<>]", value):
        raise refuse(expected)
    return value


def _fingerprint(value: str) -> str:
    bare = value.replace(" ", "").upper().removeprefix("0X")
    if not re.fullmatch(r"[0-9A-F]{40}", bare):
        raise refuse("the whole fingerprint of a key, 40 hex digits")
    return bare


def _network(value: str) -> str:
    expected = 'an IPv4 network such as "203.0.113.0/24"'
    try:
        return str(ipaddress.IPv4Network(value))
    except ValueError:
        pass
    try:
        whole = ipaddress.IPv4Interface(value).network
    except ValueError:
        raise refuse(expected) from None
    raise refuse(f'{expected}; its host bits must be zero: "{whole}"')


def _store_url(value: SecretStr) -> SecretStr:
    """Check the shape only: the driver is loaded when the store is opened."""
    try:
        url = make_url(value.get_secret_value())
    except (SQLAlchemyError, ValueError):
        raise refuse("an SQLAlchemy URL such as sqlite:////var/lib/ebspub/ebspub.db") from None
    if url.get_backend_name() == "sqlite" and not (url.database or "").startswith("/"):
        # A relative one would be another database in every working directory, and another database is another AMI.
        raise refuse("a sqlite URL with an absolute path (four slashes: sqlite:////var/lib/ebspub/ebspub.db)")
    return value


def _folder(value: str) -> str:
    if not value.startswith(("/", "~/")) or _CONTROL.search(value):
        raise refuse("an absolute path, or one that begins with ~/")
    return value


def _file_path(value: str) -> str:
    if not value.strip("/") or value.endswith("/") or _CONTROL.search(value):
        raise refuse("the path of a file")
    return value


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _no_twins(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise refuse("each entry once")
    return value


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    # Not min_length: that also counts, and tells, when the only entry is wrong.
    if not value:
        raise refuse("a list of at least one")
    return value


def _tag_key(value: str) -> str:
    if value.lower().startswith(("aws:", "ebspub:")):
        raise refuse("a tag key that does not begin with aws: or ebspub: (reserved)")
    if not 1 <= len(value) <= 128 or _CONTROL.search(value):
        raise refuse("a tag key of 1 to 128 characters, none of them control characters")
    return value


def _tag_value(value: str) -> str:
    if len(value) > 256 or _CONTROL.search(value):
        raise refuse("a tag value of at most 256 characters, none of them control characters")
    return value


#: Parameter Store: "a-zA-Z0-9_.-", slashes for a hierarchy of 15 levels at most, none that begins with aws or ssm.
_PARAMETER = re.compile(r"(/[A-Za-z0-9_.-]+){1,15}")
_MAX_PARAMETER = 900


def _parameter_template(value: str) -> str:
    try:
        templates.pieces(value, templates.PARAMETER_FIELDS)
    except templates.TemplateError as error:
        raise refuse(str(error)) from None
    path = templates.expand(value, templates.PARAMETER_SAMPLE)
    if not _PARAMETER.fullmatch(path) or len(path) > _MAX_PARAMETER:
        raise refuse("a path such as /images/{suite}/{serial}/{arch}: parts of letters, digits and _ . - after slashes")
    if path.lower().startswith(("/aws", "/ssm")):
        raise refuse("a path that does not begin with /aws or /ssm (reserved by AWS)")
    return value


Plain = Annotated[str, AfterValidator(_plain)]
ParameterTemplate = Annotated[str, AfterValidator(_parameter_template)]
AccountId = Annotated[str, matching(r"[0-9]{12}", "the 12 digits of an AWS account, in quotes")]
_ORGANIZATIONS = r"arn:aws[a-z-]*:organizations::[0-9]{12}"
OrganizationArn = Annotated[
    str,
    matching(
        rf"{_ORGANIZATIONS}:organization/o-[a-z0-9]{{10,32}}",
        "the ARN of an organization (arn:aws:organizations::123456789012:organization/o-...)",
    ),
]
UnitArn = Annotated[
    str,
    matching(
        rf"{_ORGANIZATIONS}:ou/o-[a-z0-9]{{10,32}}/ou-[0-9a-z]{{4,32}}-[0-9a-z]{{8,32}}",
        "the ARN of an organizational unit (arn:aws:organizations::123456789012:ou/o-.../ou-...)",
    ),
]
SerialOrCurrent = Annotated[str, BeforeValidator(_serial_or_current)]
Template = Annotated[str, AfterValidator(_template)]
UrlTemplate = Annotated[str, AfterValidator(_url_template)]
FolderTemplate = Annotated[str, AfterValidator(_folder_template)]
FileTemplate = Annotated[str, AfterValidator(_file_template)]
SignatureTemplate = Annotated[str, AfterValidator(_signature_template)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
FilePath = Annotated[str, AfterValidator(_file_path)]
ItemName = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", 'the name of an item such as "disk1.img"')]
# Suites hold no dash and no part of a build name begins with a digit, so that two jobs never share an id
# ("a-b" + "c" and "a" + "b-c").
Suite = Annotated[str, matching(r"[a-z0-9][a-z0-9.]{0,31}", "lower-case letters, digits and dots (no dash)")]
BuildName = Annotated[
    str,
    matching(
        r"(?=.{1,32}\Z)[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*",
        "lower-case letters and digits; a dash may separate parts that begin with a letter",
    ),
]
_LABEL = r"[a-z0-9][a-z0-9.-]{0,31}"
_A_LABEL = 'a label such as "release", "daily" or "beta2"'
Label = Annotated[str, matching(_LABEL, _A_LABEL)]
Version = Annotated[str, matching(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}", 'a version in quotes, such as "10.04"')]
ImageId = Annotated[
    str,
    matching(
        r"ami-([0-9a-f]{8}|[0-9a-f]{17})|ssm:/[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*",
        "an AMI id (ami- and 8 or 17 hex digits) or ssm:/parameter/name",
    ),
]
KernelId = Annotated[str, matching(r"aki-([0-9a-f]{8}|[0-9a-f]{17})", "a kernel id (aki- and 8 or 17 hex digits)")]
RamdiskId = Annotated[str, matching(r"ari-([0-9a-f]{8}|[0-9a-f]{17})", "a ramdisk id (ari- and 8 or 17 hex digits)")]
SubnetId = Annotated[
    str, matching(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})", "a subnet id (subnet- and 8 or 17 hex digits)")
]
SecurityGroupId = Annotated[
    str, matching(r"sg-([0-9a-f]{8}|[0-9a-f]{17})", "a security group id (sg- and 8 or 17 hex digits)")
]
Zone = Annotated[str, matching(r"[a-z0-9-]{2,40}", 'an availability zone such as "us-east-1a"')]
InstanceType = Annotated[str, matching(r"[a-z0-9-]{1,20}\.[a-z0-9-]{1,20}", 'an instance type such as "t3.medium"')]
Login = Annotated[str, matching(r"[a-z_][a-z0-9_-]{0,31}", "a login name")]
ProfileName = Annotated[str, matching(r"[A-Za-z0-9+=,.@_-]{1,128}", "the name of an instance profile (no ARN)")]
KmsKey = Annotated[
    str,
    matching(
        r"(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|alias/[A-Za-z0-9/_-]{1,250}"
        r"|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/[A-Za-z0-9/_-]{1,250})",
        "a KMS key: its id, its ARN, or alias/name",
    ),
]
Cidr = Annotated[str, AfterValidator(_network)]
Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "64 lower-case hex digits")]
Device = Annotated[
    str, matching(r"/dev/(sd[a-z]([1-9]|1[0-5])?|xvd[a-z]{1,2}([1-9]|1[0-5])?)", 'a device such as "/dev/sda1"')
]
EphemeralName = Annotated[str, matching(r"ephemeral([0-9]|1[0-9]|2[0-3])", "ephemeral0 to ephemeral23")]
TagKey = Annotated[str, AfterValidator(_tag_key)]
TagValue = Annotated[str, AfterValidator(_tag_value)]
StoreUrl = Annotated[SecretStr, AfterValidator(_store_url)]
Folder = Annotated[str, AfterValidator(_folder)]
Seconds = Annotated[float, Field(gt=0, le=604800, allow_inf_nan=False)]


# TOML gives lists; what is kept is a tuple. The entries stay strict.
LIST = Field(strict=False)
ONCE = AfterValidator(_no_twins)
SOME = AfterValidator(_not_empty)
SEVERAL = BeforeValidator(_one_or_many)
Zones = Annotated[tuple[Zone, ...], LIST, ONCE, SEVERAL]
Subnets = Annotated[tuple[SubnetId, ...], LIST, ONCE, SEVERAL]
SecurityGroups = Annotated[tuple[SecurityGroupId, ...], LIST, ONCE, SEVERAL]
InstanceTypes = Annotated[tuple[InstanceType, ...], LIST, ONCE, SOME, SEVERAL]
AccountIds = Annotated[tuple[AccountId, ...], LIST, ONCE, SEVERAL]
Organizations = Annotated[tuple[OrganizationArn, ...], LIST, ONCE, SEVERAL]
Units = Annotated[tuple[UnitArn, ...], LIST, ONCE, SEVERAL]
ParameterTemplates = Annotated[tuple[ParameterTemplate, ...], LIST, ONCE, SEVERAL]
RegionNames = Annotated[tuple[Plain, ...], LIST, ONCE, SOME, SEVERAL]


def require_label(label: str) -> None:
    """Raise UsageError for what is no label."""
    if not re.fullmatch(_LABEL, label):
        raise UsageError(f"--label: found {label!r}, expected {_A_LABEL}", todo="Give another label.")
