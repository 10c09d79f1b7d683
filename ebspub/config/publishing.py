"""How a build is published: `[publish]`, what a region changes of it, what a build changes of both.

Read when it is published, not when its jobs are planned: whom an AMI is shared with is no part of what it is, and
`ebspub publish` again brings what EC2 shows to what the file says now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ebspub.config import rules, templates
from ebspub.config.layers import Layers
from ebspub.config.model import Build, Config, RegionTable
from ebspub.config.problems import quoted
from ebspub.spec import JobSpec

#: The principal that means everybody; the others are account ids and ARNs.
EVERYBODY = "all"
#: Tag keys that AMI and snapshot may have in all, those of the tool's own among them (EC2: 50).
MAX_TAGS = 50


@dataclass(frozen=True)
class Sharing:
    """What is wanted of one region's AMIs. ``parameters`` and the values of ``tags`` are templates."""

    public: bool = False
    accounts: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def launch(self) -> frozenset[str]:
        """Who may launch the AMI: `all`, account ids, ARNs."""
        return frozenset((*self.volume, *self.organizations, *self.units))

    @property
    def volume(self) -> frozenset[str]:
        """Who may make volumes of its snapshot: `all` and account ids; EC2 shares no snapshot with an organization."""
        return frozenset((*((EVERYBODY,) if self.public else ()), *self.accounts))

    @cached_property
    def moving(self) -> frozenset[str]:
        """Return those templates of parameters that go from build to build: they do not name the serial."""
        known = templates.PARAMETER_FIELDS
        return frozenset(each for each in self.parameters if "serial" not in templates.fields(each, known))


@dataclass(frozen=True)
class Publishing:
    """How one build of the file is published. ``regions`` and ``arches``: all that it is to have."""

    index: int
    when: Literal["manual", "auto"]
    verify: bool
    quorum: int | None
    required: tuple[str, ...] | None
    patience: float
    regions: tuple[str, ...]
    arches: tuple[str, ...]


def find(config: Config, suite: str, build: str, label: str) -> int | None:
    """Return the index of the build in the file; of several labels that of ``label``, else the first."""
    found = [n for n, each in enumerate(config.builds) if (each.suite, each.build) == (suite, build)]
    same = [n for n in found if config.builds[n].label == label]
    return next(iter(same or found), None)


def publishing(config: Config, index: int) -> Publishing:
    """Return how the build is published."""
    build, layers = config.builds[index], _layers(config, index)
    fences = layers.of_uppermost("quorum", "required")
    return Publishing(
        index=index,
        when=layers.get("when", "manual"),
        verify=layers.get("verify", False),
        quorum=fences.get("quorum"),
        required=fences.get("required"),
        patience=layers.get("patience", 300.0),
        regions=_regions(config, build),
        arches=build.arches,
    )


def sharing(config: Config, index: int, region: str) -> Sharing:
    """Return what is wanted of the build's AMIs in ``region``, which need not be in the file any more."""
    layers = _layers(config, index, region)
    return Sharing(
        public=layers.get("public", False),
        accounts=layers.get("accounts", ()),
        organizations=layers.get("organizations", ()),
        units=layers.get("organizational_units", ()),
        parameters=layers.get("parameters", ()),
        tags=tuple(sorted(layers.get("tags", {}).items())),
    )


def unshared(config: Config, index: int, region: str) -> bool:
    """Whether nobody else may use the build's AMIs in ``region`` though ``public = false`` does not say so."""
    return not sharing(config, index, region).launch and _layers(config, index, region).get("public") is None


def publishes(config: Config, region: str) -> bool:
    """Whether any build is to be shared, or named, in ``region`` once it is published."""
    return any(sharing(config, index, region) != Sharing() for index in range(len(config.builds)))


def makes_public(config: Config, region: str) -> bool:
    """Whether any build is to be everybody's in ``region``."""
    return any(sharing(config, index, region).public for index in range(len(config.builds)))


def values(spec: JobSpec, label: str) -> dict[str, str]:
    """Return the values of the templates' fields; ``label`` instead of the one that the job was planned with."""
    return {
        **{name: getattr(spec, name) for name in ("suite", "build", "serial", "version", "arch", "region")},
        "label": label,
        "date": templates.serial_date(spec.serial).isoformat(),
        "virtualization": spec.registration.virtualization,
        "volume_type": spec.registration.volume_type,
    }


def names(wanted: Sharing, spec: JobSpec, label: str) -> dict[str, bool]:
    """Return the parameters that hold the AMI of a job, and whether each goes on to the next build."""
    told = values(spec, label)
    return {templates.expand(each, told): each in wanted.moving for each in wanted.parameters}


def _layers(config: Config, index: int, region: str | None = None) -> Layers:
    regional = (config.regions.get(region) or RegionTable()).publish if region is not None else None
    return Layers(
        ("publish", config.publish),
        (f"regions.{region}.publish", regional),
        (f"builds[{index}].publish", config.builds[index].publish),
    )


def _regions(config: Config, build: Build) -> tuple[str, ...]:
    return build.regions if build.regions is not None else tuple(config.regions)


def faults(config: Config, index: int, specs: list[JobSpec]) -> Iterator[str]:
    """Yield one line for each problem of how the build is published; ``specs`` are its jobs, where there are any."""
    layers, regions = _layers(config, index), _regions(config, config.builds[index])
    fences = layers.of_uppermost("quorum", "required")
    if len(fences) > 1:
        yield f"{layers.where('quorum')}: found quorum and required, expected one of the two"
    elif "quorum" in fences and fences["quorum"] > len(regions):
        yield f"{layers.where('quorum')}: found {fences['quorum']}, expected at most {len(regions)}, its regions"
    for region in fences.get("required", ()):
        if region not in regions and len(fences) == 1:
            yield f"{layers.where('required')}: found {quoted(region)}, expected regions of builds[{index}]"
    for spec in specs:
        layers, wanted = _layers(config, index, spec.region), sharing(config, index, spec.region)
        why = rules.sharing_fault(encrypted=spec.volume.encrypted, everybody=wanted.public)
        if why is not None:
            yield f"{layers.where('public')}: found true, expected false (builds[{index}] in {spec.region}): {why}"
        if len({**spec.tags, **dict(wanted.tags)}) > MAX_TAGS - 10:
            yield f"{layers.where('tags')}: with the build's own there are more than {MAX_TAGS - 10} tags"
        yield from _value_faults(wanted, spec, layers.where("tags"))


def _value_faults(wanted: Sharing, spec: JobSpec, where: str) -> Iterator[str]:
    told: Mapping[str, Any] = values(spec, spec.label)
    for key, template in wanted.tags:
        if len(templates.expand(template, told)) > 256:
            yield f"{where}: the value of {quoted(key)} has more than 256 characters"


def collisions(config: Config, planned: list[tuple[int, JobSpec]]) -> Iterator[str]:
    """Yield one line for each parameter that would hold the AMIs of different images in one region."""
    taken: dict[tuple[str, str], tuple[int, JobSpec]] = {}
    for index, spec in planned:
        wanted = sharing(config, index, spec.region)
        found = [templates.expand(each, values(spec, spec.label)) for each in wanted.parameters]
        where = _layers(config, index, spec.region).where("parameters")
        for name in dict.fromkeys(name for name in found if found.count(name) > 1):
            yield f"{where}: {quoted(name)} comes of two templates, expected each path once"
        for name in dict.fromkeys(found):
            first, other = taken.setdefault((spec.region, name), (index, spec))
            if (other.suite, other.build, other.arch) != (spec.suite, spec.build, spec.arch):
                missing = " ({arch} is missing in it)" if other.arch != spec.arch else ""
                whose = f"builds[{first}] ({other.suite} {other.build} {other.arch})"
                yield (
                    f"{where}: gives {quoted(name)} in {spec.region}, which is also that of {whose}, expected a path "
                    f"of its own{missing}"
                )
