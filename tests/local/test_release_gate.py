"""What is looked at before a build is made public: what the account forbids, and whether anybody may use it."""

from __future__ import annotations

import itertools

from typer.testing import CliRunner

from ebspub.cli.main import app as program
from ebspub.localcloud import Delays, Settings
from tests.local.leftovers import Stage
from tests.local.released import PUBLISH, clients, cloud, configure, refused, register_all, stage

__all__ = ["clients", "cloud", "stage"]


def test_what_the_account_forbids_is_told_before_anything_is_changed(stage: Stage) -> None:
    register_all(stage)
    ec2 = stage.ec2()
    ec2.enable_image_block_public_access(ImageBlockPublicAccessState="block-new-sharing")
    try:
        assert "block public access for AMIs is on" in refused(stage)
    finally:
        ec2.disable_image_block_public_access()
    ec2.enable_snapshot_block_public_access(State="block-all-sharing")
    try:
        assert "disable-snapshot-block-public-access" in refused(stage)
    finally:
        ec2.disable_snapshot_block_public_access()
    stage.cloud.configure(Settings(delays=Delays.all(0.0), public_images=1))
    try:
        assert "L-0E3CBAB9" in refused(stage)
    finally:
        stage.cloud.configure(Settings(delays=Delays.all(0.0), public_images=1000))
    configure(stage, PUBLISH + "verify = true\n")
    assert "ebspub verify lucid-server-20101020" in refused(stage)


def test_what_ec2_still_hides_counts_as_what_the_account_must_allow(stage: Stage) -> None:
    stage.config.write_text(stage.config.read_text().replace("listing_lag = 0", "listing_lag = 300"))
    register_all(stage)
    for region, arch in itertools.product(stage.regions, ("amd64", "i386")):  # as if it were hidden
        stage.ec2(region).deregister_image(ImageId=stage.get(f"lucid-server-20101020-{arch}-{region}").ami_id)
    for enable, disable, word in (
        ("enable_image_block_public_access", "disable_image_block_public_access", "AMIs"),
        ("enable_snapshot_block_public_access", "disable_snapshot_block_public_access", "snapshots"),
    ):
        key = "State" if word == "snapshots" else "ImageBlockPublicAccessState"
        getattr(stage.ec2(), enable)(**{key: "block-new-sharing"})
        try:
            assert f"block public access for {word} is on" in refused(stage)
        finally:
            getattr(stage.ec2(), disable)()
    stage.cloud.configure(Settings(delays=Delays.all(0.0), public_images=1))
    try:
        assert "2 would be: the quota is 1" in refused(stage)
    finally:
        stage.cloud.configure(Settings(delays=Delays.all(0.0), public_images=1000))


def test_that_nobody_may_launch_what_is_published_is_told_unless_it_is_meant(stage: Stage) -> None:
    register_all(stage)
    quiet = '[publish]\nparameters = "/images/{suite}/{serial}/{arch}"\n'
    configure(stage, quiet)
    for words in (("publish", "lucid-server"), ("plan",)):
        done = CliRunner().invoke(program, ["--config", str(stage.config), *words])
        assert done.exit_code == 0, done.output
        assert "warning: lucid-server-20101020: nobody but account 123456789012 may launch" in done.stderr
        assert "write public = false" in done.stderr
    configure(stage, quiet + "public = false\n")
    for silent in (["publish", "lucid-server", "--json"], ["plan"]):
        done = CliRunner().invoke(program, ["--config", str(stage.config), *silent])
        assert (done.exit_code, done.stderr) == (0, "")
