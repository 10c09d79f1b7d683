"""Measure the three methods, and the feeds: `python -m tests.bench --help`.

Needs root, loop devices, and what `make bench` installs.

Every round measures everything once, one after the other, so that a machine that changes its pace does so for all.
A target that is missed is printed as such; the exit status is that of the benchmark itself, not of its figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ebspub.demo.image import serve
from tests.bench import feeds, report
from tests.bench.artefacts import MIB, Artefacts, large, made
from tests.bench.builder import OnBuilder
from tests.bench.meter import Meter, Taken, can_pace, metering, settle
from tests.bench.parts import Parts
from tests.bench.publisher import Publishing

GIB = 1 << 30
_CACHE = Path(__file__).parents[2] / ".cache"


def main(arguments: Sequence[str]) -> int:
    """Measure, print the tables, write JSON; return the exit status."""
    wanted = _options(arguments)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    _say(f"making the image in {wanted.folder}, unless it is there")
    artefacts = made(wanted.folder, size=wanted.size * MIB, data=wanted.data * 10**6, forms=wanted.forms)
    machine = {**report.machine(), "size": wanted.size * MIB, "rounds": wanted.rounds}
    rounds, memory = report.Rounds(), None
    work = Path(tempfile.mkdtemp(prefix="work-", dir=wanted.folder))
    try:
        with metering() as meter, serve(wanted.folder) as url:
            there = f"{url}/{artefacts.folder.name}"
            steps = _steps(meter, artefacts, there, work, wanted.forms)
            for number in range(1, wanted.rounds + 1):
                for name, action in steps:
                    settle()
                    rounds.add(name, action())
                    _say(f"round {number}: {name} {rounds.taken[name][-1].seconds:.2f} s")
            if wanted.memory:
                image = large(wanted.folder, wanted.memory)
                found = Publishing(meter, Artefacts(image.parent, 0, 0), f"{url}/{image.parent.name}", work)
                told = found.direct(image.name, wanted.memory)
                memory = report.Ratio("memory", told.rss, report.MEMORY)
        settle()
        timed = feeds.measured(wanted.rounds, wanted.feeds) if wanted.feeds else []
    finally:
        shutil.rmtree(work)
    data = dict.fromkeys(artefacts.disks, artefacts.disk_data) | {artefacts.tarball: artefacts.filesystem_data}
    rows = report.judge(rounds, data)
    machine["load_at_last"] = os.getloadavg()[0]
    text = f"{report.about(machine)}\n\n{report.table(rounds, rows, memory, timed)}"
    wanted.output.with_suffix(".rst").write_text(text)
    whole = report.document(rounds, rows, machine, memory, timed)
    wanted.output.with_suffix(".json").write_text(json.dumps(whole, indent=1))
    sys.stdout.write(text)
    if wanted.readme is not None:
        wanted.readme.write_text(report.spliced(wanted.readme.read_text(), text))
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured (default: 5)")
    parser.add_argument("--size", type=int, default=1434, metavar="MIB", help="the image (default: 1434, 1.4 GiB)")
    parser.add_argument("--data", type=int, default=280, metavar="MB", help="what its files hold (default: 280)")
    parser.add_argument("--memory", type=int, default=10, metavar="GIB", help="image for the memory; 0: not measured")
    parser.add_argument("--feeds", type=int, default=100_000, metavar="AMIS", help="most in feeds; 0: not measured")
    parser.add_argument("--forms", nargs="+", default=Artefacts.disks, choices=Artefacts.disks, metavar="NAME",
                        help=f"of the whole disk: {', '.join(Artefacts.disks)}")  # fmt: skip
    parser.add_argument("--folder", type=Path, default=_CACHE / "bench", help="for images and devices")
    parser.add_argument("--output", type=Path, default=_CACHE / "bench.rst", help="tables; and .json beside it")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="put the tables into this file, between its marks")
    return parser.parse_args(arguments)


def _steps(
    meter: Meter, artefacts: Artefacts, url: str, work: Path, forms: Sequence[str]
) -> list[tuple[str, Callable[[], Taken]]]:
    """Return what a round measures, in order: names and actions."""
    volume = -(-artefacts.path(Artefacts.raw).stat().st_size // GIB) * GIB
    parts = Parts(meter, artefacts, url, work, volume)
    builder = OnBuilder(meter, artefacts, url, work, volume)
    publisher = Publishing(meter, artefacts, url, work)
    steps: list[tuple[str, Callable[[], Taken]]] = []

    def step(name: str, action: Callable[..., Taken], *words: str) -> None:
        steps.append((name, lambda: action(*words)))

    for name in (artefacts.tarball, *forms):
        step(f"download/{name}", parts.download, name)
    for name in forms:
        for decoder in parts.decoders(name):
            step(f"decompress/{name}/{decoder}", parts.decompress, name, decoder)
    for name in forms:
        if name != "disk.qcow2":  # which wants random access
            step(f"pipe/{name}", parts.pipe, name)
    for way in ("qemu-img", "copy"):
        step(f"raw write/{way}", parts.write, way)
    step("literal sequence", parts.literal)
    step(f"filesystem/{artefacts.tarball}", builder.filesystem)
    for name in forms:
        step(f"disk/{name}", builder.disk, name)
    gib = volume // GIB
    steps.append(("bare puts", lambda: publisher.bare(gib)))
    steps += [(f"direct/{name}", partial(_upload, publisher, name, gib)) for name in forms]
    if can_pace():
        steps += _at_the_pace_of_ec2(forms, gib, parts, builder, publisher)
    else:
        _say("this kernel cannot slow a device down: nothing is measured at EC2's pace")
    return steps


def _upload(publisher: Publishing, name: str, gib: int, late: float = 0.0) -> Taken:
    return publisher.direct(name, gib, late).upload


def _at_the_pace_of_ec2(
    forms: Sequence[str], gib: int, parts: Parts, builder: OnBuilder, publisher: Publishing
) -> list[tuple[str, Callable[[], Taken]]]:
    return [
        ("paced raw write/qemu-img", partial(parts.write, "qemu-img", report.PACE)),
        *((f"paced disk/{name}", partial(builder.disk, name, report.PACE)) for name in forms),
        ("paced bare puts", partial(publisher.bare, gib, report.LATE)),
        *((f"paced direct/{name}", partial(_upload, publisher, name, gib, report.LATE)) for name in forms),
    ]


def _say(what: str) -> None:
    sys.stderr.write(f"{what}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    # Whoever is told to end leaves nothing behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
