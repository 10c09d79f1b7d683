"""Images to render: the AMIs of the real lucid file, and as many others as one likes."""

from __future__ import annotations

from collections.abc import Iterator

from ebspub.feeds.catalog import Image

#: Region, and of root store and arch: AMI and kernel. What Ubuntu published of 10.04 in April 2010.
_LUCID = """
ap-southeast-1 ebs            amd64 ami-77f28d25 aki-a9f38cfb
ap-southeast-1 ebs            i386  ami-4df28d1f aki-bdf38cef
ap-southeast-1 instance-store amd64 ami-57f28d05 aki-a9f38cfb
ap-southeast-1 instance-store i386  ami-a5f38cf7 aki-bdf38cef
eu-west-1      ebs            amd64 ami-ab4d67df aki-cb4d67bf
eu-west-1      ebs            i386  ami-a94d67dd aki-c34d67b7
eu-west-1      instance-store amd64 ami-a54d67d1 aki-cb4d67bf
eu-west-1      instance-store i386  ami-cf4d67bb aki-c34d67b7
us-east-1      ebs            amd64 ami-4b4ba522 aki-0b4aa462
us-east-1      ebs            i386  ami-714ba518 aki-754aa41c
us-east-1      instance-store amd64 ami-fd4aa494 aki-0b4aa462
us-east-1      instance-store i386  ami-2d4aa444 aki-754aa41c
us-west-1      ebs            amd64 ami-d197c694 aki-c397c686
us-west-1      ebs            i386  ami-cb97c68e aki-3197c674
us-west-1      instance-store amd64 ami-c997c68c aki-c397c686
us-west-1      instance-store i386  ami-c597c680 aki-3197c674
"""

RELEASED_AT = 1272499200.0  # 2010-04-29


def lucid() -> list[Image]:
    """Return what the real file of lucid names, all of it as if it were ours."""
    return [
        Image(
            "lucid",
            "server",
            "release",
            "20100427.1",
            arch,
            region,
            ami,
            root_store,
            "paravirtual",
            aki,
            version="10.04",
            name=f"{root_store}/ubuntu-images/ubuntu-lucid-10.04-{arch}-server-20100427.1",
            created=RELEASED_AT - 3600,
            released=RELEASED_AT,
        )
        for region, root_store, arch, ami, aki in (line.split() for line in _LUCID.split("\n") if line)
    ]


def image(**changes: str | float | None) -> Image:
    """Return an AMI of today, with ``changes``."""
    facts: dict[str, str | float | None] = {
        "suite": "noble",
        "build": "server",
        "label": "release",
        "serial": "20240423",
        "arch": "amd64",
        "region": "us-east-1",
        "ami": "ami-0123456789abcdef0",
        "root_store": "ebs-ssd",
        "virtualization": "hvm",
        "version": "24.04",
        "released": 1714000000.0,
    }
    return Image(**(facts | changes))  # type: ignore[arg-type]


def many(count: int) -> Iterator[Image]:
    """Yield ``count`` AMIs: of two suites, two arches and forty regions, in as many serials as it takes."""
    regions = [f"{area}-{side}-{number}" for area in ("us", "eu", "ap", "sa", "af") for side in ("east", "west")
               for number in (1, 2, 3, 4)]  # fmt: skip
    for number in range(count):
        serial, rest = divmod(number, 160)
        suite, version = (("jammy", "22.04"), ("noble", "24.04"))[rest % 2]
        yield Image(
            suite,
            "server",
            "release",
            f"{20200101 + serial // 90}.{serial % 90 + 1}",
            ("amd64", "arm64")[rest // 2 % 2],
            regions[rest // 4],
            f"ami-{number:017x}",
            version=version,
            name=f"ubuntu/images/hvm-ssd-gp3/ubuntu-{suite}-{version}-{number}",
            snapshot=f"snap-{number:017x}",
            created=1577836800.0 + number,
            released=1577836800.0 + number,
        )
