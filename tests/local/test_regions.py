"""A region that is sick, or not enabled for the account, is its own jobs' trouble and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ebspub.app import publish
from ebspub.app.doctor import Level, Row, doctor
from ebspub.app.plan import Action as Plan
from ebspub.app.plan import plan
from ebspub.app.runtime import Runtime, Stop
from ebspub.app.sweep import Action
from ebspub.aws.clients import BotoClients
from ebspub.aws.failures import AwsError, Cause
from ebspub.clock import SystemClock
from ebspub.config import load, select
from ebspub.errors import ConfigError
from ebspub.localcloud import Cloud, Delays, Settings, running
from ebspub.states import Kind, Status
from ebspub.store import Failure
from tests.local.leftovers import Stage, staged

pytestmark = pytest.mark.needs_tool("sshd")
FIRST, SECOND = "ap-southeast-1", "us-east-1"
DEAD = AwsError("GetCallerIdentity", Cause.THROTTLED, code="ConnectTimeoutError", message="Connect timeout")
#: What STS answers in a region that is not enabled for the account.
CLOSED = AwsError(
    "GetCallerIdentity", Cause.CREDENTIALS, code="InvalidClientTokenId", message="The security token is invalid."
)


class Sick(BotoClients):
    """The STS of some regions answers as told; the others' work."""

    def __init__(self, answers: Mapping[str, AwsError]) -> None:
        super().__init__()
        self._answers = answers

    def _ask_account(self, region: str) -> str | AwsError:
        return self._answers.get(region) or super()._ask_account(region)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running(tmp_path_factory.mktemp("cloud"), Settings(delays=Delays.all(0.05))) as found:
        yield found


@pytest.fixture(params=[DEAD, CLOSED], ids=["dead", "closed"])
def refusal(request: pytest.FixtureRequest) -> AwsError:
    found: AwsError = request.param
    return found


@pytest.fixture
def stage(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: AwsError) -> Iterator[Stage]:
    """Two regions; STS of the first one is sick."""
    with staged(cloud, Sick({FIRST: refusal}), tmp_path, monkeypatch, (FIRST, SECOND)) as made:
        yield made


def runtime(stage: Stage, clients: BotoClients) -> Runtime:
    return Runtime(load(stage.config), stage.store, SystemClock(), clients, Stop())


def failures(result: publish.Result) -> dict[str, Failure]:
    """Return by region why its job failed."""
    return {job.spec.region: job.error for job in result.jobs if job.error is not None}


def test_a_sweep_goes_on_with_the_other_regions(stage: Stage, refusal: AwsError) -> None:
    job = stage.job(Status.CANCELLED, region=SECOND)
    volume = stage.make(Kind.VOLUME, job, row=False, region=SECOND)
    report = stage.sweep(regions=(FIRST, SECOND))
    assert [(f.id, f.action) for f in report.findings] == [(volume, Action.REMOVED)]
    # That STS is silent is no reason: what the account is, the other region has told.
    assert list(report.errors) == ([FIRST] if refusal is CLOSED else [])
    assert all("Enable the region" in error for error in report.errors.values())


def test_a_run_goes_on_with_the_other_regions(stage: Stage, refusal: AwsError) -> None:
    """As far as it may: here nothing may be made, which is how the jobs of a region that is open fail."""
    stage.cloud.deny("CreateSecurityGroup")
    n = len(stage.cloud.calls())
    specs = [spec for spec in select(load(stage.config)) if spec.arch == "amd64"]
    result = publish.run(runtime(stage, stage.clients), specs, lambda _job, _action: None)
    jobs = {job.spec.region: job for job in result.jobs}
    errors = failures(result)
    assert errors[SECOND].code == "UnauthorizedOperation"
    assert jobs[SECOND].account == "123456789012"
    if refusal is CLOSED:
        assert errors[FIRST].code == CLOSED.code
        assert errors[FIRST].todo.startswith("Enable the region")
        assert {call.region for call in stage.cloud.calls(n) if call.mutating} == {SECOND}
    else:
        assert errors[FIRST].code == "UnauthorizedOperation"
    again = publish.resume(runtime(stage, Sick({FIRST: refusal})), [], lambda _job, _action: None)
    assert {name: each.code for name, each in failures(again).items()} == {n: each.code for n, each in errors.items()}


@pytest.mark.long
def test_the_doctor_looks_at_all_that_answer(stage: Stage, refusal: AwsError) -> None:
    rows = doctor(load(stage.config), stage.clients, SystemClock())

    def said(region: str, check: str) -> list[Row]:
        return [row for row in rows if (row.subject, row.check) == (region, check)]

    assert [row.level for row in said("account", "credentials")] == [Level.GREEN]
    assert said(SECOND, "permissions")
    if refusal is CLOSED:
        assert [(row.level, "Enable" in row.todo) for row in said(FIRST, "region")] == [(Level.RED, True)]
        assert {row.check for row in rows if row.subject == FIRST} == {"region"}
    else:
        assert said(FIRST, "permissions")


@pytest.mark.parametrize("refusal", [CLOSED], indirect=True)
def test_credentials_that_no_region_accepts_end_everything_before_it_begins(stage: Stage) -> None:
    stage.job(Status.WAITING)
    stage.job(Status.WAITING, region=SECOND)
    config, rows = load(stage.config), stage.rows()
    answers = {FIRST: DEAD, SECOND: CLOSED}
    refused = runtime(stage, Sick(answers))
    with pytest.raises(ConfigError, match="security token") as told:
        publish.resume(refused, [], lambda _job, _action: None)
    assert "Give valid AWS credentials" in told.value.todo
    stage.clients = Sick(answers)
    with pytest.raises(ConfigError, match="security token"):
        stage.sweep(regions=(FIRST, SECOND))
    assert stage.rows() == rows
    reds = [row for row in doctor(config, Sick(answers), SystemClock()) if row.level is Level.RED]
    assert [(row.check, CLOSED.message in row.what) for row in reds] == [("credentials", True)]


@pytest.mark.parametrize("refusal", [CLOSED], indirect=True)
def test_the_plan_of_a_region_that_refuses_is_not_known_and_bad_credentials_are_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [spec for spec in select(load(stage.config)) if spec.arch == "amd64"]
    with pytest.raises(AwsError):
        stage.clients.account(FIRST)
    stage.clients.account(SECOND)
    planned = {each.spec.region: each.action for each in plan(specs, None, stage.clients, 0.0)}
    assert planned == {FIRST: Plan.UNKNOWN, SECOND: Plan.PUBLISH}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    with pytest.raises(ConfigError, match="AWS credentials"):
        plan(specs, None, BotoClients(), 0.0)
