"""What the benchmark has found: medians, ratios beside their targets, as a table in reStructuredText and as JSON."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.bench.meter import Taken

MIB = 1 << 20
#: At most so many times the slowest part, at least so many times faster than the literal sequence, at most so many
#: times the image's data written to the device, at most so much memory.
SLOWEST: Mapping[str, float] = {"disk": 1.15, "direct": 1.15}
LITERAL: Mapping[str, float] = {"disk": 3.0, "filesystem": 1.5}
WRITTEN = 1.02
#: EC2's pace: bytes a second to and from a volume (gp3's, where nothing more is paid for), and seconds until a put is
#: answered ("Assuming PutSnapshotBlock latency is 100ms": EBS User Guide, "Optimize performance for EBS direct APIs").
PACE = 125 * MIB
LATE = 0.1
_PACED = "paced "
_METHODS = ("filesystem", "disk", "direct", "paced disk", "paced direct")
MEMORY = 200 * MIB
#: Of the feeds: AMIs, and less than so many seconds.
FEEDS: Mapping[str, tuple[int, float]] = {"rendered": (100_000, 5.0), "page loaded": (20_000, 1.0)}
#: What is told of the tools; the first line that each prints.
_TOOLS = (
    *(("pigz", "--version"), ("igzip", "--version"), ("xz", "--version"), ("zstd", "--version")),
    *(("qemu-img", "--version"), ("tar", "--version"), ("mkfs.ext4", "-V"), ("python3", "--version")),
)


@dataclass
class Rounds:
    """All that was measured: by name, one entry a round. Names are `part/artefact` and `method/artefact`."""

    taken: dict[str, list[Taken]] = field(default_factory=dict)

    def add(self, name: str, taken: Taken) -> None:
        """Note one measurement."""
        self.taken.setdefault(name, []).append(taken)

    def seconds(self, name: str) -> float:
        """Return the median by the clock."""
        return statistics.median(each.seconds for each in self.taken[name])

    def cpu(self, name: str) -> float | None:
        """Return the median of the processors' seconds; None where they were not counted."""
        told = [each.cpu for each in self.taken[name] if each.cpu is not None]
        return statistics.median(told) if told else None

    def fill(self, name: str) -> float | None:
        """Return the median of the seconds until all was written; None where they were not counted."""
        told = [each.fill for each in self.taken[name] if each.fill]
        return statistics.median(told) if told else None

    def best(self, prefix: str) -> str:
        """Return that of several ways to do the same that has the smallest median."""
        return min((name for name in self.taken if name.startswith(prefix)), key=self.seconds)

    def most_written(self, name: str) -> int | None:
        """Return the most bytes that were written to the device in any round."""
        return max((each.written for each in self.taken[name] if each.written is not None), default=None)


@dataclass(frozen=True)
class Ratio:
    """A ratio beside its target: ``most`` or ``least`` says which way it is meant."""

    what: str
    value: float
    target: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.least else self.value <= self.target

    def __str__(self) -> str:
        return f"{self.value:.2f} ({'≥' if self.least else '≤'} {self.target:g}{'' if self.met else ', MISSED'})"


@dataclass(frozen=True)
class Row:
    """One method with one artefact."""

    method: str
    artefact: str
    seconds: float
    cpu: float | None
    slowest: str
    parts: Mapping[str, float]
    ratios: Sequence[Ratio]

    @property
    def paced(self) -> bool:
        """Whether it was measured at EC2's pace."""
        return self.method.startswith(_PACED)

    def ratio(self, what: str) -> Ratio | None:
        """Return the ratio of that name."""
        return next((each for each in self.ratios if each.what == what), None)


@dataclass(frozen=True)
class Timed:
    """Seconds of something with feeds of ``rows`` AMIs, beside its target."""

    what: str
    rows: int
    seconds: float
    target: float

    @property
    def met(self) -> bool:
        """Whether it took less than it may."""
        return self.seconds < self.target


def judge(rounds: Rounds, data: Mapping[str, int]) -> list[Row]:
    """Return a row for each method and artefact. ``data``: bytes of data in each artefact's image."""
    return [_row(rounds, name, data) for name in rounds.taken if name.partition("/")[0] in _METHODS]


def _row(rounds: Rounds, name: str, data: Mapping[str, int]) -> Row:
    whole, _, artefact = name.partition("/")
    method = whole.removeprefix(_PACED)
    seconds, ratios, parts = rounds.seconds(name), [], {}
    if method != "filesystem":
        last = whole.replace("direct", "bare puts").replace("disk", "raw write/qemu-img")
        found = (f"download/{artefact}", rounds.best(f"decompress/{artefact}/"), last)
        parts = {part: rounds.seconds(part) for part in found}
        slowest = max(parts, key=lambda part: parts[part])
        ratios.append(Ratio("slowest", seconds / parts[slowest], SLOWEST[method]))
        fill = rounds.fill(name)
        if fill is not None:
            ratios.append(Ratio("fill", fill / parts[slowest], SLOWEST[method]))
    if whole in LITERAL:
        ratios.append(Ratio("literal", rounds.seconds("literal sequence") / seconds, LITERAL[method], least=True))
    written = rounds.most_written(name)
    if written is not None:
        ratios.append(Ratio("written", written / data[artefact], WRITTEN))
    return Row(
        whole, artefact, seconds, rounds.cpu(name), max(parts, key=lambda p: parts[p]) if parts else "", parts, ratios
    )


def table(rounds: Rounds, rows: Sequence[Row], memory: Ratio | None, feeds: Sequence[Timed] = ()) -> str:
    """Return the tables of the README."""
    parts = [
        (name, f"{rounds.seconds(name):.2f}", _number(rounds.cpu(name)))
        for name in rounds.taken
        if name.partition("/")[0] not in _METHODS
    ]
    text = f"{_grid(('part', 's', 'CPU s'), parts)}\n{_methods([row for row in rows if not row.paced])}"
    paced = [row for row in rows if row.paced]
    if paced:
        pace = f"a volume with {PACE // MIB} MiB a second either way, and an answer {LATE:g} s after each put"
        text += f"\nThe same at EC2's pace, {pace}:\n\n{_methods(paced)}"
    if memory is not None:
        word = "less than" if memory.met else "MISSED, less than"
        found = f"{memory.value / MIB:.0f} MiB ({word} {memory.target / MIB:.0f} MiB)"
        text += f"\nMost memory of the publisher, `direct`, an image of 10 GiB: {found}.\n"
    return f"{text}\n{feeds_table(feeds)}" if feeds else text


def _methods(rows: Sequence[Row]) -> str:
    """Return the table of methods; a column that no row has anything in is left out."""
    columns = {
        "method, artefact": [f"{row.method}, {row.artefact}" for row in rows],
        "s": [f"{row.seconds:.2f}" for row in rows],
        "CPU s": [_number(row.cpu) for row in rows],
        "slowest part": [row.slowest for row in rows],
        "whole ÷ it": [_shown(row, "slowest") for row in rows],
        "fill ÷ it": [_shown(row, "fill") for row in rows],
        "literal ÷": [_shown(row, "literal") for row in rows],
        "written ÷ data": [_shown(row, "written") for row in rows],
    }
    told = {title: words for title, words in columns.items() if any(words)}
    return _grid(tuple(told), list(zip(*told.values(), strict=True)))


def feeds_table(feeds: Sequence[Timed]) -> str:
    """Return the table of what feeds take."""
    told = [
        (
            each.what,
            f"{each.rows:,}",
            f"{each.seconds:.2f}",
            f"{'' if each.met else 'MISSED, '}less than {each.target:g}",
        )
        for each in feeds
    ]
    return _grid(("feeds", "AMIs", "s", "target"), told)


def _shown(row: Row, what: str) -> str:
    return str(row.ratio(what) or "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _grid(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a simple table of reStructuredText. Its first column must not be empty, so that lines are rows."""
    widths = [max(len(line[i]) for line in (titles, *lines)) for i in range(len(titles))]
    rule = "  ".join("=" * width for width in widths)
    told = [
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in (titles, *lines)
    ]
    return "\n".join([rule, told[0], rule, *told[1:], rule, ""])


def document(
    rounds: Rounds,
    rows: Sequence[Row],
    machine: Mapping[str, Any],
    memory: Ratio | None,
    feeds: Sequence[Timed] = (),
) -> dict[str, Any]:
    """Return all of it for JSON: the machine, every measurement, the ratios."""
    return {
        "machine": machine,
        "rounds": {name: [asdict(each) for each in found] for name, found in rounds.taken.items()},
        "methods": [
            {**asdict(row), "ratios": {each.what: {**asdict(each), "met": each.met} for each in row.ratios}}
            for row in rows
        ],
        "memory": None if memory is None else {"bytes": memory.value, "most": memory.target, "met": memory.met},
        "feeds": [{**asdict(each), "met": each.met} for each in feeds],
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = re.search(r"^MemTotal:\s*(\d+) kB", file.read())
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": model[1] if model else platform.machine(),
        "processors": os.cpu_count(),
        "memory": int(memory[1]) * 1024 if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_at_first": os.getloadavg()[0],
        "tools": {name: _version(name, option) for name, option in _TOOLS},
    }


def about(machine: Mapping[str, Any]) -> str:
    """Return what the machine was, and how busy, in a line."""
    return (
        f"{machine['rounds']} rounds on {machine['processors']} x {machine['processor']}, Linux {machine['kernel']}, "
        f"{machine['date'][:10]};\n"
        f"load {machine['load_at_first']:.1f} at first and {machine['load_at_last']:.1f} at last."
    )


def spliced(text: str, tables: str) -> str:
    """Return a text with other tables between its marks; ValueError where it has none."""
    head, begins, rest = text.partition(".. bench begins\n")
    _, ends, tail = rest.partition(".. bench ends\n")
    if not begins or not ends:
        raise ValueError("the file has no marks `.. bench begins` and `.. bench ends`")
    return f"{head}{begins}\n{tables}\n{ends}{tail}"


def _version(name: str, option: str) -> str:
    try:
        done = subprocess.run([name, option], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0]
