"""`ebspub find`: the AMI to launch, from the database and from a feed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ebspub.feeds import every
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import write
from ebspub.spec import JobSpec
from ebspub.states import State
from ebspub.store import Store, jobs, releases
from ebspub.store.leases import this_process
from tests.unit.cli.stories import Run, Tell
from tests.unit.cli.test_complete import complete
from tests.unit.feeds.facts import image, lucid

NOBLE = "ami-0a1b2c3d4e5f60001"


@pytest.fixture
def published(store: Store, tell: Tell, specs: list[JobSpec]) -> list[str]:
    """Two registered jobs, the first of which is public; return their ids."""
    stories = [tell(index) for index in (0, 1)]
    for each in stories:
        each.reach(State.REGISTERED)
    with store.write() as conn:
        first = jobs.get(conn, stories[0].id)
        assert first is not None
        releases.add(conn, first.spec, "release", 1.0)
        release = releases.get(conn, releases.release_id(first.spec))
        assert release is not None
        lease = releases.claim(conn, release, owner=this_process(), now=1.0, until=2.0)
        assert lease is not None
        releases.announce(conn, release.id, lease, [first], 1.0)
    return [each.id for each in stories]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of feeds."""
    write(every.render(Catalog.of([*lucid(), image(suite="noble", version="24.04", ami=NOBLE)])), tmp_path / "feeds")
    return tmp_path / "feeds"


def test_what_is_published_is_found_and_what_is_only_registered_is_not(
    ebspub: Run, published: list[str], store: Store
) -> None:
    with store.read() as conn:
        public, hidden = (jobs.get(conn, job_id) for job_id in published)
    assert public is not None
    assert hidden is not None
    done = ebspub("find", "--suite", "lucid", "--arch", public.spec.arch, "--region", public.spec.region)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[0] == "AMI"
    assert done.stdout.splitlines()[1].split()[:4] == [public.ami_id, public.spec.region, public.spec.arch, "lucid"]
    told = json.loads(ebspub("find", "--json").stdout)["images"]
    assert [(each["ami"], each["region"], each["serial"]) for each in told] == [
        (public.ami_id, public.spec.region, "20101020")
    ]
    assert ebspub("find", "--suite", "10.04", "--ids").stdout == f"{public.ami_id}\n"
    nothing = ebspub("find", "--arch", hidden.spec.arch, "--region", hidden.spec.region)
    assert (nothing.returncode, nothing.stdout) == (3, "")
    assert "registered, but not public: lucid-server-20101020" in nothing.stderr


def test_nothing_found_is_an_exit_code_of_its_own(ebspub: Run, published: list[str]) -> None:
    del published
    for words in (["--suite", "noble"], ["--label", "daily"], ["--serial", "20991231"], ["--virtualization", "x"]):
        done = ebspub("find", *words, "--json")
        assert (done.returncode, json.loads(done.stdout)) == (3, {"images": []})
        assert "nothing that is published matches" in done.stderr


def test_without_a_database_it_says_so_and_makes_none(ebspub: Run, tmp_path: Path) -> None:
    done = ebspub("find")
    assert (done.returncode, "there is no state database" in done.stderr) == (3, True)
    assert not (tmp_path / "state").exists()


def test_a_feed_needs_no_configuration(ebspub: Run, config: Path, folder: Path) -> None:
    config.unlink()
    for name in ("", "/streams/v1/index.json", "/images.json"):
        done = ebspub("find", "--suite", "noble", "--feed", f"{folder}{name}", "--ids")
        assert (done.returncode, done.stdout) == (0, f"{NOBLE}\n"), done.stderr
    (told,) = json.loads(ebspub("find", "--suite", "noble", "--feed", f"{folder}/images.json", "--json").stdout)[
        "images"
    ]
    assert (told["created"], told["released"]) == (None, "2024-04-24T23:06:40Z")
    missing = ebspub("find", "--feed", str(folder), "--region", "mars-north-1")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert "nothing in the feed matches" in missing.stderr
    assert ebspub("find", "--feed", str(folder / "nowhere.json")).returncode == 2


def test_what_proves_a_feed_needs_one(ebspub: Run, folder: Path) -> None:
    assert ebspub("find", "--keyring", "x").returncode == 2
    assert ebspub("find", "--feed", str(folder), "--fingerprint", "0" * 40).returncode == 2
    refused = ebspub("find", "--feed", str(folder), "--keyring", "/nowhere.gpg")
    assert (refused.returncode, refused.stdout) == (2, "")


def test_completion(ebspub: Run) -> None:
    assert complete(ebspub, "ebspub find --suite l") == ["lucid"]
    assert complete(ebspub, "ebspub find --virtualization p") == ["paravirtual"]
    assert complete(ebspub, "ebspub find --root-store ebs-") == ["ebs-ssd", "ebs-io1"]
