"""The regions of EC2 and their partitions, from the endpoint data that comes with botocore (no network, no profile)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache

from botocore.loaders import create_loader
from botocore.regions import EndpointResolver

#: What a region's name may look like at all, those of other clouds that speak EC2's API included.
REGION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,31}")


@cache
def partitions() -> dict[str, str]:
    """Return every region of EC2 that botocore knows, with its partition: ``{"cn-north-1": "aws-cn", ...}``."""
    # Not through boto3's Session: that reads the user's profile, and a bad AWS_PROFILE is no fault of this file.
    resolver = EndpointResolver(create_loader().load_data("endpoints"))
    return {
        region: partition
        for partition in resolver.get_available_partitions()
        for region in resolver.get_available_endpoints("ec2", partition)
    }


def partition_of(region: str) -> str:
    """Return the partition of ``region``: ``aws``, ``aws-cn``, ``aws-us-gov``; ``aws`` for one that is not known."""
    return partitions().get(region, "aws")


def same_cloud(one: str, other: str) -> bool:
    """Whether a snapshot can be copied between two regions: of one partition, or both unknown to botocore.

    Of what the file declares (``custom = true``) nothing is known: its author says that one copies from the other.
    """
    return partitions().get(one) == partitions().get(other)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that looks most like ``name``, if any does.

    Of equally near ones the one that has the same letters wins: for `us-esat-1` that is `us-east-1`.
    """
    close = difflib.get_close_matches(name, list(candidates), n=5, cutoff=0.6)
    return min(close, key=lambda each: sorted(each) != sorted(name)) if close else None


def region_fault(name: str, custom: frozenset[str] = frozenset()) -> str | None:
    """Return what is expected instead of ``name``, or None where it is a region.

    ``custom`` holds the names that the configuration itself declares (``custom = true``).
    """
    if name in custom:
        return None if REGION_NAME.fullmatch(name) else "letters, digits and dashes, 2 to 32 of them"
    if name in partitions():
        return None
    near = nearest(name, [*partitions(), *custom])
    if near:
        return f'a region; did you mean "{near}"?'
    return "a region of EC2, or one with `custom = true` in its [regions] table"
