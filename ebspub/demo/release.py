"""The end of the demonstration: the build is made public, told of in files, and found."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from ebspub.demo.report import DemoError, Report
from ebspub.demo.setting import BUILD, KERNELS, SERIAL, SUITE, Setting

_PUBLISH = """
[publish]
public = true
parameters = ["/images/{{suite}}/{{serial}}/{{arch}}", "/images/{{suite}}/current/{{arch}}"]

[feeds]
folder = "{folder}"
title = "Images of the demonstration"
"""
_PAGE = "locator/ec2/index.html"
Run = Callable[..., subprocess.CompletedProcess[str]]


def publish(stage: Setting, report: Report, ebspub: Run, feeds: Path) -> None:
    """Publish the build that is registered, leave the files about it in ``feeds``, and find it. Raises DemoError.

    ``ebspub`` runs the program with arguments.
    """
    folder = stage.folder / "feeds"
    with stage.config.open("a") as config:
        config.write(_PUBLISH.format(folder=folder))
    name = f"{SUITE}-{BUILD}-{SERIAL}"
    report.tell(f"making the build public (permissions, SSM parameters, feeds): ebspub publish {name}")
    told = _done(ebspub("publish", name)).splitlines()
    report.show("\n".join([*told[:2], f"... {len(told) - 3} more lines ...", *told[-1:]]))
    again = json.loads(_done(ebspub("publish", name, "--json")))["releases"][0]
    if again["changes"] or again["files"]:
        raise DemoError(f"publishing again changed something: {again}")
    report.tell("ebspub publish once more: nothing to change, no file was touched")
    shutil.copytree(folder, feeds, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".ebspub-*"))
    report.tell(f"the feeds, which stay in {feeds}:")
    report.show("\n".join(sorted(str(path.relative_to(feeds)) for path in feeds.rglob("[!.]*") if path.is_file())))
    report.tell(f"open this page in a browser: {feeds / _PAGE}")
    _find(report, ebspub, feeds)


def _find(report: Report, ebspub: Run, feeds: Path) -> None:
    region = next(iter(KERNELS))
    words = ["find", "--suite", SUITE, "--arch", "i386", "--region", region]
    report.tell(f"which AMI do I launch? ebspub {' '.join(words)}")
    shown = _done(ebspub(*words))
    report.show(shown)
    by_feed = _done(ebspub(*words, "--ids", "--feed", str(feeds))).strip()
    if by_feed not in shown or not by_feed.startswith("ami-"):
        raise DemoError(f"the feed names {by_feed!r}, and the database another AMI")
    report.tell(f"ebspub {' '.join(words)} --ids --feed {feeds}: {by_feed}, too")


def _done(process: subprocess.CompletedProcess[str]) -> str:
    if process.returncode != 0:
        raise DemoError(f"{process.args} ended with {process.returncode}", todo=process.stdout + process.stderr)
    return process.stdout
