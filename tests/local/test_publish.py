"""The main job, through real SSH and real block devices: `ebspub run` publishes, once."""

from __future__ import annotations

import json
import signal

import boto3
import pytest

from ebspub.localcloud import Effect, Rule
from tests.local.publisher import Publisher
from tests.support.stopwatch import Stopwatch
from tests.support.variants import few

REGIONS = ("us-east-1", "eu-west-1")


def test_run_publishes_every_region_and_arch_and_a_second_run_changes_nothing(publisher: Publisher) -> None:
    publisher.configure(*REGIONS)

    done = publisher.call("run")

    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_published(REGIONS)
    before = len(publisher.cloud.calls())
    again = publisher.call("run")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert publisher.mutating_calls(before) == []
    assert json.loads(publisher.call("status", "--json").stdout) == {"jobs": publisher.status()}


@pytest.mark.long
def test_another_database_adopts_what_is_registered(publisher: Publisher) -> None:
    assert publisher.call("run", "--arch", "amd64").returncode == 0
    (first,) = publisher.status()
    before = len(publisher.cloud.calls())
    (publisher.folder / "ebspub.db").unlink()

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 0, done.stderr
    (second,) = publisher.status()
    assert second["ami_id"] == first["ami_id"]
    assert second["snapshot_id"] == first["snapshot_id"]
    assert publisher.mutating_calls(before) == []


@pytest.mark.long
def test_a_name_that_another_image_holds_is_refused(publisher: Publisher) -> None:
    assert publisher.call("run", "--arch", "amd64").returncode == 0
    (taken,) = publisher.status()
    (publisher.folder / "ebspub.db").unlink()
    name = taken["name"].replace("amd64", "{arch}")
    publisher.configure(
        "us-east-1", edit=lambda text: text.replace('build = "server"', f'build = "desktop"\nname = "{name}"')
    )
    before = len(publisher.cloud.calls())

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 3
    assert taken["ami_id"] in done.stderr
    assert publisher.mutating_calls(before) == []


@pytest.mark.long
def test_the_builder_is_as_the_specification_of_security_asks(publisher: Publisher) -> None:
    process = publisher.start("run", "--arch", "amd64")
    try:
        publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
        environment = publisher.cloud.environment()
        ec2 = boto3.client(
            "ec2",
            region_name="us-east-1",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )
        (job,) = publisher.status()
        (reservation,) = ec2.describe_instances(InstanceIds=[job["instance_id"]])["Reservations"]
        (instance,) = reservation["Instances"]
        (interface,) = instance["NetworkInterfaces"]
        groups = ec2.describe_security_groups(GroupIds=[g["GroupId"] for g in interface["Groups"]])
        behaviour = ec2.describe_instance_attribute(
            InstanceId=job["instance_id"], Attribute="instanceInitiatedShutdownBehavior"
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert "KeyName" not in instance
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    (rule,) = groups["SecurityGroups"][0]["IpPermissions"]
    assert [r["CidrIp"] for r in rule["IpRanges"]] == ["127.0.0.1/32"]
    assert publisher.call("cancel", job["id"]).returncode == 0
    publisher.assert_nothing_left()


@pytest.mark.long
def test_a_run_beside_a_living_one_leaves_its_jobs_alone(publisher: Publisher) -> None:
    busy = Effect(kind="error", code="ServiceUnavailable", status=503, message="try again shortly")
    number = publisher.cloud.add_fault(Rule(effects=(busy,), actions=frozenset({"AttachVolume"}), times=None))
    first = publisher.start("run", "--arch", "amd64")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] != "pending")
    before = len(publisher.cloud.calls())

    second = publisher.call("run", "--arch", "amd64")

    assert first.poll() is None
    publisher.cloud.remove_fault(number)
    assert second.returncode == 75, second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert first.wait(90) == 0
    assert publisher.mutating_calls(before).count("RunInstances") == 0
    publisher.assert_published(["us-east-1"], ["amd64"])


@pytest.mark.parametrize(
    ("number", "code"), few([(signal.SIGTERM, 143)], [(signal.SIGINT, 130), (signal.SIGTERM, 143)], rest="long")
)
def test_a_signal_stops_within_five_seconds_and_resume_finishes(
    publisher: Publisher, number: signal.Signals, code: int
) -> None:
    process = publisher.start("run", "--arch", "i386")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
    with Stopwatch() as watch:
        process.send_signal(number)
        assert process.wait(60) == code
    assert watch.seconds < 5
    assert publisher.status()[0]["status"] == "waiting"
    assert publisher.call("resume").returncode == 0
    publisher.assert_published(["us-east-1"], ["i386"])


@pytest.mark.long
def test_one_region_that_refuses_does_not_stop_the_other(publisher: Publisher) -> None:
    publisher.configure(*REGIONS)
    refused = Effect(kind="error", code="UnauthorizedOperation", status=403, message="not authorized")
    number = publisher.cloud.add_fault(
        Rule(effects=(refused,), actions=frozenset({"CreateVolume"}), regions=frozenset({"eu-west-1"}), times=None)
    )

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 3
    jobs = {job["region"]: job for job in publisher.status()}
    assert jobs["us-east-1"]["status"] == "done"
    failed = jobs["eu-west-1"]
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == "UnauthorizedOperation"
    assert failed["error"]["request_id"]
    assert "iam-policy.json" in failed["error"]["todo"]
    publisher.assert_nothing_left({jobs["us-east-1"]["snapshot_id"]})

    publisher.cloud.remove_fault(number)
    assert publisher.call("resume").returncode == 0
    publisher.assert_published(REGIONS, ["amd64"])


def test_a_tampered_source_is_never_registered(publisher: Publisher) -> None:
    wrong = "0" * 64
    publisher.configure(
        "us-east-1",
        edit=lambda text: with_proof(text, f'amd64 = {{ sha256 = "{wrong}" }}\ni386 = {{ sha256 = "{wrong}" }}'),
    )

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 3
    (job,) = publisher.status()
    assert job["error"]["code"] == "checksum", job["error"]
    publisher.assert_nothing_left()
    assert publisher.mine(publisher.cloud.inventory().images) == []


def with_proof(text: str, instead: str) -> str:
    """Return the configuration with another proof than the list of checksums."""
    lines = [instead if line.startswith("sha256sums") else line for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def test_cancel_removes_everything_and_resume_of_that_job_starts_again(publisher: Publisher) -> None:
    process = publisher.start("run", "--arch", "amd64")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
    process.kill()
    process.wait()
    (job,) = publisher.status()
    assert job["status"] == "interrupted"

    done = publisher.call("cancel", job["id"])

    assert done.returncode == 0, done.stderr
    assert publisher.status()[0]["status"] == "cancelled"
    publisher.assert_nothing_left()
    assert publisher.call("run", "--arch", "amd64").returncode == 0
    assert publisher.status()[0]["status"] == "cancelled"
    assert publisher.call("resume", job["id"]).returncode == 0
    publisher.assert_published(["us-east-1"], ["amd64"])


@pytest.mark.long
def test_show_tells_every_transition_and_call(publisher: Publisher) -> None:
    assert publisher.call("run", "--arch", "amd64").returncode == 0
    (job,) = publisher.status()

    shown = json.loads(publisher.call("show", job["id"], "--json").stdout)

    events = [record for record in shown["history"] if record["record"] == "event"]
    calls = [record for record in shown["history"] if record["record"] == "call"]
    steps = [event["to"] for event in events if event["to"]]
    assert steps == ["launched", "attached", "populated", "snapshotted", "registered"]
    actions = [call["action"] for call in calls]
    assert actions == [
        "CreateSecurityGroup",
        "AuthorizeSecurityGroupIngress",
        "RunInstances",
        "CreateVolume",
        "AttachVolume",
        "StartPopulating",
        "TerminateInstances",
        "CreateSnapshot",
        "DeleteVolume",
        "DeleteSecurityGroup",
        "RegisterImage",
    ]
    assert all(call["status"] == "done" and call["seconds"] is not None for call in calls)
    assert publisher.call("show", job["id"]).stdout.count(job["ami_id"]) >= 1


def test_plan_says_what_run_would_do_and_touches_nothing(publisher: Publisher) -> None:
    before = len(publisher.cloud.calls())

    done = publisher.call("plan", "--json")

    assert done.returncode == 0, done.stderr
    assert {job["action"] for job in json.loads(done.stdout)["jobs"]} == {"publish"}
    assert publisher.mutating_calls(before) == []
    assert [path.name for path in publisher.folder.iterdir()] == ["ebspub.toml"]


@pytest.mark.long
def test_a_corrected_configuration_reaches_a_job_that_failed(publisher: Publisher) -> None:
    wrong = "0" * 64
    proof = f'amd64 = {{ sha256 = "{wrong}" }}\ni386 = {{ sha256 = "{wrong}" }}'
    publisher.configure("us-east-1", edit=lambda text: with_proof(text, proof))
    assert publisher.call("run", "--arch", "amd64").returncode == 3
    publisher.configure("us-east-1")

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 0, done.stderr
    publisher.assert_published(["us-east-1"], ["amd64"])


@pytest.mark.long
def test_a_build_whose_checksums_are_not_there_yet_stops_no_other(publisher: Publisher) -> None:
    def with_another(text: str) -> str:
        build = text[text.index("[[builds]]") :]
        return text + "\n" + build.replace('suite = "lucid"', 'suite = "maverick"').replace("SHA256SUMS", "NOT-YET")

    publisher.configure("us-east-1", edit=with_another)

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 3
    assert "NOT-YET" in done.stderr
    publisher.assert_published(["us-east-1"], ["amd64"])


@pytest.mark.long
def test_a_zone_without_volumes_leads_to_another_builder(publisher: Publisher) -> None:
    lacking = Effect(kind="error", code="Unsupported", status=400, message="no such volumes here")
    publisher.cloud.add_fault(Rule(effects=(lacking,), actions=frozenset({"CreateVolume"}), nth=1))

    done = publisher.call("run", "--arch", "amd64")

    assert done.returncode == 0, done.stderr
    assert publisher.status()[0]["attempt"] == 2
    publisher.assert_published(["us-east-1"], ["amd64"])


@pytest.mark.long
def test_another_secret_is_refused_before_anything_is_touched(publisher: Publisher) -> None:
    process = publisher.start("run", "--arch", "amd64")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
    process.kill()
    process.wait()
    secret = publisher.folder / "state" / "secret"
    kept = secret.read_bytes()
    secret.unlink()
    before = len(publisher.cloud.calls())

    done = publisher.call("resume")

    assert done.returncode == 2
    assert str(secret) in done.stderr
    assert publisher.mutating_calls(before) == []
    secret.write_bytes(kept)
    secret.chmod(0o600)
    assert publisher.call("resume").returncode == 0
    publisher.assert_published(["us-east-1"], ["amd64"])
    assert publisher.status()[0]["attempt"] == 1


@pytest.mark.long
def test_what_ec2_still_hides_is_not_taken_for_gone(publisher: Publisher) -> None:
    process = publisher.start("run", "--arch", "amd64")
    publisher.wait_for(lambda jobs: bool(jobs) and jobs[0]["state"] == "attached")
    process.kill()
    process.wait()
    hidden = Effect(kind="error", code="InvalidVolume.NotFound", status=400, message="does not exist")
    publisher.cloud.add_fault(Rule(effects=(hidden,), actions=frozenset({"DeleteVolume"}), nth=1))
    publisher.configure("us-east-1", edit=lambda text: text.replace("listing_lag = 5", "listing_lag = 60"))
    assert publisher.call("run", "--arch", "amd64").returncode == 0

    publisher.assert_published(["us-east-1"], ["amd64"])
