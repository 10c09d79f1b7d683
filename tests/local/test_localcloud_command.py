"""`ebspub localcloud`: a cloud for trying things by hand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import boto3
import pytest

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_tool("sshd")]


def localcloud(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command for a cloud in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "ebspub", "localcloud", *words, "--folder", str(folder / "cloud")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_it_starts_tells_where_it_is_and_stops(tmp_path: Path) -> None:
    started = localcloud(tmp_path, "start")
    try:
        assert started.returncode == 0, started.stderr
        told = dict(line.removeprefix("export ").split("=", 1) for line in started.stdout.splitlines())
        assert told["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
        ec2 = boto3.client(
            "ec2",
            region_name="us-east-1",
            endpoint_url=told["AWS_ENDPOINT_URL"],
            aws_access_key_id=told["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
        )
        volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
        assert localcloud(tmp_path, "start").returncode == 75
        shown = localcloud(tmp_path, "status")
        assert shown.returncode == 0
        assert volume in shown.stdout
    finally:
        stopped = localcloud(tmp_path, "stop")
    assert stopped.returncode == 0, stopped.stderr
    assert localcloud(tmp_path, "status").returncode == 3
