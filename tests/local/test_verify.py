"""Test boots of registered AMIs: what passes, what does not, and that nothing is left however they end."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any, Literal

import boto3
import pytest

from ebspub.app.verify import verified
from ebspub.localcloud import Delays, Effect, Rule, Settings
from ebspub.store import Store, jobs, tables
from tests.local.away import until
from tests.local.publisher import Publisher
from tests.support.variants import few

VERIFY = """
[verify]
instance_types.amd64 = ["t3.micro"]
ssh_user = "{user}"
ssh_port = {port}
boot = {boot}
stop = 60
"""


def with_verify(publisher: Publisher, *, boot: int = 60, more: str = "") -> Callable[[str], str]:
    told = VERIFY.format(user=publisher.cloud.ssh_user, port=publisher.cloud.ssh_port, boot=boot) + more
    return lambda text: text.replace("listing_lag = 5", "listing_lag = 2") + told


@pytest.fixture(scope="module")
def published(stage: Publisher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    """Yield a publisher with one registered AMI, shared by the tests of this file."""
    fresh = stage.at(tmp_path_factory.mktemp("verify"))
    fresh.configure("us-east-1", edit=with_verify(fresh))
    done = fresh.call("run", "--arch", "amd64")
    assert done.returncode == 0, done.stdout + done.stderr
    yield fresh
    fresh.end()


@pytest.fixture
def publisher(published: Publisher) -> Iterator[Publisher]:
    """Yield it with its usual configuration; the cloud is well afterwards."""
    published.configure("us-east-1", edit=with_verify(published))
    yield published
    published.cloud.heal()


def ec2_of(publisher: Publisher) -> Any:
    environment = publisher.cloud.environment()
    return boto3.client(
        "ec2",
        region_name="us-east-1",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def is_verified(publisher: Publisher, job_id: str, *types: str) -> bool:
    store = Store.open_existing(f"sqlite:///{publisher.folder / 'ebspub.db'}")
    assert store is not None
    with store, store.read() as conn:
        job = jobs.get(conn, job_id)
        assert job is not None
        assert job.verification is None
        return verified(job, types)


def assert_only_the_ami_is_left(publisher: Publisher) -> None:
    (job,) = publisher.status()
    publisher.assert_nothing_left({job["snapshot_id"]})
    assert [image.id for image in publisher.mine(publisher.cloud.inventory().images)] == [job["ami_id"]]


def test_an_ami_that_boots_is_verified_and_nothing_is_left(publisher: Publisher) -> None:
    (job,) = publisher.status()
    before = len(publisher.cloud.calls())

    done = publisher.call("verify", job["ami_id"], "--instance-type", "t3.micro", "--instance-type", "m5.large")

    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split(": ")[1] for line in done.stdout.splitlines()} == {"verified"}
    calls = publisher.mutating_calls(before)
    assert (calls.count("StopInstances"), calls.count("StartInstances")) == (2, 2)
    (job,) = publisher.status()
    found = job["facts"]["verified"]
    passed = {kind: (told["result"], told["identity"], told["file"]) for kind, told in found.items()}
    assert passed == dict.fromkeys(("t3.micro", "m5.large"), ("verified", "lucid", "kept"))
    assert (job["state"], job["status"]) == ("registered", "done")
    assert is_verified(publisher, job["id"], "m5.large")
    assert not is_verified(publisher, job["id"], "c5.large")
    shown = publisher.call("show", job["id"]).stdout
    assert "m5.large: verified" in shown
    image = ec2_of(publisher).describe_images(ImageIds=[job["ami_id"]])["Images"][0]
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert tags["ebspub:content-digest"] == f"filesystem:{job['facts']['digest']}"
    assert job["facts"]["digest"] in shown
    assert_only_the_ami_is_left(publisher)


@pytest.mark.long
def test_an_ami_without_a_root_file_system_fails_with_its_console(publisher: Publisher) -> None:
    publisher.configure("us-east-1", edit=with_verify(publisher, boot=6))
    (job,) = publisher.status()
    snapshot = publisher.cloud.snapshot_path(job["snapshot_id"])
    with snapshot.open("r+b") as file:
        file.seek(1024)
        superblock = file.read(1024)
        file.seek(1024)
        file.write(bytes(1024))
    try:
        done = publisher.call("verify", job["id"])
    finally:
        with snapshot.open("r+b") as file:
            file.seek(1024)
            file.write(superblock)

    assert done.returncode == 3, done.stdout + done.stderr
    assert "did not come up within 6 s" in done.stdout
    assert not is_verified(publisher, job["id"])
    history = json.loads(publisher.call("show", job["id"], "--json").stdout)["history"]
    (event,) = [each for each in history if each["action"] == "verify-failed"]
    assert "Kernel panic" in event["facts"]["console"]
    assert_only_the_ami_is_left(publisher)


@pytest.mark.long
def test_an_image_without_cloud_init_is_known_by_its_console_and_not_by_that_of_its_boot_before(
    publisher: Publisher,
) -> None:
    publisher.configure("us-east-1", edit=with_verify(publisher, more='console = "login:"\n'))
    cloud, delays = publisher.cloud, Delays.all(0.2)
    before = len(cloud.calls())

    def looked() -> int:
        """Return how often it has looked at the console since it started the instance again."""
        actions = [call.action for call in cloud.calls(before)]
        again = actions.index("StartInstances") if "StartInstances" in actions else len(actions)
        return actions[again:].count("GetConsoleOutput")

    cloud.configure(Settings(delays=delays.model_copy(update={"console_posting": 3600.0})))
    try:
        process = publisher.start("verify", "lucid-server")
        until(lambda: looked() >= 3 or process.poll() is not None)
        assert process.poll() is None
        assert looked() >= 3
    finally:
        cloud.configure(Settings(delays=delays))

    assert process.wait(90) == 0
    (job,) = publisher.status()
    told = job["facts"]["verified"]["t3.micro"]
    assert (told["by"], told["identity"], told["file"]) == ("console", "unknown", "not looked at")
    assert_only_the_ami_is_left(publisher)


KILLED_AT: list[tuple[str, Literal["before", "after"]]] = [
    ("CreateSecurityGroup", "after"),
    ("RunInstances", "after"),
    ("StopInstances", "before"),
]


def killed(publisher: Publisher, action: str, when: Literal["before", "after"], *words: str) -> str:
    """Run a `verify` that is killed around its first call of ``action``; return the job's id."""
    (job,) = publisher.status()
    process = publisher.start("verify", job["id"], *words)
    publisher.cloud.kill_at(process.pid, 1, when=when, actions=[action])
    assert process.wait(90) == -signal.SIGKILL
    publisher.cloud.heal()
    return str(job["id"])


@pytest.mark.long
@pytest.mark.parametrize(("action", "when"), few([("RunInstances", "after")], KILLED_AT))
def test_a_killed_one_leaves_nothing_once_the_next_has_run(
    publisher: Publisher, action: str, when: Literal["before", "after"]
) -> None:
    job_id = killed(publisher, action, when)

    done = publisher.call("verify", job_id)

    assert done.returncode == 0, done.stdout + done.stderr
    assert is_verified(publisher, job_id)
    assert_only_the_ami_is_left(publisher)


@pytest.mark.long
def test_after_a_kill_resume_removes_what_is_left_and_what_has_passed_need_not_boot_again(
    publisher: Publisher,
) -> None:
    types = ("--instance-type", "c5.large", "--instance-type", "r5.large")
    no = Effect(kind="error", code="InvalidParameterValue", status=400, message="not this one")
    params = {"InstanceType": "c5.large"}
    publisher.cloud.add_fault(Rule(effects=(no,), actions=frozenset({"RunInstances"}), params=params, times=None))
    killed(publisher, "StopInstances", "before", *types)
    (job,) = publisher.status()
    found = job["facts"]["verified"]
    assert (found["c5.large"]["result"], "r5.large" in found) == ("failed", False)
    assert "not this one" in found["c5.large"]["message"]

    resumed = publisher.call("resume")

    assert (resumed.returncode, resumed.stdout) == (0, f"{job['id']}: what an interrupted test boot left is removed\n")
    assert_only_the_ami_is_left(publisher)
    done = publisher.call("verify", "lucid-server", *types)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_only_the_ami_is_left(publisher)
    before = len(publisher.cloud.calls())
    again = publisher.call("verify", "lucid-server", "--missing", *types)
    assert (again.returncode, again.stdout) == (0, f"{job['id']}: verified before\n")
    assert publisher.mutating_calls(before) == []


@pytest.mark.long
def test_no_room_and_lost_answers_are_waited_out(publisher: Publisher) -> None:
    full = Effect(kind="error", code="InsufficientInstanceCapacity", status=500, message="no room")
    publisher.cloud.add_fault(Rule(effects=(full,), actions=frozenset({"RunInstances"}), times=1))
    for action in ("CreateSecurityGroup", "RunInstances", "StopInstances", "StartInstances", "TerminateInstances"):
        lost = Effect(kind="drop", when="after")
        nth = 2 if action == "RunInstances" else 1
        publisher.cloud.add_fault(Rule(effects=(lost,), actions=frozenset({action}), nth=nth))

    done = publisher.call("verify", "lucid-server", "--instance-type", "t3.large")

    assert done.returncode == 0, done.stdout + done.stderr
    assert_only_the_ami_is_left(publisher)


@pytest.mark.long
def test_where_the_credentials_expire_what_is_left_is_told(publisher: Publisher) -> None:
    (job,) = publisher.status()
    expired = Effect(kind="error", code="RequestExpired", status=400, message="expired")
    # Looks: for the group, for the launch, at the instance; too few for it to be stopped and started again.
    look = Rule(effects=(expired,), actions=frozenset({"DescribeInstances"}), nth=4, times=None)
    publisher.cloud.add_fault(look)

    done = publisher.call("verify", job["id"])

    left = [each.id for each in publisher.mine(publisher.cloud.inventory().instances) if each.state != "terminated"]
    assert done.returncode == 3
    assert len(left) == 1
    assert "RequestExpired: expired; left behind: " in done.stderr
    assert left[0] in done.stderr
    assert "removed by the next `ebspub verify` or `ebspub resume`, or by `ebspub sweep`" in done.stderr
    publisher.cloud.heal()
    assert publisher.call("resume").returncode == 0
    assert_only_the_ami_is_left(publisher)


@pytest.mark.long
def test_what_a_killed_one_left_is_swept_when_its_lease_is_over(publisher: Publisher) -> None:
    killed(publisher, "StartInstances", "after")
    left = [each for each in publisher.mine(publisher.cloud.inventory().instances) if each.state != "terminated"]
    kept = publisher.call("sweep", "--grace", "0")
    assert kept.returncode == 0, kept.stderr
    assert left[0].id not in kept.stdout
    store = Store.open(f"sqlite:///{publisher.folder / 'ebspub.db'}")
    with store, store.write() as conn:
        conn.execute(tables.jobs.update().values(verify_until=0.0))

    done = publisher.call("sweep", "--grace", "0")

    assert done.returncode == 0, done.stdout + done.stderr
    assert left[0].id in done.stdout
    assert_only_the_ami_is_left(publisher)


def test_what_must_be_verified_is_published_once_it_is(publisher: Publisher) -> None:
    (job,) = publisher.status()
    gate = '[publish]\npublic = true\nverify = true\nparameters = "/images/{suite}/{serial}/{arch}"\nquorum = 1\n'

    def edit(text: str) -> str:
        more = with_verify(publisher)(text).replace('amd64 = ["t3.micro"]', 'amd64 = ["c5.xlarge"]')
        return more.replace('arches = ["amd64", "i386"]', 'arches = ["amd64"]') + gate

    publisher.configure("us-east-1", edit=edit)
    refused = publisher.call("publish", "lucid-server")
    assert (refused.returncode, "`ebspub verify lucid-server-" in refused.stderr) == (3, True), refused.stderr
    ec2 = ec2_of(publisher)
    assert ec2.describe_images(ImageIds=[job["ami_id"]])["Images"][0]["Public"] is False
    done = publisher.call("verify", job["ami_id"])
    assert done.returncode == 0, done.stdout + done.stderr

    done = publisher.call("publish", "lucid-server")

    assert done.returncode == 0, done.stdout + done.stderr
    assert ec2.describe_images(ImageIds=[job["ami_id"]])["Images"][0]["Public"] is True
    assert publisher.call("unpublish", "lucid-server").returncode == 0
    assert ec2.describe_images(ImageIds=[job["ami_id"]])["Images"][0]["Public"] is False
    assert_only_the_ami_is_left(publisher)
