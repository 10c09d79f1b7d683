"""JSON, CSV and the feed of changes: complete, valid, and the same again."""

from __future__ import annotations

import csv
import io
import json
import random
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import datetime

from ebspub.feeds import changes, plain, query
from ebspub.feeds.catalog import Catalog
from tests.unit.feeds.facts import image, lucid, many

ATOM = "{http://www.w3.org/2005/Atom}"


def test_json_and_csv_have_every_image_with_all_that_is_known_of_it() -> None:
    theirs = {"query/hardy/server/released.txt": query.row(image(suite="hardy", ami="ami-9")) + b"\n"}
    catalog = query.keep(Catalog.of(lucid()), theirs, {"hardy": "8.04"})
    rendered = plain.render(catalog)
    document = json.loads(rendered["images.json"])
    rows = list(csv.DictReader(io.StringIO(rendered["images.csv"].decode(), newline="")))
    assert document["format"] == "ebspub-images:1"
    assert [{name: value or "" for name, value in each.items()} for each in document["images"]] == rows
    assert len(rows) == 17
    (found,) = [each for each in document["images"] if each["ami"] == "ami-4b4ba522"]
    assert found == {
        "stream": "released",
        "suite": "lucid",
        "version": "10.04",
        "build": "server",
        "label": "release",
        "serial": "20100427.1",
        "arch": "amd64",
        "region": "us-east-1",
        "partition": "aws",
        "ami": "ami-4b4ba522",
        "snapshot": None,
        "root_store": "ebs",
        "volume_type": None,
        "virtualization": "paravirtual",
        "boot_mode": None,
        "aki": "aki-0b4aa462",
        "ari": None,
        "name": "ebs/ubuntu-images/ubuntu-lucid-10.04-amd64-server-20100427.1",
        "created": "2010-04-28T23:00:00Z",
        "released": "2010-04-29T00:00:00Z",
    }


def test_a_name_is_no_formula() -> None:
    table = plain.render(Catalog.of([image(name="=cmd|' /C calc'!A0")]))["images.csv"].decode()
    assert ",'=cmd" in table


def test_the_order_in_which_images_come_changes_nothing() -> None:
    images = list(many(400))
    first = Catalog.of(images)
    random.Random(1).shuffle(images)
    for render in (plain.render, changes.render, query.render):
        assert render(Catalog.of(images)) == render(first)


def test_the_feed_of_changes_is_valid_atom_with_the_newest_build_first() -> None:
    late = image(region="eu-west-1", ami="ami-2", released=1714003600.0)
    older = image(serial="20240401", ami="ami-3", released=1712000000.0)
    catalog = Catalog.of([older, image(), late])
    content = changes.render(catalog, origin="images.example.com", url="https://images.example.com/")["changes.atom"]
    feed = ET.fromstring(content)
    # RFC 4287, 4.1.1 and 4.1.2: what there must be exactly one of.
    for element in (feed, *feed.iter(f"{ATOM}entry")):
        for name in ("id", "title", "updated"):
            assert len(element.findall(ATOM + name)) == 1
        assert datetime.fromisoformat(element.findtext(f"{ATOM}updated", "")).tzinfo
    assert feed.findtext(f"{ATOM}author/{ATOM}name") == "images.example.com"
    entries = feed.findall(f"{ATOM}entry")
    assert [entry.findtext(f"{ATOM}title") for entry in entries] == [
        "noble server 20240423 (release, 24.04 LTS)",
        "noble server 20240401 (release, 24.04 LTS)",
    ]
    assert len({entry.findtext(f"{ATOM}id") for entry in entries}) == 2
    assert (entries[0].findtext(f"{ATOM}published"), entries[0].findtext(f"{ATOM}updated")) == (
        "2024-04-24T23:06:40Z",
        "2024-04-25T00:06:40Z",
    )
    assert feed.findtext(f"{ATOM}updated") == "2024-04-25T00:06:40Z"
    assert "ami-0123456789abcdef0" in entries[0].findtext(f"{ATOM}content", "")
    links = {link.get("rel"): link.get("href") for link in entries[0].findall(f"{ATOM}link")}
    assert links == {"alternate": "https://images.example.com/query/noble/server/released.txt"}


def test_the_feed_tells_a_bounded_number_of_builds_and_holds_whatever_a_name_holds() -> None:
    images = [image(serial=str(20240101 + number), ami=f"ami-{number}") for number in range(300)]
    images.append(replace(images[0], build="x<&>\x00\ud800", ami="ami-x", released=1800000000.0))
    feed = ET.fromstring(changes.render(Catalog.of(images))["changes.atom"])
    entries = feed.findall(f"{ATOM}entry")
    assert len(entries) == changes.LIMIT
    assert "x<&>" in entries[0].findtext(f"{ATOM}title", "")


def test_of_nothing_nothing_is_rendered() -> None:
    assert plain.render(Catalog()) == changes.render(Catalog()) == query.render(Catalog()) == {}
