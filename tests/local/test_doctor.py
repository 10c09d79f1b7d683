"""`ebspub doctor` against the embedded cloud: what is well is green, what is sick is red and says what to do."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ebspub.app.doctor import Level, Row, doctor, exit_code, local
from ebspub.aws import tags
from ebspub.aws.clients import BotoClients
from ebspub.clock import SystemClock
from ebspub.config import load, select
from ebspub.localcloud import Cloud, Delays, Settings, running
from ebspub.remote.keys import Keyring
from ebspub.store import Store

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
IMAGE = "ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/{arch}/hvm/ebs-gp3/ami-id"
CONFIG = """
[store]
folder = "{folder}"
[builder]
{builder}
ssh_cidr = "203.0.113.0/24"
{regions}
[[builds]]
suite = "lucid"
label = "release"
version = "10.04"
serial = "20101020"
arches = ["{arch}"]
[builds.source]
url = "http://127.0.0.1:9/lucid.tar.gz"
sha256 = "{sha256}"
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    settings = Settings(delays=Delays.all(0.02), regions=(REGION, "eu-west-1"))
    with running(tmp_path_factory.mktemp("cloud"), settings) as found:
        yield found


@pytest.fixture(scope="module")
def clients() -> BotoClients:
    return BotoClients()


@dataclass
class Ward:
    """A configuration to examine, in a folder of its own."""

    cloud: Cloud
    folder: Path
    clients: BotoClients

    @property
    def ec2(self) -> Any:
        return self.clients.region(REGION).writer

    @property
    def file(self) -> Path:
        return self.folder / "ebspub.toml"

    def configure(self, *lines: str, arch: str = "amd64", regions: Sequence[str] = (REGION,), image: str = "") -> None:
        builder = "\n".join((f'images.{arch} = "{image or IMAGE.format(arch=arch)}"', *lines))
        tables = "\n".join(f"[regions.{region}]" for region in regions)
        text = CONFIG.format(folder=self.folder / "state", builder=builder, regions=tables, arch=arch, sha256="a" * 64)
        self.file.write_text(text)

    def examine(self) -> list[Row]:
        return doctor(load(self.file), self.clients, SystemClock())

    def reds(self) -> list[Row]:
        found = [row for row in self.examine() if row.level is Level.RED]
        assert all(row.todo for row in found)
        return found

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Return every file with its mode and content, and every folder."""
        return {
            str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in self.folder.rglob("*")
        }

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ebspub", "doctor", "--config", str(self.file), *arguments]
        env = {**os.environ, "PYTHONPATH": str(ROOT), **extra}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def ward(cloud: Cloud, clients: BotoClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    found = Ward(cloud, tmp_path, clients)
    found.configure()
    yield found
    cloud.heal()


def test_a_healthy_setup_has_no_red_row_and_nothing_is_changed_anywhere(ward: Ward) -> None:
    ward.configure(regions=(REGION, "eu-west-1"))
    n, before = len(ward.cloud.calls()), ward.files()
    rows = ward.examine()
    assert [row for row in rows if row.level is Level.RED] == []
    assert exit_code(rows) == 0
    assert [call.action for call in ward.cloud.calls(n) if call.mutating] == []
    assert ward.files() == before
    checks = {(row.subject, row.check) for row in rows}
    for region in (REGION, "eu-west-1"):
        names = (
            "region",
            "builder image amd64",
            "instance types amd64",
            "network",
            "AMI names",
            "permissions",
            "quotas",
        )
        assert {(region, name) for name in names} <= checks
    assert {("account", "credentials"), ("account", "clock"), ("database", "file")} <= checks
    assert [r.what for r in rows if r.check == "permissions"] == ["15 of 15 actions granted"] * 2


def test_an_existing_database_and_secret_are_looked_at_and_left_as_they_are(ward: Ward) -> None:
    config = load(ward.file)
    Keyring.open(config.state_folder() / "secret")
    Store.open(config.store_url()).close()
    before = ward.files()
    rows = ward.examine()
    assert [row for row in rows if row.level is Level.RED] == []
    assert {row.level for row in rows if row.subject in ("database", "state folder")} == {Level.GREEN}
    assert ward.files() == before


def test_a_database_in_use_is_read_with_what_its_log_holds(ward: Ward) -> None:
    with Store.open(load(ward.file).store_url()), closing(sqlite3.connect(ward.folder / "state" / "ebspub.db")) as db:
        assert (ward.folder / "state" / "ebspub.db-wal").stat().st_size > 0
        db.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        db.commit()
        assert [(row.subject, row.check) for row in ward.reds()] == [("database", "revision")]


def test_what_a_killed_publisher_left_beside_the_database_is_read_and_stays(ward: Ward) -> None:
    state = ward.folder / "state"
    with Store.open(load(ward.file).store_url()) as store:
        for name in ("ebspub.db", "ebspub.db-wal", "ebspub.db-shm"):
            (ward.folder / name).write_bytes((state / name).read_bytes())
    for name in ("ebspub.db", "ebspub.db-wal", "ebspub.db-shm"):
        (ward.folder / name).rename(state / name)
        (state / name).chmod(0o600)
    before = ward.files()
    assert local.peek(load(ward.file)).store_id == store.id
    assert ward.reds() == []
    after = ward.files()
    shared = str(state / "ebspub.db-shm")  # an index in memory, made anew whenever it is missing
    assert {k: v for k, v in after.items() if k != shared} == {k: v for k, v in before.items() if k != shared}


@pytest.mark.parametrize(
    ("lines", "arch", "image", "check", "said"),
    [
        ((), "amd64", "ami-0123456789abcdef0", "builder image amd64", "no such AMI"),
        ((), "amd64", "ssm:/no/such/parameter", "builder image amd64", "ParameterNotFound"),
        ((), "amd64", IMAGE.format(arch="arm64"), "builder image amd64", "expected x86_64"),
        (('instance_types.amd64 = "t4g.medium"',), "amd64", "", "instance types amd64", "cannot run"),
        (('instance_types.amd64 = "x9.large"',), "amd64", "", "instance types amd64", "none of x9.large"),
        (('subnets = ["subnet-0123456789abcdef0"]',), "amd64", "", "network", "subnet-0123456789abcdef0"),
        (('security_groups = ["sg-0123456789abcdef0"]',), "amd64", "", "network", "sg-0123456789abcdef0"),
    ],
)
def test_what_is_wrong_with_a_region_is_red(
    ward: Ward, lines: Sequence[str], arch: str, image: str, check: str, said: str
) -> None:
    ward.configure(*lines, arch=arch, image=image)
    found = {row.check: row.what for row in ward.reds()}
    assert said in found[check]


def test_a_name_that_another_image_has_is_red_and_our_own_is_not(ward: Ward) -> None:
    spec = select(load(ward.file))[0]
    made = ward.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    _until(lambda: ward.ec2.describe_volumes(VolumeIds=[made])["Volumes"][0]["State"] == "available")
    snapshot = ward.ec2.create_snapshot(VolumeId=made)["SnapshotId"]
    _until(lambda: ward.ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "completed")
    image = ward.ec2.register_image(
        Name=spec.registration.name,
        RootDeviceName="/dev/sda1",
        BlockDeviceMappings=[{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}],
    )["ImageId"]
    for marks in ({}, {tags.SOURCE: "a" * 64}, {tags.JOB: spec.job_id, tags.SOURCE: "b" * 64}):
        _tag(ward, image, marks)
        assert [(row.check, image in row.what) for row in ward.reds()] == [("AMI names", True)]
    _tag(ward, image, {tags.SOURCE: "a" * 64})
    assert ward.reds() == []
    ward.ec2.deregister_image(ImageId=image)


def _tag(ward: Ward, image: str, marks: dict[str, str]) -> None:
    if marks:
        ward.ec2.create_tags(Resources=[image], Tags=[{"Key": key, "Value": value} for key, value in marks.items()])


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)


@pytest.mark.parametrize("region", ["ap-east-1", "sa-east-1"])
def test_a_region_that_is_not_enabled_is_red_and_looked_at_no_further(ward: Ward, region: str) -> None:
    ward.configure(regions=(region, REGION))
    rows = ward.examine()
    assert [(row.subject, row.check) for row in rows if row.level is Level.RED] == [(region, "region")]
    assert {row.check for row in rows if row.subject == region} == {"region"}
    if region == "ap-east-1":  # known as not enabled: it is not even asked
        assert [row.what for row in rows if row.subject == region] == ["not-opted-in"]
    assert any(row.subject == REGION and row.check == "permissions" for row in rows)


def test_an_action_that_is_refused_is_red(ward: Ward) -> None:
    ward.cloud.deny("RunInstances")
    assert [(row.check, row.what) for row in ward.reds()] == [("permissions", "refused: RunInstances")]


def test_a_removal_that_is_refused_is_red_only_where_it_was_tried_on_a_thing_of_ours(ward: Ward) -> None:
    ward.cloud.deny("DeleteVolume")
    rows = ward.examine()
    assert [row for row in rows if row.level is Level.RED] == []
    assert any(row.level is Level.YELLOW and "DeleteVolume" in row.what for row in rows)
    with Store.open(load(ward.file).store_url()) as store:
        marks = [tags.specification("volume", {tags.STORE: store.id})]
    ward.ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, TagSpecifications=marks)
    assert [(row.check, row.what) for row in ward.reds()] == [("permissions", "refused: DeleteVolume")]


def test_a_region_that_only_copies_needs_what_copies_need_and_no_builder(ward: Ward) -> None:
    ward.configure(regions=(REGION, "eu-west-1"))
    wish = f'arches = ["amd64"]\nfan_out = {{ primary = "{REGION}", when = "always" }}'
    ward.file.write_text(ward.file.read_text().replace('arches = ["amd64"]', wish))
    rows = [row for row in ward.examine() if row.subject == "eu-west-1"]
    assert not {"builder image amd64", "network"} & {row.check for row in rows}
    assert [row.what for row in rows if row.check == "permissions"] == ["4 of 4 actions granted"]

    ward.cloud.deny("CopySnapshot")
    ward.cloud.deny("RunInstances")
    told = {(row.subject, row.level, row.what) for row in ward.examine() if row.check == "permissions"}
    assert ("eu-west-1", Level.YELLOW, "refused for a thing that does not exist: CopySnapshot") in told
    assert (REGION, Level.RED, "refused: RunInstances") in told
    assert not any("RunInstances" in what for region, _, what in told if region == "eu-west-1")


def test_key_material_that_others_can_read_is_red(ward: Ward) -> None:
    secret = load(ward.file).state_folder() / "secret"
    Keyring.open(secret)
    secret.chmod(0o644)
    assert [(row.subject, row.check) for row in ward.reds()] == [("state folder", "secret")]


def test_a_file_that_is_no_database_is_red(ward: Ward) -> None:
    (ward.folder / "state").mkdir(mode=0o700)
    (ward.folder / "state" / "ebspub.db").write_bytes(b"not a database, surely" * 100)
    assert [(row.subject, row.check) for row in ward.reds()] == [("database", "revision")]


def test_a_clock_that_is_wrong_is_red(ward: Ward) -> None:
    class Late:
        def now(self) -> float:
            return time.time() - 600

        def wait(self, seconds: float, wake: object = None) -> None:
            raise AssertionError

    rows = doctor(load(ward.file), ward.clients, Late())
    assert [(r.check, "600 s behind" in r.what, bool(r.todo)) for r in rows if r.level is Level.RED] == [
        ("clock", True, True)
    ]


def test_without_credentials_the_account_is_red_and_this_machine_is_still_looked_at(ward: Ward) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = ward.run("--json", **nobody)
    rows = json.loads(done.stdout)["rows"]
    assert done.returncode == 3
    assert [(row["check"], bool(row["todo"])) for row in rows if row["level"] == "red"] == [("credentials", True)]
    assert {"configuration", "state folder", "database"} <= {row["subject"] for row in rows}


def test_the_command_shows_a_table_and_refuses_a_wrong_configuration(ward: Ward) -> None:
    done = ward.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 red" in done.stdout
    ward.file.write_text("[builder]\nimages = 1\n")
    refused = ward.run()
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "builder.images" in refused.stderr


def test_what_is_to_be_public_and_may_not_be_is_red(ward: Ward) -> None:
    ward.file.write_text(ward.file.read_text() + "\n[publish]\npublic = true\n")
    rows = ward.examine()
    assert [row.what for row in rows if row.check == "public access"] == ["not blocked"]
    assert [row.what for row in rows if row.check == "permissions"] == ["19 of 19 actions granted"]
    ward.ec2.enable_snapshot_block_public_access(State="block-all-sharing")
    try:
        assert [row.what for row in ward.reds()] == ["blocked for snapshots (block-all-sharing)"]
    finally:
        ward.ec2.disable_snapshot_block_public_access()
