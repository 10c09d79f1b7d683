"""Tags and tokens: by what we know our own again.

Every resource carries these from the creating call on. ``ebspub:store`` names the database, so that two publishers in
one account leave each other's alone; ``ebspub:job`` the job; ``ebspub:token`` the very intent, so that a lost answer
is found again without any other mark.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ebspub.aws.answers import GarbledAnswerError
from ebspub.spec import Source

if TYPE_CHECKING:
    from mypy_boto3_ec2.literals import ResourceTypeType
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagSpecificationTypeDef, TagTypeDef

STORE = "ebspub:store"
JOB = "ebspub:job"
ATTEMPT = "ebspub:attempt"
TOKEN = "ebspub:token"
SOURCE = "ebspub:source-sha256"
#: What proved the source, where that was not a checksum in the configuration: `signature`, or `none` for nothing.
VERIFY = "ebspub:source-verify"
#: Where nothing says which bytes the source has until a builder has measured them: digest of the URL they come from.
ORIGIN = "ebspub:source-url-sha256"

#: What it is published as: set by `ebspub publish`, and changed when a daily becomes a release.
LABEL = "ebspub:label"
#: What was written, by the method that wrote it: `filesystem:` or `disk:` or `direct:` and a SHA-256 in hex.
DIGEST = "ebspub:content-digest"


def token(store: str, job: str, attempt: int, purpose: str) -> str:
    """Return the client token of one intent: deterministic, ASCII, at most 64 characters (EC2's limit)."""
    digest = hashlib.sha256("\0".join((store, job, str(attempt), purpose)).encode()).hexdigest()
    return f"ebspub-{digest[:40]}"


def of_source(source: Source, measured: str | None) -> dict[str, str]:
    """Return the tags that say what a job's resources are made from; ``measured`` is the builder's own SHA-256.

    A document of a time before there were signatures says `sha256`, and gets the tags that it had then: a call that is
    made again must say the same.
    """
    sha256 = source.sha256 or measured
    found = {SOURCE: sha256} if sha256 else {}
    if source.sha256 is None:
        found[ORIGIN] = _digest(source.url)
    return found if source.verify == "sha256" else {**found, VERIFY: source.verify}


def of_content(method: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the tag of an AMI that says what was written and compared; none where the facts hold no digest."""
    digest = facts.get("digest")
    return {DIGEST: f"{method}:{digest}"} if digest else {}


def is_from(tags: Mapping[str, str], source: Source, measured: str | None = None) -> bool:
    """Return whether what carries ``tags`` was made from ``source``: the same bytes; while unmeasured, the same URL."""
    sha256 = source.sha256 or measured
    return tags.get(SOURCE) == sha256 if sha256 else tags.get(ORIGIN) == _digest(source.url)


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def specification(kind: ResourceTypeType, tags: Mapping[str, str]) -> TagSpecificationTypeDef:
    """Return the TagSpecification that sets ``tags`` in a creating call."""
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def as_dict(tags: Sequence[TagTypeDef] | None) -> dict[str, str]:
    """Return the tags of an answer as a mapping."""
    return {str(tag.get("Key", "")): str(tag.get("Value", "")) for tag in tags or ()}


def marked(items: Sequence[Any]) -> list[Any]:
    """Return ``items``, which were asked for by :func:`of_jobs`; raises GarbledAnswerError where one shows no such tag.

    Without its tags it would be taken for nobody's, and what a job has would be made again.
    """
    for item in items:
        if not {STORE, JOB} <= as_dict(item.get("Tags")).keys():
            raise GarbledAnswerError("what was asked for by its tags does not show them")
    return list(items)


def of_jobs(store: str, jobs: Sequence[str]) -> list[FilterTypeDef]:
    """Return the filters that select what a store made for some jobs (at most 200, EC2's limit per filter)."""
    return [{"Name": f"tag:{STORE}", "Values": [store]}, {"Name": f"tag:{JOB}", "Values": list(jobs)}]


def chunks(values: Iterable[str], size: int = 200) -> list[list[str]]:
    """Split values into lists of at most ``size``: EC2 takes 200 values per filter."""
    listed = sorted(set(values))
    return [listed[start : start + size] for start in range(0, len(listed), size)]
