"""Where the demonstration plays: an image, a web server, an embedded cloud, a configuration file, all in one folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ebspub.demo.image import make_images, serve
from ebspub.demo.signing import sign_sums
from ebspub.localcloud import Cloud, Delays, Settings, running

SUITE, SERIAL, BUILD = "lucid", "20101020", "server"
ARCHES = ("amd64", "i386")
#: Where Ubuntu 10.04 was published, with the kernels (pv-grub) that its paravirtual images were registered with.
KERNELS = {
    "us-east-1": {"amd64": "aki-0b4aa462", "i386": "aki-754aa41c"},
    "us-west-1": {"amd64": "aki-c397c686", "i386": "aki-3197c674"},
    "eu-west-1": {"amd64": "aki-cb4d67bf", "i386": "aki-c34d67b7"},
    "ap-southeast-1": {"amd64": "aki-a9f38cfb", "i386": "aki-bdf38cef"},
}
_BUILDER_IMAGE = "ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


@dataclass(frozen=True)
class Setting:
    """A running stage. ``images`` holds the tarballs, ``config`` is the file that ebspub is told."""

    folder: Path
    images: Path
    config: Path
    cloud: Cloud

    def environment(self) -> dict[str, str]:
        """Return the environment in which ebspub meets the embedded cloud and nothing else."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "EBSPUB_"))}
        return {**kept, **self.cloud.environment(), "NO_PROXY": "127.0.0.1,127.0.0.0/8", "no_proxy": "127.0.0.1"}


@contextmanager
def setting(folder: Path, *, regions: Sequence[str] = tuple(KERNELS), content_mib: int = 12) -> Iterator[Setting]:
    """Build the stage in ``folder`` (empty); everything that runs is ended with the block."""
    images = make_images(folder / "images", suite=SUITE, serial=SERIAL, arches=ARCHES, content_mib=content_mib)
    keyring = sign_sums(images)
    with ExitStack() as stack:
        url = stack.enter_context(serve(folder / "images"))
        cloud = stack.enter_context(running(folder / "cloud", Settings(delays=Delays.all(0.5))))
        config = folder / "ebspub.toml"
        config.write_text(configuration(folder, url=url, cloud=cloud, regions=regions, keyring=keyring))
        yield Setting(folder, images, config, cloud)


def configuration(folder: Path, *, url: str, cloud: Cloud, regions: Sequence[str], keyring: Path) -> str:
    """Return a configuration that publishes the demonstration's image into ``regions`` of ``cloud``.

    ``keyring`` has the key that signed its SHA256SUMS.
    """
    tables = [
        f"[regions.{region}]\n"
        + "".join(
            f'kernel_ids.{arch} = "{kernel}"\n' for arch, kernel in KERNELS.get(region, KERNELS["us-east-1"]).items()
        )
        for region in regions
    ]
    return _TEMPLATE.format(
        folder=folder,
        image=_BUILDER_IMAGE,
        user=cloud.ssh_user,
        port=cloud.ssh_port,
        regions="\n".join(tables),
        suite=SUITE,
        serial=SERIAL,
        build=BUILD,
        url=f"{url}/{SUITE}/{SERIAL}",
        keyring=keyring,
    )


_TEMPLATE = """\
[store]
url = "sqlite:///{folder}/ebspub.db"
folder = "{folder}/state"

[limits]
listing_lag = 5

[engine]
poll_interval = 0.5

[builder]
images.amd64 = "{image}"
images.i386 = "{image}"
instance_types.amd64 = "t3.medium"
instance_types.i386 = "t2.medium"
ssh_cidr = "127.0.0.1/32"
ssh_user = "{user}"
ssh_port = {port}

[volume]
size = 1

[registration]
virtualization = "paravirtual"
root_device = "/dev/sda1"

{regions}
[[builds]]
suite = "{suite}"
build = "{build}"
label = "release"
version = "10.04"
serial = "{serial}"
arches = ["amd64", "i386"]

[builds.source]
url = "{url}/{{suite}}-server-uec-{{arch}}.tar.gz"
sha256sums = "{url}/SHA256SUMS"
keyring = "{keyring}"
"""
