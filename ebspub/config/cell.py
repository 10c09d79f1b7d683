"""Where a build, a region and an arch meet: the place for which the layers of the file are laid on one another."""

from __future__ import annotations

from dataclasses import dataclass, field

from ebspub.config import templates
from ebspub.config.layers import Layers
from ebspub.config.model import Build, Config, RegionTable
from ebspub.spec import Arch


@dataclass
class Cell:
    """Where a build, a region and an arch meet; ``problems`` collects what is wrong there."""

    config: Config
    index: int
    region: str
    arch: Arch
    serial: str
    problems: list[str] = field(default_factory=list)

    @property
    def build(self) -> Build:
        return self.config.builds[self.index]

    @property
    def here(self) -> str:
        """The build's path in the file."""
        return f"builds[{self.index}]"

    @property
    def regional(self) -> RegionTable:
        """The region's table; an empty one where the file has none."""
        return self.config.regions.get(self.region) or RegionTable()

    def layers(self, key: str) -> Layers:
        """Return the tables of ``key``: defaults, region, build."""
        return Layers(
            (key, getattr(self.config, key)),
            (f"regions.{self.region}.{key}", getattr(self.regional, key)),
            (f"{self.here}.{key}", getattr(self.build, key)),
        )

    def values(self) -> dict[str, str]:
        """Return the values of the templates' fields."""
        return {
            "suite": self.build.suite,
            "build": self.build.build,
            "label": self.build.label,
            "serial": self.serial,
            "version": self.build.version,
            "arch": self.arch,
            "region": self.region,
            "date": templates.serial_date(self.serial).isoformat(),
        }

    def fault(self, path: str, message: str) -> None:
        """Remember a problem."""
        self.problems.append(f"{path}: {message}")

    def __str__(self) -> str:
        return f"{self.build.suite} {self.build.build} {self.arch} in {self.region}"
