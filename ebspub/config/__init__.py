"""The configuration file: found, read, checked as a whole, and turned into the jobs that it describes.

>>> config = load(Path("examples/noble.toml"))  # doctest: +SKIP
>>> specs = select(config, suites=["noble"], serials=["20240423"])  # doctest: +SKIP

Layers, from below: defaults, region, build, the build's arch, the command line. Everything that can be known
without asking EC2 is judged here, so that a wrong file costs nothing.
"""

from ebspub.config.load import find, from_dict, load, parse, places
from ebspub.config.model import Config
from ebspub.config.plan import check, open_builds, primaries, searching, select
from ebspub.config.regions import partition_of, partitions
from ebspub.config.sources import Lookout, beside, lookout

__all__ = [
    "Config",
    "Lookout",
    "beside",
    "check",
    "find",
    "from_dict",
    "load",
    "lookout",
    "open_builds",
    "parse",
    "partition_of",
    "partitions",
    "places",
    "primaries",
    "searching",
    "select",
]
