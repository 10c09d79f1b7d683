"""`[feeds]`: where files about what is published are written, what they say of the publisher, where they are copied."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from ebspub.config import values as v
from ebspub.config.table import Table

Format = Literal["query", "streams", "locator", "plain", "changes"]
FORMATS: tuple[Format, ...] = ("query", "streams", "locator", "plain", "changes")
_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[A-Za-z0-9!_.*'()/-]*)?")
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9.-]{0,126}"

Web = Annotated[str, v.web()]
Bucket = Annotated[str, v.matching(_S3, 'a bucket, and a folder in it: "s3://images-example/ubuntu"')]
# rsync takes what begins with a dash for an option.
Destination = Annotated[
    str,
    v.matching(
        r"(?!-)[^\s\x00-\x1f\x7f]*[:/][^\s\x00-\x1f\x7f]*",
        'a destination as rsync takes it, with a colon or a slash: "mirror.example.com:/srv/feeds/"',
    ),
]
Header = Annotated[str, v.matching(r"[ -~]{1,200}", "the value of a header: printable ASCII")]
Domain = Annotated[str, v.matching(_PLAIN, "letters, digits, dots and dashes")]


class SignTable(Table):
    """The key that signs simplestreams. GnuPG keeps it; nothing secret is written here."""

    key: v.Fingerprint = Field(description="fingerprint of the OpenPGP key, or of its subkey, 40 hex digits")
    home: v.Folder | None = Field(default=None, description="GnuPG's folder (that of the user)")
    passphrase: v.FilePath | None = Field(
        default=None,
        description="file with the key's passphrase, relative to this file; none: it has none, or an agent knows it",
    )


class SyncTable(Table):
    """Where the folder is copied to, once it is written."""

    s3: Bucket | None = Field(default=None, description='bucket and folder, "s3://images-example/ubuntu"')
    region: v.Plain | None = Field(default=None, description="the bucket's region (that of AWS's own configuration)")
    cache: Header = Field(
        default="public, max-age=60", description="Cache-Control of the objects; indexes and files alike"
    )
    rsync: Destination | None = Field(
        default=None, description='destination as rsync takes it, "mirror.example.com:/srv/feeds/"'
    )
    delete: bool = Field(
        default=False, description="rsync: what else is there is removed; it is a copy and nothing else (false)"
    )

    @property
    def bucket(self) -> tuple[str, str] | None:
        """Return the bucket's name, and the folder in it, empty for none; None where there is no bucket."""
        found = _S3.fullmatch(self.s3 or "")
        return (found[1], (found[2] or "").strip("/")) if found else None


class FeedsTable(Table):
    """Files about what is published."""

    folder: v.Folder | None = Field(default=None, description="folder in which they are written; none: no feeds")
    formats: Annotated[tuple[Format, ...], v.LIST, v.ONCE, v.SOME, v.SEVERAL] = Field(
        default=FORMATS, description="which: query, streams, locator, plain (images.json, images.csv), changes (all)"
    )
    vendor: Domain = Field(default="com.ubuntu.cloud", description="what ids in simplestreams begin with")
    os: Domain = Field(default="ubuntu", description="os of the products in simplestreams")
    endpoints: dict[v.Plain, Web] = Field(
        default_factory=dict, description="URLs of EC2 in simplestreams by region, where they are not Amazon's"
    )
    columns: dict[v.Suite, Literal[10, 11]] = Field(
        default_factory=dict,
        description="columns of the query data of a suite: 10 as in 2010, without virtualization (as they are; 11)",
    )
    title: v.Plain = Field(default="EC2 image locator", description="title of the locator and of the changes")
    origin: Domain = Field(default="ebspub", description="who publishes, such as a host's name: ids of the changes")
    url: Web | None = Field(default=None, description="URL under which the folder is served, for links to it")
    mirror: Web | None = Field(
        default=None, description="URL below which artefacts lie: query data names them by their path there"
    )
    every_serial: bool = Field(default=False, description="the locator has all serials, not the newest only (false)")
    sign: SignTable | None = Field(default=None, description="the key that signs simplestreams")
    sync: SyncTable = Field(default_factory=SyncTable, description="where the folder is copied to")
