"""The examples are true: what they name exists, and what is needed is in them. (The *.toml are config's own tests.)"""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
#: Methods of boto3's clients that are no actions.
_NO_ACTIONS = {"get_paginator", "get_waiter", "meta", "exceptions", "close"}


def _called() -> set[str]:
    """Return the IAM actions of every call in `ebspub/aws`."""
    text = "\n".join(path.read_text() for path in (ROOT / "ebspub/aws").glob("*.py"))
    found = set()
    for service in ("ec2", "ebs", "ssm"):
        methods = rf"\b{service}\.([a-z_]+)\b"
        names = {n for n in re.findall(methods, text) if "_" in n and n not in _NO_ACTIONS and "mypy" not in n}
        found |= {f"{service}:{''.join(word.title() for word in name.split('_'))}" for name in names}
    return found


def test_the_policy_allows_every_call_and_no_other() -> None:
    policy = json.loads((EXAMPLES / "iam-policy.json").read_text())
    allowed: set[str] = set()
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        actions = statement["Action"]
        allowed |= set(actions if isinstance(actions, list) else [actions])
    assert not {action for action in allowed if "*" in action}
    beyond = {"servicequotas:GetServiceQuota", "servicequotas:ListServiceQuotas"}
    copies = {"s3:DeleteObject", "s3:GetObject", "s3:ListBucket", "s3:PutObject", "sns:Publish"}
    assert allowed - beyond - copies == _called()


def test_the_policy_removes_only_what_carries_our_tag() -> None:
    policy = json.loads((EXAMPLES / "iam-policy.json").read_text())
    removing = re.compile("Delete|Terminate|Deregister|Detach")
    for statement in policy["Statement"]:
        if statement["Sid"] in ("NameAmisInParameters", "CopyFeeds"):
            continue  # a parameter is known by its path, an object by its bucket
        if any(removing.search(action) for action in statement["Action"]):
            assert statement["Condition"] == {"Null": {"aws:ResourceTag/ebspub:store": "false"}}


def _subcommands() -> list[list[str]]:
    """Return the ebspub command lines of the crontab and the service, without the program."""
    lines = [line for line in (EXAMPLES / "crontab").read_text().splitlines() if re.match(r"[*0-9]", line)]
    service = configparser.ConfigParser(strict=False, interpolation=None)
    service.optionxform = str  # type: ignore[assignment,method-assign]
    service.read(EXAMPLES / "ebspub.service")
    words = [shlex.split(line)[7:] for line in lines]  # five fields of time, the user, the program
    return [*words, shlex.split(service["Service"]["ExecStart"])[1:]]


@pytest.mark.parametrize("words", _subcommands(), ids=" ".join)
def test_the_commands_in_crontab_and_service_exist(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ebspub", *words, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


def test_the_service_takes_a_run_that_is_still_at_work_for_success() -> None:
    service = (EXAMPLES / "ebspub.service").read_text()
    assert re.search(r"^SuccessExitStatus=75 143$", service, re.MULTILINE)
    assert re.search(r"^Environment=EBSPUB_CONFIG=", service, re.MULTILINE)
    assert "OnCalendar=*:0/10" in (EXAMPLES / "ebspub.timer").read_text()


@pytest.mark.parametrize("status", [0, 3, 75, 2])
def test_the_launcher_hook_publishes_just_that_build_and_passes_the_status_on(tmp_path: Path, status: int) -> None:
    program = tmp_path / "ebspub"
    program.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/said"\n[ "$1" = status ] || exit {status}\n')
    program.chmod(0o755)

    done = subprocess.run(
        [EXAMPLES / "launcher-hook.sh", "lucid", "20101020", "amd64", "i386"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == status
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "run --suite lucid --serial 20101020 --arch amd64 --arch i386"
    assert said[1:] == (["status --build 20101020"] if status == 3 else [])
