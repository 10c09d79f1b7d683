"""Simplestreams: the shape of Ubuntu's, read back by the real sstream-query."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebspub.config import regions
from ebspub.demo.signing import Signer, signer
from ebspub.feeds import places, query, streams
from ebspub.feeds.catalog import Catalog, Image
from ebspub.feeds.signing import Key, SigningError, is_signed, sign
from tests.unit.feeds.facts import RELEASED_AT, image, lucid
from tests.unit.feeds.readers import sstream_query

AWS = "streams/v1/com.ubuntu.cloud:released:aws.json"
INDEX = "streams/v1/index.json"


def rendered(*images: Image) -> dict[str, Any]:
    return {path: json.loads(content) for path, content in streams.render(Catalog.of(images)).items()}


def test_keys_are_those_that_ubuntu_published() -> None:
    known = {
        ("us-west-1", "ebs", "paravirtual"): "usww1pe",
        ("us-east-1", "instance-store", "paravirtual"): "usee1pi",
        ("cn-north-1", "ebs-ssd", "paravirtual"): "cnnn1es",
        ("eu-central-1", "ebs-ssd", "hvm"): "eucc1hs",
        ("ap-northeast-3", "ebs-ssd", "hvm"): "apne3hs",
        ("eu-west-2", "ebs-ssd", "hvm"): "euww2hs",
        ("ap-southeast-1", "ebs-io1", "hvm"): "apse1ho",
        ("us-gov-west-1", "ebs-io1", "paravirtual"): "gusww1eo",
        ("sa-east-1", "instance-store", "hvm"): "saee1hi",
        ("ca-central-1", "ebs", "hvm"): "cacc1he",
        ("cn-northwest-1", "ebs", "hvm"): "cnnw1he",
        ("ap-south-1", "ebs", "hvm"): "apss1he",
    }
    for (region, root_store, virtualization), key in known.items():
        assert streams.item_key(image(region=region, root_store=root_store, virtualization=virtualization)) == key


def test_every_region_of_every_partition_has_keys_of_its_own() -> None:
    places_ = [*regions.partitions(), "RegionOne", "local-1", "local-2", "use-east", "usee1"]
    kinds = [(store, virt) for store in ("instance-store", "ebs", "ebs-ssd", "ebs-io1", "ebs-ssd-gp3")
             for virt in ("paravirtual", "hvm")]  # fmt: skip
    keys = [
        streams.item_key(image(region=region, root_store=store, virtualization=virt))
        for region in places_
        for store, virt in kinds
    ]
    assert len(set(keys)) == len(keys) == len(places_) * len(kinds)
    # By the rule, not by the way out for other clouds.
    assert not [region for region in regions.partitions() if places.short(region).endswith("-")]


def test_products_versions_and_items_have_the_shape_of_ubuntus() -> None:
    products = rendered(*lucid())[AWS]
    assert {key: products[key] for key in ("content_id", "datatype", "format", "updated")} == {
        "content_id": "com.ubuntu.cloud:released:aws",
        "datatype": "image-ids",
        "format": "products:1.0",
        "updated": "Thu, 29 Apr 2010 00:00:00 +0000",
    }
    assert products["_aliases"]["crsn"]["eu-west-1"] == {
        "region": "eu-west-1",
        "endpoint": "https://ec2.eu-west-1.amazonaws.com",
    }
    assert sorted(products["products"]) == [
        "com.ubuntu.cloud:server:10.04:amd64",
        "com.ubuntu.cloud:server:10.04:i386",
    ]
    product = products["products"]["com.ubuntu.cloud:server:10.04:amd64"]
    versions = product.pop("versions")
    assert product == {
        "aliases": "10.04,l,lucid",
        "arch": "amd64",
        "os": "ubuntu",
        "release": "lucid",
        "release_codename": "Lucid Lynx",
        "release_title": "10.04 LTS",
        "support_eol": "2015-04-30",
        "supported": True,
        "version": "10.04",
    }
    version = versions["20100427.1"]
    assert (version["label"], version["pubname"]) == ("release", "ubuntu-lucid-10.04-amd64-server-20100427.1")
    assert version["items"]["usee1pe"] == {
        "id": "ami-4b4ba522",
        "root_store": "ebs",
        "virt": "pv",
        "crsn": "us-east-1",
    }
    assert len(version["items"]) == 8


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("release", "ubuntu-noble-24.04-amd64-server-20240423"),
        ("daily", "ubuntu-noble-daily-amd64-server-20240423"),
        ("beta2", "ubuntu-noble-24.04-beta2-amd64-server-20240423"),
        ("alpha3", "ubuntu-noble-alpha3-amd64-server-20240423"),
    ],
)
def test_a_build_is_called_as_ubuntu_calls_it(label: str, name: str) -> None:
    assert streams.public_name(image(label=label)) == name


def test_each_stream_and_partition_has_a_file_that_the_index_leads_to() -> None:
    images = [
        image(),
        image(label="daily", serial="20240501", ami="ami-2"),
        image(region="cn-north-1"),
        image(region="us-gov-west-1"),
    ]
    found = rendered(*images)
    index = found[INDEX]
    assert {key: entry["path"] for key, entry in index["index"].items()} == {
        key: f"streams/v1/{key}.json"
        for key in (
            "com.ubuntu.cloud:daily:aws",
            "com.ubuntu.cloud:released:aws",
            "com.ubuntu.cloud:released:aws-cn",
            "com.ubuntu.cloud:released:aws-govcloud",
        )
    }
    assert index["index"]["com.ubuntu.cloud:daily:aws"]["products"] == ["com.ubuntu.cloud.daily:server:24.04:amd64"]
    china = index["index"]["com.ubuntu.cloud:released:aws-cn"]
    assert china["cloudname"] == "aws-cn"
    assert china["clouds"] == [{"region": "cn-north-1", "endpoint": "https://ec2.cn-north-1.amazonaws.com.cn"}]
    assert {path for path in found if path != INDEX} == {entry["path"] for entry in index["index"].values()}


def test_what_others_published_is_there_and_never_in_the_place_of_ours() -> None:
    theirs = query.row(image(ami="ami-theirs")) + b"\n" + query.row(image(ami="ami-1", region="eu-west-1")) + b"\n"
    path = "query/noble/server/released.txt"
    catalog = query.keep(Catalog.of([image(ami="ami-ours")]), {path: theirs}, {"noble": "24.04"})
    items = json.loads(streams.render(catalog)[AWS])["products"]["com.ubuntu.cloud:server:24.04:amd64"]["versions"][
        "20240423"
    ]["items"]
    assert {key: item["id"] for key, item in items.items()} == {"usee1hs": "ami-ours", "euww1hs": "ami-1"}


def test_the_time_is_that_of_the_newest_build_or_of_the_last_withdrawal() -> None:
    bad = image(serial="20240501", ami="ami-2", released=1715000000.0)
    catalog = Catalog.of([image(), bad]).withdraw([replace(bad, released=1716000000.0)])
    document = json.loads(streams.render(catalog)[AWS])
    assert document["updated"] == "Sat, 18 May 2024 02:40:00 +0000"
    assert list(document["products"]["com.ubuntu.cloud:server:24.04:amd64"]["versions"]) == ["20240423"]
    assert streams.render(Catalog.of([])) == {}


def test_where_all_was_withdrawn_a_file_says_so_for_a_copy_would_keep_the_last_one() -> None:
    ours, theirs = image(region="cn-north-1", ami="ami-2"), image()
    catalog = Catalog.of([ours, theirs, image(label="daily", serial="20240501", ami="ami-3")]).withdraw([ours])
    files = {path: json.loads(content) for path, content in streams.render(catalog).items()}
    assert files.keys() == streams.render(Catalog.of([*catalog.images, ours])).keys()
    left = files["streams/v1/com.ubuntu.cloud:released:aws-cn.json"]
    assert (left["products"], left["_aliases"], left["format"]) == ({}, {"crsn": {}}, "products:1.0")
    assert files[INDEX]["index"]["com.ubuntu.cloud:released:aws-cn"]["products"] == []
    assert files[AWS]["products"].keys() == {"com.ubuntu.cloud:server:24.04:amd64"}


# Signed, and read by the real reader ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key() -> Iterator[Signer]:
    with signer() as found:
        found.make_key()
        yield found


def written(folder: Path, rendering: dict[str, bytes]) -> Path:
    for path, content in rendering.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.needs_tool("gpg", "gpgv")
def test_sstream_query_reads_what_is_signed_and_what_is_not(key: Signer, tmp_path: Path) -> None:
    rendering = sign(streams.render(Catalog.of(lucid())), Key(key.fingerprint, key.home))
    written(tmp_path, rendering)
    keyring = key.export(tmp_path / "keyring.gpg")
    wanted = ("release=lucid", "arch=amd64", "region=us-east-1", "root_store=ebs")
    for index in ("index.sjson", "index.json"):
        (found,) = sstream_query(tmp_path / "streams/v1" / index, keyring, *wanted)
        assert (found["id"], found["virt"]) == ("ami-4b4ba522", "pv")
        assert found["endpoint"] == "https://ec2.us-east-1.amazonaws.com"
        assert found["item_name"] == "usee1pe"
        assert found["pubname"] == "ubuntu-lucid-10.04-amd64-server-20100427.1"
        assert len(sstream_query(tmp_path / "streams/v1" / index, keyring)) == 16
    signed = json.loads(_clear(rendering["streams/v1/index.sjson"]))
    assert [entry["path"] for entry in signed["index"].values()] == [AWS.replace(".json", ".sjson")]


def _clear(content: bytes) -> bytes:
    return content.split(b"\n\n", 1)[1].split(b"-----BEGIN PGP SIGNATURE-----", maxsplit=1)[0]


@pytest.mark.needs_tool("gpg", "gpgv")
@pytest.mark.parametrize("damaged", ["streams/v1/index.sjson", AWS.replace(".json", ".sjson")])
def test_sstream_query_refuses_what_was_changed(damaged: str, key: Signer, tmp_path: Path) -> None:
    rendering = sign(streams.render(Catalog.of(lucid())), Key(key.fingerprint, key.home))
    changed = rendering[damaged].replace(b"us-east-1", b"us-east-2", 1)
    assert changed != rendering[damaged]
    written(tmp_path, {**rendering, damaged: changed})
    with pytest.raises(AssertionError, match=r"'gpgv'.*returned non-zero exit status 1"):
        sstream_query(tmp_path / "streams/v1/index.sjson", key.export(tmp_path / "keyring.gpg"))


@pytest.mark.needs_tool("gpg", "gpgv")
def test_what_still_holds_is_not_signed_again(key: Signer) -> None:
    ours = Key(key.fingerprint, key.home)
    first = sign(streams.render(Catalog.of(lucid())), ours)
    assert sorted(path for path in first if is_signed(path)) == sorted(
        [AWS + ".gpg", AWS.replace(".json", ".sjson"), INDEX + ".gpg", INDEX.replace(".json", ".sjson")]
    )
    assert sign(streams.render(Catalog.of(lucid())), ours, first) == first
    # Of another content, of a damaged signature, or of none at all nothing is taken.
    later = [replace(each, released=RELEASED_AT + 60) for each in lucid()]
    again = sign(streams.render(Catalog.of(later)), ours, first)
    assert not [path for path in first if is_signed(path) and again[path] == first[path]]
    broken = {path: content.replace(b"\n=", b"\n=A") for path, content in first.items()}
    assert broken != first
    assert sign(streams.render(Catalog.of(lucid())), ours, broken).keys() == first.keys()


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_signature_by_another_key_is_replaced(key: Signer) -> None:
    with signer() as other:
        theirs = Key(other.make_key(), other.home)
        first = sign(streams.render(Catalog.of(lucid())), theirs)
    again = sign(streams.render(Catalog.of(lucid())), Key(key.fingerprint, key.home), first)
    assert not [path for path in first if is_signed(path) and again[path] == first[path]]


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_passphrase_comes_from_a_file(tmp_path: Path) -> None:
    with signer() as locked:
        locked.make_key("--passphrase", "correct horse")
        rendering = streams.render(Catalog.of(lucid()))
        for name, text in (("wrong", "battery staple"), ("right", "correct horse")):
            # What an agent remembers from making the key, or from the last time, would open it without the file.
            subprocess.run(["gpgconf", "--homedir", locked.home, "--kill", "gpg-agent"], check=True)
            file = tmp_path / name
            file.write_text(text)
            key = Key(locked.fingerprint, locked.home, file)
            if name == "wrong":
                with pytest.raises(SigningError, match="does not sign"):
                    sign(rendering, key)
            else:
                assert INDEX + ".gpg" in sign(rendering, key)


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_key_that_is_not_there_is_told(key: Signer) -> None:
    with pytest.raises(SigningError, match=r"has no key A{40}"):
        sign(streams.render(Catalog.of(lucid())), Key("A" * 40, key.home))


@pytest.mark.needs_tool("gpg", "gpgv")
def test_a_key_that_has_expired_is_told() -> None:
    with signer() as old:
        old.make_key("--faked-system-time", "20200101T000000!", expires="1d")
        with pytest.raises(SigningError, match="does not sign"):
            sign(streams.render(Catalog.of(lucid())), Key(old.fingerprint, old.home))


def test_the_reader_is_that_of_this_environment() -> None:
    assert (Path(sys.executable).parent / "sstream-query").exists()


def test_where_only_others_publish_the_time_is_that_of_the_catalogue() -> None:
    theirs = replace(image(region="cn-north-1"), created=None, released=None)
    found = replace(Catalog.of([image()]), others=(theirs,))
    index = json.loads(streams.render(found)[streams.INDEX])
    assert len(index["index"]) == 2
    assert {each["updated"] for each in index["index"].values()} == {index["updated"]}
