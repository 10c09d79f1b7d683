"""Every wrong key and value is told by its path, what was found and what is expected; nothing secret is shown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ebspub.config import from_dict, parse
from ebspub.errors import ConfigError

Problems = Callable[[str], tuple[str, ...]]
Texts = Callable[..., str]

#: One wrong thing (old text, new text), and the line that tells it.
WRONG = [
    ('serial = "20101020"', 'serial = "2010-10-20"', 'builds[0].serial: found "2010-10-20", expected YYYYMMDD or'),
    ('serial = "20101020"', "serial = 20101020", "builds[0].serial: found the number 20101020, expected YYYYMMDD"),
    ('serial = "20101020"', "serial = 2010-10-20", "builds[0].serial: found the date or time 2010-10-20, expected"),
    ('serial = "20101020"', 'serial = "20100231"', "YYYYMMDD or YYYYMMDD.N of a day that exists"),
    ('serial = "20101020"', 'serial = "20101020.0"', 'builds[0].serial: found "20101020.0"'),
    ('serial = "20101020"', 'serial = "20101020\\n"', 'builds[0].serial: found "20101020\\n"'),
    ('version = "10.04"', "version = 10.04", "builds[0].version: found the number 10.04, expected text in quotes"),
    ('label = "release"', 'lable = "release"', 'builds[0].lable: unknown key; did you mean "label"?'),
    ('label = "release"', "", 'builds[0].label: missing, expected a label: "release"'),
    ('suite = "lucid"', 'suite = "lu-cid"', 'builds[0].suite: found "lu-cid", expected lower-case letters'),
    ('arches = ["amd64"]', 'arches = ["amd46"]', 'builds[0].arches[0]: found "amd46", expected "amd64"'),
    ('arches = ["amd64"]', 'arches = ["amd64", "amd64"]', "builds[0].arches: found a list, expected each entry once"),
    ('arches = ["amd64"]', "arches = []", "builds[0].arches: found an empty list, expected a list of at least one"),
    ("[builds.source]", "[builds.sorce]", 'builds[0].sorce: unknown key; did you mean "source"?'),
    ("[builds.source]", "[builds.volume]\nsise = 3\n[builds.source]", 'volume.sise: unknown key; did you mean "size"?'),
    ("[builds.source]", "[builds.volume]\nsize = 0\n[builds.source]", "size: found the number 0, expected at least 1"),
    ("[builds.source]", "[builds.volume]\nsize = true\n[builds.source]", "size: found true, expected a whole number"),
    ("[builds.source]", "[builds.volume]\nsize = 0x1" + "0" * 6000 + "\n[builds.source]", "found a huge number"),
    ("[builds.source]", "volume = 3\n[builds.source]", "builds[0].volume: found the number 3, expected a table"),
    ("[regions.us-east-1]", "[regions.us-esat-1]", 'found "us-esat-1", expected a region; did you mean "us-east-1"?'),
    ('arches = ["amd64"]', 'arches = ["amd64"]\nregions = ["eu-wset-1"]', 'builds[0].regions[0]: found "eu-wset-1"'),
    ('arches = ["amd64"]', 'arches = ["amd64"]\nkernel_ids = { "x" = {} }', "builds[0].kernel_ids.x: found"),
    ('"ami-0a1b2c3d4e5f60718"', '"ami-0A1B2C3D"', 'builder.images.amd64: found "ami-0A1B2C3D", expected an AMI id'),
    ('"ssm:/images/arm64"', '"ssm:images"', "builder.images.arm64: found"),
    ("images.arm64", "images.amr64", 'builder.images.amr64: unknown key; did you mean "arm64"?'),
    ('"203.0.113.0/24"', '"203.0.113.7/24"', 'its host bits must be zero: "203.0.113.0/24"'),
    ('"203.0.113.0/24"', '"2001:db8::/32"', 'builder.ssh_cidr: found "2001:db8::/32", expected an IPv4 network'),
    ("{suite}-server", "{siute}-server", 'did you mean "{suite}"?'),
    ("{suite}-server", "{suite.__class__}-server", "expected a template of the fields {suite} {build}"),
    ("{suite}-server", "{suite!r:>9999999999}-server", "expected {suite} without a conversion"),
    ("{suite}-server", "{suite-server", "source.url: found"),
    (
        "https://example.com/{suite}/{serial}/{suite}",
        "ftp://example.com/{suite}",
        "expected an http:// or https:// URL with a host, or an absolute path",
    ),
    ("/SHA256SUMS", "/", "expected the URL of a file, not of a folder"),
    ("\n[builder]", "\nbuidler = 1\n[builder]", 'buidler: unknown key; did you mean "builder"?'),
    ("\n[builder]", "\n[engine]\nlease = 4\n[builder]", "engine.lease: found the number 4, expected at least two poll"),
    (
        "\n[builder]",
        "\n[engine]\npoll_interval = 50\n[builder]",
        "engine.poll_interval: found the number 50, expected at",
    ),
    (
        "\n[builder]",
        "\n[limits]\nlaunch = inf\n[builder]",
        "limits.launch: found the number inf, expected a finite number",
    ),
    (
        "\n[builder]",
        "\n[limits]\nregister = -1\n[builder]",
        "limits.register: found the number -1, expected more than 0",
    ),
    ("\n[builder]", "\n[limits]\nregsiter = 1\n[builder]", 'limits.regsiter: unknown key; did you mean "register"?'),
    (
        "\n[builder]",
        '\n[tags]\n"aws:x" = "y"\n[builder]',
        "expected a tag key that does not begin with aws: or ebspub:",
    ),
    ("\n[builder]", '\n[tags]\n"EBSpub:x" = "y"\n[builder]', "expected a tag key that does not begin with"),
    ("\n[builder]", '\n[tags]\nx = "' + "y" * 257 + '"\n[builder]', "expected a tag value of at most 256 characters"),
    ("\n[builder]", '\n[store]\nurl = "sqlite:///x.db"\n[builder]', "store.url: found a value that is not shown here"),
    ("\n[builder]", '\n[store]\nurl = "sqlite://"\n[builder]', "expected a sqlite URL with an absolute path"),
    ("\n[builder]", '\n[store]\nfolder = "state"\n[builder]', "store.folder: found"),
]


@pytest.mark.parametrize(("old", "new", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_one_wrong_thing_is_one_clear_line(text: Texts, problems: Problems, old: str, new: str, line: str) -> None:
    found = problems(text((old, new)))
    assert any(line in each for each in found), found
    assert len(found) <= 2
    assert all("\n" not in each and "pydantic" not in each for each in found)


def test_the_text_of_these_tests_is_right(text: Texts) -> None:
    assert parse(text()).builds[0].suite == "lucid"


def test_all_problems_are_told_at_once(text: Texts, problems: Problems) -> None:
    found = problems(
        text(('"20101020"', '"x"'), ('"lucid"', '"Lucid"'), ("[regions.eu-west-1]", "[regions.eu-wset-1]"), end="sha=1")
    )
    assert [each.split(":")[0] for each in found] == [
        "builds[0].suite",
        "builds[0].serial",
        "builds[0].source.sha",
        "regions.eu-wset-1",
    ]


def test_the_message_names_the_file_and_what_to_do(text: Texts) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text(('"20101020"', '"x"')), origin="/srv/ebspub.toml")
    assert str(caught.value).splitlines() == [
        "/srv/ebspub.toml: 1 problem",
        '  builds[0].serial: found "x", expected YYYYMMDD or YYYYMMDD.N, in quotes',
        "  Correct the file and run the command again; nothing was touched.",
    ]


@pytest.mark.parametrize(
    "document",
    [
        '[store]\nurl = "hunter2"',
        '[store]\nurl = "sqlite:///hunter2"',
        '[store]\nurl = ["hunter2"]',
        'store = "postgresql://u:hunter2@h/d"',
        '[store]\npassword = "hunter2"',
        'store_url = "postgresql://u:hunter2@h/d"',
        '[builder]\nssh_user = "u:hunter2@h"',
        '[[builds]]\nsource.url = "https://u:hunter2@example.com/f"',
        '[[builds]]\nsource.url = "https://u:hun/hunter2@example.com/f"',
        '[[builds]]\nsource.url = "https://example.com/f?X-Amz-Signature=hunter2"',
        '[[builds]]\nsource.sha256sums = "https://example.com/f?token=hunter2"',
        '[[builds]]\nname = "{https://u:hunter2@x/}"',
        '[tags]\npassword = ["hunter2"]',
        '[tags]\n"aws:secret" = "hunter2"',
        '[tags]\nsecret_token = "hunter2\\n"',
        '"postgresql://u:hunter2@h/d" = 1',
    ],
)
def test_no_secret_is_ever_shown(document: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document)
    assert "hunter2" not in str(caught.value)
    assert caught.value.problems


@pytest.mark.parametrize(
    "url",
    [
        "https://u:p@example.com/f",
        *(
            f"https://example.com/f?v=1&{name}=x"
            for name in ("X-Amz-Signature", "sig", "api_key", "AWSSecretKey", "pwd")
        ),
    ],
)
def test_a_url_that_is_a_credential_is_refused(text: Texts, problems: Problems, url: str) -> None:
    sums = "https://example.com/{suite}/{serial}/SHA256SUMS"
    (line,) = problems(text((sums, url)))
    assert "it would be written into the state database" in line


def test_found_text_cannot_write_to_the_terminal(problems: Problems) -> None:
    (line,) = problems('[builder]\nssh_user = "\\u001b[31mred\\u202e"')
    assert line.isprintable()


def test_everybody_is_admitted_only_when_it_is_written(text: Texts) -> None:
    assert parse(text(("203.0.113.0/24", "0.0.0.0/0"))).builder.ssh_cidr == "0.0.0.0/0"
    with pytest.raises(ConfigError, match=r"builder\.ssh_cidr: missing"):
        parse(text(('ssh_cidr = "203.0.113.0/24"', "")))


def test_a_single_address_is_a_network_of_one(text: Texts) -> None:
    assert parse(text(("203.0.113.0/24", "203.0.113.7"))).builder.ssh_cidr == "203.0.113.7/32"


def test_a_region_of_another_cloud_can_be_declared(text: Texts) -> None:
    config = parse(text(("[regions.us-east-1]", "[regions.RegionOne]\ncustom = true")))
    assert set(config.regions) == {"RegionOne", "eu-west-1"}


def test_a_document_from_elsewhere_is_judged_the_same() -> None:
    with pytest.raises(ConfigError, match=r"builds: found a table, expected a list"):
        from_dict({"builds": {}})
