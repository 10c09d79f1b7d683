"""The program's commands, run in this process with an account that has nothing and lets nothing be made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from botocore.loaders import create_loader
from typer.testing import CliRunner

from ebspub.cli.main import app
from ebspub.errors import UsageError
from tests.properties.calls import answer
from tests.properties.wire import Answer, Answering, Sent, Wire, wire

#: The documented exit codes of what ends by itself and is not interrupted; 1 is a defect of ours.
DOCUMENTED = frozenset({0, 2, 3, 4, 75})
_NOTHING = {
    "DescribeInstances": "reservationSet",
    "DescribeVolumes": "volumeSet",
    "DescribeSnapshots": "snapshotSet",
    "DescribeImages": "imagesSet",
    "DescribeSecurityGroups": "securityGroupInfo",
    "DescribeSubnets": "subnetSet",
    "DescribeVpcs": "vpcSet",
    "DescribeRegions": "regionInfo",
    "DescribeInstanceTypes": "instanceTypeSet",
    "DescribeInstanceTypeOfferings": "instanceTypeOfferingSet",
}
_INVALID = (
    b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>The security token is invalid</Message></Error>"
    b"</ErrorResponse>"
)


def nothing(sent: Sent) -> Answer:
    """Answer for an account in which nothing is, with credentials that are good for looking only."""
    if sent.action == "GetCallerIdentity":
        return Answer(_INVALID, 403)
    if sent.action in _NOTHING:
        return Answer(answer(sent.action, f"<{_NOTHING[sent.action]}/>").encode())
    return Answer(b'{"__type": "AccessDeniedException", "message": "no"}', 400)


@dataclass(frozen=True)
class Ended:
    """A command that has come to its end."""

    code: int
    out: str
    err: str
    wire: Wire

    def judge(self) -> None:
        """See what holds for every command, whatever it was told."""
        told = f"exit code {self.code}\n{self.out}\n{self.err}"
        assert self.code in DOCUMENTED, told
        assert "Traceback" not in self.out + self.err, told
        assert "internal error" not in self.err, told
        assert self.code == 0 or self.out.strip() or self.err.strip(), "it says nothing"
        assert self.wire.changes == [], told


@cache
def _loader() -> Any:
    return create_loader()


@contextmanager
def running() -> Iterator[None]:
    """Let commands share botocore's model of EC2, and not try again what nobody answers; and start nothing long."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("botocore.session.create_loader", return_value=_loader()))
        stack.enter_context(mock.patch("ebspub.source.fetch._TRIES", 1))
        # `status --watch` and whatever else waits is at its end at once, as by Ctrl-C.
        stack.enter_context(mock.patch("ebspub.clock.SystemClock.wait", side_effect=KeyboardInterrupt))
        stack.enter_context(mock.patch("ebspub.demo.story.demo"))
        stack.enter_context(mock.patch("ebspub.localcloud.start", side_effect=UsageError("a cloud would start")))
        stack.enter_context(mock.patch("ebspub.localcloud.stop"))
        yield


def run(arguments: Sequence[str], folder: Path, config: Path | None = None, answering: Answering = nothing) -> Ended:
    """Run the program with ``arguments`` in ``folder``, whose configuration is ``config``; AWS is ``answering``."""
    env = {
        "EBSPUB_CONFIG": str(config) if config else None,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "HOME": str(folder / "home"),
        "XDG_STATE_HOME": str(folder / "home/state"),
        "XDG_CONFIG_HOME": str(folder / "home/config"),
        "TERM": "dumb",
    }
    with running(), chdir(folder), wire(answering) as sent:
        result = CliRunner().invoke(app, list(arguments), env=env, prog_name="ebspub")
    return Ended(result.exit_code, result.stdout, result.stderr, sent)


def files(folder: Path) -> list[str]:
    """Return everything below ``folder``."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def rows(database: Path) -> dict[str, list[Any]]:
    """Return all that a state database says."""
    with closing(sqlite3.connect(database)) as conn:
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
        return {name: conn.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall() for name in names}
