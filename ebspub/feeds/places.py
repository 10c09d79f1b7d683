"""Where a region is: its partition, its endpoint, its console, and what simplestreams calls it for short."""

from __future__ import annotations

import re
from functools import cache
from urllib.parse import quote

from botocore.loaders import create_loader
from botocore.regions import EndpointResolver

from ebspub.config import regions
from ebspub.feeds.catalog import Image

#: What Ubuntu's simplestreams call a partition; others go by their own name.
_CLOUDS = {"aws-us-gov": "aws-govcloud"}
_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-eusc": "console.amazonaws-eusc.eu",
}
_DIRECTIONS = {
    "north": "nn",
    "northeast": "ne",
    "east": "ee",
    "southeast": "se",
    "south": "ss",
    "southwest": "sw",
    "west": "ww",
    "northwest": "nw",
    "central": "cc",
}
_REGION = re.compile(rf"([a-z]+)-(?:([a-z]+)-)?({'|'.join(_DIRECTIONS)})-([0-9]+)")


def partition(image: Image) -> str:
    """Return the partition of an AMI's region; `aws` where it is not known."""
    return image.partition or regions.partition_of(image.region)


def cloud(image: Image) -> str:
    """Return what Ubuntu's simplestreams call the partition: `aws`, `aws-cn`, `aws-govcloud`."""
    name = partition(image)
    return _CLOUDS.get(name, name)


@cache
def endpoint(region: str) -> str:
    """Return the URL of EC2 in ``region``, as botocore has it: `https://ec2.cn-north-1.amazonaws.com.cn`."""
    found = _resolver().construct_endpoint("ec2", region) if region in regions.partitions() else None
    return f"https://{found['hostname'] if found else f'ec2.{region}.amazonaws.com'}"


@cache
def _resolver() -> EndpointResolver:
    return EndpointResolver(create_loader().load_data("endpoints"))


def launch(image: Image) -> str:
    """Return the URL of the console that launches an AMI; empty where the partition's is not public."""
    console = _console(partition(image), image.region)
    return console + quote(image.ami, safe="") if console else ""


@cache
def _console(partition: str, region: str) -> str:
    host = _CONSOLES.get(partition)
    return f"https://{host}/ec2/home?region={quote(region, safe='')}#launchAmi=" if host else ""


@cache
def short(region: str) -> str:
    """Return the region's part of an item's key: `usww1` for us-west-1, `cnnn1` for cn-north-1.

    The country, the direction in two letters, the number; ahead of it `g` for GovCloud. What Ubuntu never published to
    follows by the same rule: ahead of it is the word in the middle (`iso`, `isob`, `de`). A region of another cloud is
    its own key, which no other is: it ends with a dash.
    """
    found = _REGION.fullmatch(region)
    if found is None:
        return f"{region}-"
    country, realm, direction, number = found.groups()
    ahead = "g" if realm == "gov" else realm or ""
    return f"{ahead}{country}{_DIRECTIONS[direction]}{number}"
