"""The doctor's registries are complete, and what it says of DryRun's answers is right."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import ebspub
from ebspub.app.doctor import Level, Row, exit_code, telling
from ebspub.app.doctor.direct import CALLS
from ebspub.app.doctor.permissions import ACTIONS, COPYING, PUBLISHING
from ebspub.aws import account
from ebspub.aws.failures import AwsError
from ebspub.config import parse
from ebspub.demo.signing import signer
from ebspub.feeds import signing


def test_every_call_that_changes_something_is_tried() -> None:
    sources = (Path(ebspub.__file__).parent / "aws").glob("*.py")
    made = {found for path in sources for found in re.findall(r'calling\("([A-Z]\w+)"\)', path.read_text())}
    changing = {name for name in made if not name.startswith(("Describe", "Get", "List", "Assume", "Decode"))}
    undryable = {"PutParameter", "DeleteParameter", "Publish"}  # Parameter Store and SNS have no DryRun
    assert changing - undryable == set(ACTIONS) | set(COPYING) | set(PUBLISHING) | set(CALLS)


def _answering(code: str) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "told"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    raise ClientError(answer, "X")


def test_a_dry_run_that_would_have_succeeded_is_no_refusal() -> None:
    assert account.dry_run("CreateVolume", lambda: _answering("DryRunOperation")) is None


def test_a_dry_run_that_is_refused_says_why() -> None:
    refusal = account.dry_run("CreateVolume", lambda: _answering("UnauthorizedOperation"))
    assert isinstance(refusal, AwsError)
    assert refusal.code == "UnauthorizedOperation"


def test_an_endpoint_that_does_what_was_only_tried_is_noticed() -> None:
    with pytest.raises(LookupError, match="CreateVolume"):
        account.dry_run("CreateVolume", lambda: None)


def test_only_red_rows_make_the_exit_code_3() -> None:
    green, yellow = (Row("here", "it", level, "told") for level in (Level.GREEN, Level.YELLOW))
    assert exit_code([]) == exit_code([green, yellow]) == 0
    assert exit_code([green, Row("here", "it", Level.RED, "told", "mend it")]) == 3


def test_what_is_published_can_be_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GNUPGHOME", raising=False)
    (tmp_path / "file").touch()
    key = "0" * 40
    for folder, home, wanted in (
        ("feeds", "none", {"folder": Level.GREEN, "key": Level.RED}),
        ("file/feeds", ".", {"folder": Level.RED, "key": Level.RED}),
    ):
        text = f'folder = "{tmp_path}/{folder}"\nsign = {{ key = "{key}", home = "{tmp_path}/{home}" }}'
        rows = list(telling.feeds(parse(f"[feeds]\n{text}")))
        assert {row.check: row.level for row in rows} == wanted
        assert all(row.todo for row in rows if row.level is Level.RED)
    assert list(telling.feeds(parse(""))) == []
    assert not (tmp_path / "feeds").exists()


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_key_that_can_sign_is_found() -> None:
    with signer() as found:
        found.make_key()
        assert signing.fault(signing.Key(found.fingerprint, found.home)) is None
        assert "0000" in str(signing.fault(signing.Key("0" * 40, found.home)))


def test_a_program_and_variables_that_are_not_there_are_named() -> None:
    text = 'command = ["/nowhere/hook"]\nwebhook = "https://e.com/"\nheaders = { A = "NO_SUCH_VARIABLE" }'
    rows = list(telling.notifications(parse(f"[notify]\n{text}")))
    assert [(row.check, row.level) for row in rows] == [("command", Level.YELLOW), ("webhook", Level.YELLOW)]
    assert "NO_SUCH_VARIABLE" in rows[1].what
    (row,) = telling.notifications(parse('[notify]\ncommand = ["sh"]'))
    assert row.level is Level.GREEN
