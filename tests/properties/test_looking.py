"""Commands that only look, at an account that answers anything: a finding or an error in words, and no change."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebspub.config import load
from ebspub.store import Store
from tests.properties import documents
from tests.properties.calls import READERS
from tests.properties.commands import run
from tests.properties.examples import examples
from tests.properties.garbled import answers, json_answers
from tests.properties.wire import Answer, Sent

STS = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult>"
    "</GetCallerIdentityResponse>"
)
#: A right answer to each action that looks.
RIGHT = {good[1 : good.index("Response>")]: good for _, good in READERS.values()} | {"GetCallerIdentity": STS}
_DRY = b"<Response><Errors><Error><Code>DryRunOperation</Code><Message>ok</Message></Error></Errors></Response>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a right configuration and a database without jobs."""
    found = tmp_path_factory.mktemp("looking")
    file = found / "ebspub.toml"
    file.write_text(documents.toml(documents.document(), found))
    Store.open(load(file).store_url()).close()
    return found


@pytest.mark.parametrize("command", [["plan"], ["sweep", "--dry-run"], ["doctor"]], ids=" ".join)
@examples(12)
@given(data=st.data())
def test_any_answers_to_a_command_that_looks(folder: Path, command: list[str], data: st.DataObject) -> None:
    spoilt = data.draw(st.sampled_from(["", *RIGHT, "GetParameter", "GetServiceQuota", "ListServiceQuotas"]))
    xml = {action: data.draw(answers(good)) for action, good in RIGHT.items() if action == spoilt}
    json = data.draw(json_answers())

    def answer(sent: Sent) -> Answer:
        if sent.parameters.get("DryRun") == "true":
            return Answer(_DRY, 412)
        if sent.action in RIGHT:
            return xml.get(sent.action) or Answer(RIGHT[sent.action].encode())
        return json

    ended = run(command, folder, folder / "ebspub.toml", answer)
    ended.judge()
    assert ended.out or ended.err or command[0] == "sweep"
