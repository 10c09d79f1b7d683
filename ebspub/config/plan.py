"""From the file and the command line to the jobs: builds x regions x arches, checked as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from ebspub.config import fanout, publishing
from ebspub.config.cell import Cell
from ebspub.config.expand import expand
from ebspub.config.model import Build, Config
from ebspub.config.problems import quoted
from ebspub.config.regions import nearest
from ebspub.config.values import is_serial
from ebspub.errors import ConfigError, UsageError
from ebspub.spec import JobSpec


@dataclass(frozen=True)
class _Planned:
    """A job, and the build in the file that it comes from."""

    index: int
    spec: JobSpec


def _regions(config: Config, build: Build) -> tuple[str, ...]:
    return build.regions if build.regions is not None else tuple(config.regions)


def _cells(config: Config, index: int, serial: str) -> Iterator[Cell]:
    build = config.builds[index]
    for region in _regions(config, build):
        for arch in build.arches:
            yield Cell(config, index, region, arch, serial)


def _expand(cells: Iterable[Cell], problems: list[str]) -> list[_Planned]:
    planned = []
    origins: dict[tuple[int, str, str], JobSpec | None] = {}
    for cell in cells:
        spec = expand(cell)
        origin = fanout.primary(cell)
        if spec is not None and origin is not None:
            key = (cell.index, cell.serial, cell.arch)
            if key not in origins:
                origins[key] = expand(origin)
                problems += origin.problems
            first = origins[key]
            spec = None if first is None else fanout.applied(cell, spec, first)
        problems += cell.problems
        if spec is not None:
            planned.append(_Planned(cell.index, spec))
    return planned


def _twins(planned: Iterable[_Planned]) -> list[str]:
    """Return one line for each job that is planned twice, and for each AMI name that two jobs want in one region."""
    lines: list[str] = []
    jobs: dict[str, _Planned] = {}
    names: dict[tuple[str, str], _Planned] = {}
    for each in planned:
        first = jobs.setdefault(each.spec.job_id, each)
        if first is not each:
            lines.append(f"builds[{each.index}]: the same job as builds[{first.index}]: {each.spec.job_id}")
            continue
        name = each.spec.registration.name
        first = names.setdefault((each.spec.region, name), each)
        if first is not each:
            other = f"builds[{first.index}] ({first.spec.serial} {first.spec.arch})"
            missing = " ({arch} is missing in it)" if first.spec.arch != each.spec.arch else ""
            lines.append(
                f"builds[{each.index}].name: gives {quoted(name)} in {each.spec.region}, which is also the name of "
                f"{other}, expected a name of its own{missing}"
            )
    return lines


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _placeholder(index: int) -> str:
    """Return a serial for checking a build that has none: another one for each build, as it will be."""
    return (date(2000, 1, 1) + timedelta(days=index)).strftime("%Y%m%d")


def check(config: Config) -> list[str]:
    """Return one line for each problem that shows only when the builds of the whole file are laid out."""
    problems: list[str] = []
    planned: list[_Planned] = []
    for index, build in enumerate(config.builds):
        if not _regions(config, build):
            problems.append(f"builds[{index}].regions: missing, expected a list of regions, or [regions] tables")
        serial = build.fixed_serial or _placeholder(index)
        astray = fanout.fault(Cell(config, index, "", build.arches[0], serial), _regions(config, build))
        if astray is not None:
            problems.append(astray)
            continue
        mine = _expand(_cells(config, index, serial), problems)
        problems += publishing.faults(config, index, [each.spec for each in mine])
        planned += mine
    problems += publishing.collisions(config, [(each.index, each.spec) for each in planned])
    return _once([*problems, *_twins(planned)])


def open_builds(config: Config) -> tuple[str, ...]:
    """Return the builds that wait for ``--serial``, as `suite build`; a plan without serials leaves them out."""
    return tuple(f"{build.suite} {build.build}" for build in config.builds if build.serial is None)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values)) or "none"


def _require_known(option: str, wanted: Sequence[str], existing: Sequence[str]) -> None:
    for each in wanted:
        if each not in existing:
            near = nearest(each, existing)
            hint = f' Did you mean "{near}"?' if near else ""
            raise UsageError(
                f"{option}: the configuration has no {quoted(each)}.{hint}", todo=f"It has: {_listed(existing)}."
            )


def _require_serials(serials: Sequence[str]) -> None:
    for each in serials:
        if not is_serial(each):
            raise UsageError(
                f"--serial: found {quoted(each)}, expected YYYYMMDD or YYYYMMDD.N of a day that exists",
                todo="Give the serial of the build.",
            )


def _chosen(config: Config, suites: Sequence[str], builds: Sequence[str], labels: Sequence[str]) -> list[int]:
    """Return the indexes of the builds that the command line asks for."""
    _require_known("--suite", suites, [build.suite for build in config.builds])
    _require_known("--build", builds, [build.build for build in config.builds])
    _require_known("--label", labels, [build.label for build in config.builds])
    chosen = [
        index
        for index, build in enumerate(config.builds)
        if (not suites or build.suite in suites)
        and (not builds or build.build in builds)
        and (not labels or build.label in labels)
    ]
    if not chosen:
        existing = _listed(f"{build.suite} {build.build} {build.label}" for build in config.builds)
        raise UsageError("no build matches --suite, --build and --label together", todo=f"The file has: {existing}.")
    return chosen


def _require_one_suite(config: Config, chosen: Sequence[int], serials: Sequence[str]) -> None:
    """A serial is that of one build: it is never laid on all suites of a file because --suite was forgotten."""
    suites = dict.fromkeys(config.builds[index].suite for index in chosen)
    if serials and len(suites) > 1:
        raise UsageError(
            f"--serial {serials[0]} would be used for the suites {_listed(suites)}", todo="Name the one with --suite."
        )


def _serials_of(build: Build, serials: Sequence[str], current: str | None) -> tuple[str, ...]:
    fixed = current if build.serial == "current" else build.serial
    return tuple(serials) or ((fixed,) if fixed else ())


def searching(
    config: Config, *, suites: Sequence[str] = (), builds: Sequence[str] = (), labels: Sequence[str] = ()
) -> tuple[int, ...]:
    """Return the indexes of the builds that are asked for and whose serial is `current`: it must be looked for."""
    return tuple(i for i in _chosen(config, suites, builds, labels) if config.builds[i].serial == "current")


def _raise_problems(config: Config, lines: Sequence[str]) -> None:
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ConfigError(
            f"{config.origin}: {count} with what the command line asks for",
            problems=lines,
            todo="Correct the file or the command line; nothing was touched.",
        )


def _others(config: Config, chosen: Sequence[int]) -> list[_Planned]:
    """Return the jobs of the builds that were not asked for: theirs are names that are taken, too."""
    ignored: list[str] = []
    cells = (
        cell
        for index, build in enumerate(config.builds)
        if index not in chosen and build.fixed_serial
        for cell in _cells(config, index, build.fixed_serial)
    )
    return _expand(cells, ignored)


def primaries(config: Config, specs: Sequence[JobSpec]) -> tuple[JobSpec, ...]:
    """Return the jobs that any of ``specs`` may copy from and that are not among them. Raises ConfigError."""
    known = {spec.job_id for spec in specs}
    cells: dict[str, Cell] = {}
    for index, build in enumerate(config.builds):
        if build.fan_out is None:
            continue
        for spec in specs:
            mine = (spec.suite, spec.build, spec.label) == (build.suite, build.build, build.label)
            mine &= spec.fan_out is not None and spec.fan_out.region == build.fan_out.primary
            if mine and spec.primary is not None and spec.primary not in known:
                cells.setdefault(spec.primary, Cell(config, index, build.fan_out.primary, spec.arch, spec.serial))
    problems: list[str] = []
    planned = _expand(cells.values(), problems)
    _raise_problems(config, _once(problems))
    return tuple(each.spec for each in planned)


def select(
    config: Config,
    current: Mapping[int, str] | None = None,
    /,
    *,
    suites: Sequence[str] = (),
    serials: Sequence[str] = (),
    archs: Sequence[str] = (),
    regions: Sequence[str] = (),
    builds: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> tuple[JobSpec, ...]:
    """Return the jobs that the command line asks for; an empty option asks for all.

    ``serials`` take the place of the serial in the file. ``current`` has what was found for the builds of
    :func:`searching`, by index. Builds that have no serial at all are left out (see :func:`open_builds`). The order is
    that of the file: builds, serials, regions, arches.

    Raises :class:`UsageError` for an option that names nothing in the file and for a choice without any job, and
    :class:`ConfigError` with every problem for jobs that the file does not describe.
    """
    if not config.builds:
        raise UsageError(f"{config.origin} has no builds", todo="Add a [[builds]] table.")
    _require_serials(serials)
    chosen = _chosen(config, suites, builds, labels)
    if not suites:
        _require_one_suite(config, chosen, serials)
    wanted = [config.builds[index] for index in chosen]
    _require_known("--arch", archs, [arch for build in wanted for arch in build.arches])
    _require_known("--region", regions, [region for build in wanted for region in _regions(config, build)])
    found = current or {}
    if not any(_serials_of(config.builds[index], serials, found.get(index)) for index in chosen):
        waiting = _listed(f"{build.suite} {build.build}" for build in wanted)
        raise UsageError(f"no serial for: {waiting}", todo="Give it with --serial, or write it into the file.")
    cells = (
        cell
        for index in chosen
        for serial in dict.fromkeys(_serials_of(config.builds[index], serials, found.get(index)))
        for cell in _cells(config, index, serial)
        if (not archs or cell.arch in archs) and (not regions or cell.region in regions)
    )
    problems: list[str] = []
    planned = _expand(cells, problems)
    _raise_problems(config, _once([*problems, *_twins([*_others(config, chosen), *planned])]))
    if not planned:
        raise UsageError("no job matches --arch and --region together", todo="Leave one of them out.")
    return tuple(each.spec for each in planned)
