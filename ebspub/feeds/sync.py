"""Bring a rendering to a bucket of S3, from where it is served; :mod:`ebspub.feeds.rsync` to another machine.

In the order of :mod:`ebspub.feeds.files`: what is named before what names it, removals last and the other way round.
An object is replaced as a whole.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ebspub.errors import EbspubError
from ebspub.feeds.files import LIST, Written, in_order, listed, listing

_TYPES = {
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".sjson": "text/plain; charset=utf-8",
    ".gpg": "application/pgp-signature",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".atom": "application/atom+xml",
}
#: Every file is replaced in its place: what is cached for long would not fit what an index, cached anew, says of it.
CACHE = "public, max-age=60"
#: What an object is put with: the checksum of its content; the list, too: the Cache-Control of all that it lists.
_SHA256, _CACHE = "ebspub-sha256", "ebspub-cache"


class SyncError(EbspubError):
    """A copy of the feeds cannot be brought up to date."""


def content_type(path: str) -> str:
    """Return the media type of a file of a rendering."""
    return _TYPES.get(posixpath.splitext(path)[1], "application/json")  # releasesTable


def to_s3(rendering: Mapping[str, bytes], client: Any, bucket: str, prefix: str = "", *, cache: str = CACHE) -> Written:
    """Make the objects below ``prefix`` those of ``rendering``; return what was done.

    ``client`` is boto3's of S3, ``cache`` the objects' Cache-Control. What an earlier rendering brought and this one
    has not is removed, as far as ``.ebspub-files`` there lists it; other objects stay, and those that are as they
    should be are not put again: none is where ``cache`` has changed.
    Raises :class:`SyncError`.
    """
    root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    with _calling(bucket, root):
        return _to_s3(rendering, client, bucket, root, cache.strip())


def stale_in_s3(
    rendering: Mapping[str, bytes], client: Any, bucket: str, prefix: str = "", *, cache: str = CACHE
) -> list[str]:
    """Return the paths whose objects :func:`to_s3` would put or delete. Raises :class:`SyncError`."""
    root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    with _calling(bucket, root):
        tags = _tags(client, bucket, root)
        before, cached = _before(client, bucket, root, tags)
        gone = before - rendering.keys()
        new = _new(rendering, client, bucket, root, tags if cached == cache.strip() else {})
    return [*new, *(path for path in in_order(gone) if path in tags)]


@contextmanager
def _calling(bucket: str, root: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise SyncError(
            f"s3://{bucket}/{root}: {error}",
            todo="The credentials need s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject there. Try again.",
        ) from error


def _tags(client: Any, bucket: str, root: str) -> dict[str, str]:
    """Return the tags of the objects below ``root``, by path."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=root)
    there = [each for page in pages for each in page.get("Contents", ())]
    return {each["Key"].removeprefix(root): each["ETag"].strip('"') for each in there}


def _before(client: Any, bucket: str, root: str, tags: Mapping[str, str]) -> tuple[set[str], str]:
    """Return what an earlier rendering brought, as far as it is listed there, and with which Cache-Control."""
    if LIST not in tags:
        return set(), ""
    found = client.get_object(Bucket=bucket, Key=root + LIST)
    return listed(found["Body"].read()), found.get("Metadata", {}).get(_CACHE, "")


def _new(rendering: Mapping[str, bytes], client: Any, bucket: str, root: str, tags: Mapping[str, str]) -> list[str]:
    """Return the paths whose objects are not as they should be.

    The tag of an object that S3 encrypts by a key of KMS says nothing of its content; what it was put with does.
    """

    def same(path: str) -> bool:
        content = rendering[path]
        if path not in tags or tags[path] == _digest(content):
            return path in tags
        told = client.head_object(Bucket=bucket, Key=root + path).get("Metadata", {})
        return bool(told.get(_SHA256) == hashlib.sha256(content).hexdigest())

    return [path for path in in_order(rendering) if not same(path)]


def _to_s3(rendering: Mapping[str, bytes], client: Any, bucket: str, root: str, cache: str) -> Written:
    tags = _tags(client, bucket, root)
    before, cached = _before(client, bucket, root, tags)

    def put(path: str, content: bytes, **more: str) -> None:
        client.put_object(
            Bucket=bucket, Key=root + path, Body=content, ContentType=content_type(path), CacheControl=cache,
            Metadata={_SHA256: hashlib.sha256(content).hexdigest(), **more},
        )  # fmt: skip

    new = _new(rendering, client, bucket, root, tags if cached == cache else {})
    gone = [path for path in reversed(in_order(before - rendering.keys())) if path in tags]
    if new or gone:
        put(LIST, listing(before | rendering.keys()), **{_CACHE: cached})
    for path in new:
        put(path, rendering[path])
    for path in gone:
        client.delete_object(Bucket=bucket, Key=root + path)
    if new or gone:
        put(LIST, listing(rendering), **{_CACHE: cache})
    return Written(tuple(new), tuple(gone), len(rendering) - len(new))


def _digest(content: bytes) -> str:
    """Return what S3 tags an object with that was put in one piece."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
