"""One region's job fills a volume, the others copy its snapshot: the same content, one builder, nothing twice."""

from __future__ import annotations

import json
from collections import Counter

from tests.local.publisher import Publisher

PRIMARY, *COPIES = REGIONS = ("us-east-1", "eu-west-1", "ap-southeast-1")


def fan_out(text: str, when: str = "always") -> str:
    """Return the configuration with a fan-out, for one arch."""
    wish = f'fan_out = {{ primary = "{PRIMARY}", when = "{when}" }}'
    return text.replace('arches = ["amd64", "i386"]', f'arches = ["amd64"]\n{wish}')


def test_a_snapshot_reaches_other_regions_without_a_builder_though_the_publisher_dies(publisher: Publisher) -> None:
    publisher.configure(*REGIONS, edit=fan_out)
    before = len(publisher.cloud.calls())
    planned = json.loads(publisher.call("plan", "--json").stdout)
    assert [job["way"] for job in planned["jobs"]] == [
        "filesystem on a builder",
        *["copy of us-east-1's snapshot"] * 2,
    ]

    # A region alone brings the one that it copies from.
    dying = publisher.start("run", "--region", COPIES[0])
    publisher.cloud.kill_at(dying.pid, 1, when="after", actions=["CopySnapshot"])
    dying.wait(timeout=100)
    assert f"also lucid-server-{publisher.serial}-amd64-{PRIMARY}" in (publisher.folder / "err").read_text()
    done = publisher.call("run")
    assert done.returncode == 0, done.stdout + done.stderr

    publisher.assert_published(REGIONS, arches=("amd64",))
    calls = [call for call in publisher.cloud.calls(before) if call.executed and call.mutating]
    made = Counter((call.action, call.region) for call in calls)
    assert {action: count for (action, region), count in made.items() if region in COPIES} == {
        "CopySnapshot": 1,
        "RegisterImage": 1,
    }
    assert made["RunInstances", PRIMARY] == made["CreateSnapshot", PRIMARY] == 1
    jobs = {job["region"]: job for job in publisher.status()}
    for region in COPIES:
        told, origin = jobs[region]["facts"], jobs[PRIMARY]
        assert (told["copy_of"], told["source_snapshot"]) == (origin["id"], origin["snapshot_id"])
        assert (told["digest"], told["sha256"]) == (origin["facts"]["digest"], origin["facts"]["sha256"])
    digests = {image.tags["ebspub:content-digest"] for image in publisher.mine(publisher.cloud.inventory().images)}
    assert digests == {f"filesystem:{jobs[PRIMARY]['facts']['digest']}"}
