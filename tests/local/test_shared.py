"""One builder for all jobs of a region: two arches of two builds, killed in the middle and resumed."""

from __future__ import annotations

from collections import Counter

from ebspub.localcloud import Effect, Rule
from tests.local.publisher import Publisher


def shared(text: str) -> str:
    """Return a configuration whose jobs share a builder, with a second build of the same images."""
    text = text.replace("[builder]\n", "[builder]\nshared = true\n")
    head, mark, build = text.partition("[[builds]]")
    return head + mark + build + mark + build.replace('build = "server"', 'build = "desktop"')


def test_two_arches_of_two_builds_share_one_builder_over_a_kill(publisher: Publisher) -> None:
    publisher.configure("us-east-1", edit=shared)
    since = len(publisher.cloud.calls())
    process = publisher.start("run")
    kill = Effect(kind="kill", when="after", pid=process.pid)
    publisher.cloud.add_fault(Rule(effects=(kill,), actions=frozenset({"CreateSnapshot"}), nth=1))
    assert process.wait(90) == -9

    done = publisher.call("resume")

    assert done.returncode == 0, done.stdout + done.stderr
    publisher.assert_published(["us-east-1"])
    jobs = publisher.status()
    assert [job["attempt"] for job in jobs] == [1] * 4
    assert len({job["instance_id"] for job in jobs}) == 1
    took = Counter(call.action for call in publisher.cloud.calls(since) if call.executed and call.outcome == "ok")
    assert (took["RunInstances"], took["CreateSecurityGroup"], took["CreateVolume"]) == (1, 1, 4)
