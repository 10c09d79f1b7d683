"""Where and how a registered AMI is booted: [verify], and the place that [builder] names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ebspub.config import Config
from ebspub.config.layers import Layers
from ebspub.config.model import RegionTable
from ebspub.errors import ConfigError
from ebspub.store import Job

#: Small types that boot the arch; paravirtual images need one of the old Xen families.
_TYPES: Mapping[str, str] = {"amd64": "t3.micro", "arm64": "t4g.micro", "i386": "t2.micro"}
_PARAVIRTUAL = "m3.medium"


@dataclass(frozen=True)
class Place:
    """What a test boot is told. ``places``: (zone, subnet) in the order tried; times in seconds."""

    types: tuple[str, ...]
    places: tuple[tuple[str | None, str | None], ...]
    security_groups: tuple[str, ...]
    ssh_cidr: str | None
    ssh_user: str
    ssh_port: int
    public: bool
    console: str | None
    boot: float
    stop: float
    dead_man: int

    @property
    def needs_group(self) -> bool:
        """Whether a temporary security group is to be made."""
        return self.console is None and not self.security_groups


def nowhere(config: Config) -> Place:
    """Return the place of a test boot that boots nothing, and only removes what earlier ones left."""
    table = config.verify
    return Place(
        types=(),
        places=((None, None),),
        security_groups=(),
        ssh_cidr=None,
        ssh_user=table.ssh_user,
        ssh_port=table.ssh_port,
        public=True,
        console=table.console,
        boot=table.boot,
        stop=table.stop,
        dead_man=table.dead_man,
    )


def place(config: Config, job: Job, types: Sequence[str] = ()) -> Place:
    """Return how the AMI of ``job`` is booted; ``types`` take the place of the configured ones. Raises ConfigError."""
    region, spec, table = job.spec.region, job.spec, config.verify
    own = (config.regions.get(region) or RegionTable()).builder
    layers = Layers(("builder", config.builder), (f"regions.{region}.builder", own))
    default = _PARAVIRTUAL if spec.registration.virtualization == "paravirtual" else _TYPES[spec.arch]
    configured = (table.instance_types.of(spec.arch) if table.instance_types else None) or (default,)
    where = layers.of_uppermost("zones", "subnets")
    places = [(None, subnet) for subnet in where.get("subnets", ())] or [
        (zone, None) for zone in where.get("zones", ())
    ]
    found = Place(
        types=tuple(dict.fromkeys(types or configured)),
        places=tuple(places or [(None, None)]),
        security_groups=layers.get("security_groups", ()),
        ssh_cidr=layers.get("ssh_cidr"),
        ssh_user=table.ssh_user,
        ssh_port=table.ssh_port,
        public=layers.get("address", "public") == "public",
        console=table.console,
        boot=table.boot,
        stop=table.stop,
        dead_man=table.dead_man,
    )
    if found.needs_group and found.ssh_cidr is None:
        raise ConfigError(
            f"{config.origin}: builder.ssh_cidr: missing, expected the IPv4 network from which the publisher connects",
            todo="Write it or builder.security_groups; or [verify] console, with which nothing connects.",
        )
    return found
