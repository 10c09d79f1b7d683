"""How long a job takes and what it costs, about: for `plan`, and to choose between a copy and a builder.

Prices are the list prices of :mod:`ebspub.aws.costs` (us-east-1, 2025; no pricing API is asked). Times are the medians
of the steps of this database's own finished jobs of the same way; where there are none, they follow from the rates
below, which are orders of magnitude. What a snapshot holds is what the last published build of the product held, else a
guess from the artefact's size. All of it is an estimate, never a bill and never a promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ebspub.aws import costs
from ebspub.spec import JobSpec
from ebspub.states import STEP_AFTER, Kind, State
from ebspub.store.seats import DEVICES, pool_of

GIB = float(1 << 30)
MIB = float(1 << 20)
#: How many bytes on a volume one byte of an artefact becomes: Ubuntu's `.img` and `.tar.gz` of 2024 give 2 to 3.
EXPANSION = 2.5
#: What share of a volume a snapshot holds where nothing is known of the artefact.
SHARE = 0.25
#: What a file system adds to its files' bytes.
OVERHEAD = 1.1
#: GiB of a builder's own root where the configuration does not say: that of Ubuntu's AMIs.
ROOT = 8
#: Dollars an hour of a builder whose type has no price in the table: of m5.large.
BUILDER = 0.096

#: Rates in bytes a second: a builder's download, its writing and reading back (gp3 has 125 MiB/s), this host's own line
#: (direct method), EC2 making a snapshot of a volume, EC2 copying one to another region.
DOWNLOAD, DISK, LINE, SNAPSHOT, COPY = 40 * MIB, 60 * MIB, 12 * MIB, 50 * MIB, 25 * MIB
#: Seconds that a step takes besides what its bytes take: a boot and cloud-init, EC2's own states.
_BASE = {"launch": 75.0, "attach": 20.0, "populate": 20.0, "snapshot": 90.0, "register": 30.0}
#: The steps in which a builder runs, and is paid; EC2 bills 60 s at least.
_RUNNING = ("launch", "attach", "populate")
_LEAST = 60.0


@dataclass(frozen=True)
class Known:
    """What is known before a job begins.

    ``sizes``: bytes of artefacts by URL. ``facts``: those of the last published job of a product (:func:`product`).
    ``steps``: median seconds by way and step, of ``jobs`` finished jobs.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    steps: Mapping[tuple[str, str], float] = field(default_factory=dict)
    jobs: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """``seconds`` of work, from the job's present state on; ``before_register`` of them until its snapshot is complete.

    ``dollars`` are paid once, ``monthly`` for as long as the snapshot exists.
    """

    seconds: float
    before_register: float
    dollars: float
    monthly: float


@dataclass(frozen=True, slots=True)
class Sharing:
    """A job's part of a builder that ``jobs`` of them share, whose volumes are filled one after another.

    ``ahead``: seconds that those before it take for theirs; ``whole``: that all of them take.
    """

    jobs: int
    ahead: float
    whole: float


def product(spec: JobSpec) -> str:
    """Return what of a build stays from day to day."""
    return f"{spec.suite} {spec.build} {spec.arch}"


def content(spec: JobSpec, known: Known) -> float:
    """Return how many bytes the snapshot will hold, about."""
    whole = spec.volume.size * GIB
    last = known.facts.get(product(spec), {}).get("bytes")
    if isinstance(last, int) and last > 0:
        return min(last * OVERHEAD, whole)
    size = known.sizes.get(spec.source.url)
    return min(size * EXPANSION, whole) if size else SHARE * whole


def sharing(specs: Iterable[JobSpec], known: Known) -> dict[str, Sharing]:
    """Return, by job, its part of the builder that it shares: of jobs on builders of which none is populated yet.

    A job that is alone on its builder has none. What is known of finished jobs' times holds the turns that they have
    waited for: it is too much then, rather than too little.
    """
    crews: dict[tuple[str, str], list[JobSpec]] = {}
    for spec in specs:
        if spec.builder.shared and spec.method != "direct":
            crews.setdefault((spec.region, pool_of(spec.builder, None)), []).append(spec)
    found = {}
    for crew in crews.values():
        for first in range(0, len(crew), len(DEVICES)):
            some = crew[first : first + len(DEVICES)]
            filling = [_time(each, each.method, "populate", known) for each in some]
            for number, spec in enumerate(some):
                found[spec.job_id] = Sharing(len(some), sum(filling[:number]), sum(filling))
    return {job: each for job, each in found.items() if each.jobs > 1}


def estimate(
    spec: JobSpec,
    known: Known,
    *,
    copies: bool | None = None,
    state: State = State.PENDING,
    part: Sharing | None = None,
) -> Estimate:
    """Return what a job takes from ``state`` on; ``copies`` overrules what the document says of copying.

    ``part``: that of a builder which it shares.
    """
    way = spec.way if copies is None else ("copy" if copies else spec.method)
    held = content(spec, known)
    left = list(STEP_AFTER.values())[list(State).index(state) :]
    times = {step: _time(spec, way, step, known) for step in left}
    if way == "copy":
        # Its first step is to wait for the primary: that is the primary's time.
        times = {step: seconds for step, seconds in times.items() if step in ("snapshot", "register")}
        dollars = costs.transfer(spec.fan_out.region if spec.fan_out else spec.region) * held / GIB
        dollars = dollars if "snapshot" in times else 0.0
    elif way == "direct":
        dollars = costs.PUT * _blocks(spec, known, held) if "populate" in times else 0.0
    else:
        dollars = _builder(spec, times, part) if times.get("populate") else 0.0
        if part is not None and "populate" in times:
            times["populate"] += part.ahead
    seconds = sum(times.values())
    monthly = costs.SNAPSHOT * held / GIB
    return Estimate(seconds, seconds - times.get("register", 0.0), dollars, monthly)


def _time(spec: JobSpec, way: str, step: str, known: Known) -> float:
    """Return what a step takes, in seconds."""
    return known.steps.get((way, step), _seconds(spec, way, step, content(spec, known), known))


def _seconds(spec: JobSpec, way: str, step: str, held: float, known: Known) -> float:
    """Return what a step takes where no finished job tells."""
    if way == "direct" and step in ("launch", "attach"):
        return 0.0
    base = _BASE[step]
    artefact = known.sizes.get(spec.source.url, held / EXPANSION)
    if step == "populate":
        # Written as it is downloaded, then read back and compared.
        return base + (max(artefact, held) / LINE if way == "direct" else max(artefact / DOWNLOAD, held / DISK) * 2)
    if step == "snapshot" and way != "direct":
        return base + held / (COPY if way == "copy" else SNAPSHOT)
    return base


def _blocks(spec: JobSpec, known: Known, held: float) -> float:
    """Return how many blocks of 512 KiB are put: with a parent, as many as were the last time."""
    last = known.facts.get(product(spec), {}).get("blocks_sent")
    if spec.parent == "previous" and isinstance(last, int):
        return float(last)
    return held / (512 * 1024)


def _builder(spec: JobSpec, times: Mapping[str, float], part: Sharing | None) -> float:
    """Return what a builder costs, and the volume; of a shared one, this job's share, and its own volume."""
    wanted, volume = spec.builder, spec.volume
    own = sum(times.get(step, 0.0) for step in _RUNNING)
    whole, kept, jobs = own, own, 1
    if part is not None:
        whole, kept, jobs = own - times["populate"] + part.whole, own + part.ahead, part.jobs
    price = costs.hourly(wanted.instance_types[0])
    hourly = (BUILDER if price is None else price) + (costs.ADDRESS if wanted.address == "public" else 0.0)
    hourly += (costs.monthly(Kind.VOLUME, kind_of="gp3", size=wanted.root_size or ROOT) or 0.0) / costs.HOURS
    disk = (costs.monthly(Kind.VOLUME, kind_of=volume.type, size=volume.size) or 0.0) / costs.HOURS
    return _hours(whole) * hourly / jobs + _hours(kept) * disk


def _hours(seconds: float) -> float:
    return max(seconds, _LEAST) / 3600
