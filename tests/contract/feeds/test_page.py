"""The locator's page in a real browser, opened by its path: it filters, sorts, copies, and says so to everybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ebspub.feeds import locator
from ebspub.feeds.catalog import Catalog
from ebspub.feeds.files import write
from tests.contract.feeds.browser import CONTROL, NULL, Browser, chromium
from tests.unit.feeds.facts import image, lucid, many

pytestmark = pytest.mark.needs_tool("chromium", "chromedriver")
DESKTOP, TABLET, PHONE = (1280, 800), (900, 700), (390, 844)
#: What is in the table, as a script that returns it.
ROWS = "return [...document.querySelectorAll('#rows tr')].map(tr => [...tr.cells].map(td => td.innerText.trim()))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a few images: lucid's, one of another partition, and one with a name that is markup."""
    odd = image(suite="<img src=x onerror=alert(1)>", version="1.0", ami="ami-odd", region="cn-north-1")
    folder = tmp_path_factory.mktemp("feeds")
    write(locator.render(Catalog.of([*lucid(), odd, image()])), folder)
    return folder


def opened(browser: Browser, folder: Path, *, size: tuple[int, int] = DESKTOP, fragment: str = "") -> None:
    browser.resize(*size)
    browser.open("about:blank")
    browser.open((folder / locator.PAGE).as_uri() + fragment)
    browser.until(lambda: status(browser) != "Loading…")


def status(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('status').textContent"))


def rows(browser: Browser) -> list[list[str]]:
    found: list[list[str]] = browser.run(ROWS)
    return found


def column(browser: Browser, number: int) -> list[str]:
    return [row[number] for row in rows(browser)]


def filter_by(name: str) -> str:
    return f'#filters input[aria-label="Filter by {name}"]'


def test_every_image_is_there_and_nothing_comes_from_elsewhere(browser: Browser, folder: Path) -> None:
    opened(browser, folder)
    assert status(browser) == "18 images"
    assert rows(browser)[0][:6] == ["us-east-1", "noble", "24.04 LTS", "amd64", "hvm:ebs-ssd", "20240423"]
    assert "<img src=x onerror=alert(1)>" in column(browser, 1)
    loaded = browser.run("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [url for url in loaded if not url.startswith(folder.as_uri()) and not url.startswith("data:")] == []
    assert browser.complaints() == []


def test_each_column_is_filtered_as_one_types(browser: Browser, folder: Path) -> None:
    opened(browser, folder)
    browser.type(filter_by("Region"), "EU")
    assert set(column(browser, 0)) == {"eu-west-1"}
    browser.type(filter_by("Arch"), "i3")
    browser.type(filter_by("Instance type"), "ebs")
    ((region, name, *_, ami, aki),) = rows(browser)
    assert (region, name, aki) == ("eu-west-1", "lucid", "aki-c34d67b7")
    assert "ami-a94d67dd" in ami
    browser.until(lambda: status(browser) == "1 image of 18")
    browser.type(filter_by("Name"), "nothing like it")
    browser.until(lambda: status(browser) == "0 images of 18")
    assert browser.run("return document.getElementById('none').checkVisibility()")
    browser.click("#clear")
    assert len(rows(browser)) == 18
    assert browser.run("return document.activeElement.getAttribute('aria-label')") == "Filter by Region"


def test_a_click_on_a_heading_sorts_and_a_second_one_turns_it_round(browser: Browser, folder: Path) -> None:
    opened(browser, folder)
    for expected, reverse in (("ascending", False), ("descending", True)):
        browser.click("#heads th:nth-child(1) button")
        assert column(browser, 0) == sorted(column(browser, 0), reverse=reverse)
        assert browser.run("return [...document.querySelectorAll('#heads th')].map(th => th.ariaSort)") == [
            expected,
            *["none"] * 7,
        ]
    browser.click("#heads th:nth-child(3) button")
    assert column(browser, 2) == ["1.0", *["10.04 LTS"] * 16, "24.04 LTS"]
    browser.click("#heads th:nth-child(7) button")
    assert [each.split()[0] for each in column(browser, 6)] == sorted(each.split()[0] for each in column(browser, 6))


def test_what_is_looked_for_is_in_the_address(browser: Browser, folder: Path) -> None:
    opened(browser, folder)
    browser.type(filter_by("Region"), "us-w")
    browser.click("#heads th:nth-child(4) button")
    before = rows(browser)
    fragment = browser.run("return location.hash")
    assert fragment == "#region=us-w&sort=arch"
    opened(browser, folder, fragment=fragment)
    assert rows(browser) == before
    assert {row[0] for row in before} == {"us-west-1"}


def test_an_id_is_copied_and_a_link_launches(browser: Browser, folder: Path) -> None:
    opened(browser, folder, fragment="#name=noble")
    browser.click('[aria-label="Copy ami-0123456789abcdef0"]')
    browser.until(lambda: status(browser) == "Copied ami-0123456789abcdef0")
    browser.type(filter_by("AMI ID"), f"{CONTROL}v{NULL}")
    browser.until(
        lambda: (
            browser.run("return document.querySelector(arguments[0]).value", filter_by("AMI ID"))
            == "ami-0123456789abcdef0"
        )
    )
    link = "return document.querySelector('.ami a').href"
    assert browser.run(link) == (
        "https://console.aws.amazon.com/ec2/home?region=us-east-1#launchAmi=ami-0123456789abcdef0"
    )
    opened(browser, folder, fragment="#region=cn-")
    assert browser.run(link) == "https://console.amazonaws.cn/ec2/home?region=cn-north-1#launchAmi=ami-odd"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_screen_reader_is_told_a_table(size: tuple[int, int], browser: Browser, folder: Path) -> None:
    opened(browser, folder, size=size, fragment="#name=lucid&arch=amd64")
    (table,) = browser.all("table")
    assert (browser.role(table), browser.label(table)) == ("table", "Images")
    assert [browser.label(each) for each in browser.all("#heads th")] == [
        "Region", "Name", "Version", "Arch", "Instance type", "Release", "AMI ID", "AKI ID",
    ]  # fmt: skip
    assert {browser.role(each) for each in browser.all("#heads th")} == {"columnheader"}
    assert {browser.role(each) for each in browser.all("#rows tr")} == {"row"}
    assert {browser.role(each) for each in browser.all("#rows tr:first-child td")} == {"cell"}
    names = [browser.label(each) for each in browser.all("#filters input")]
    assert names[0] == "Filter by Region"
    assert len(set(names)) == 8
    assert browser.label(browser.all("#rows .copy")[0]).startswith("Copy ami-")
    assert browser.label(browser.all("#rows a")[0]).startswith("Launch ami-")
    assert browser.role(browser.one("#status")) == "status"
    assert browser.run("return document.querySelector('table').ariaRowCount") == "10"
    assert browser.run("return document.querySelector('#rows tr').ariaRowIndex") == "3"
    assert browser.run("return document.querySelector('table').ariaBusy") == "false"


@pytest.mark.parametrize("size", [DESKTOP, TABLET, PHONE], ids=["desktop", "tablet", "phone"])
def test_nothing_is_wider_than_the_page(size: tuple[int, int], browser: Browser, folder: Path, tmp_path: Path) -> None:
    opened(browser, folder, size=size)
    browser.screenshot(tmp_path / "page.png")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return innerWidth") == size[0]
    if size == PHONE:
        # Big enough for a finger (WCAG 2.5.5).
        heights = browser.run(
            "return [...document.querySelectorAll('.copy, #heads button, #filters input')]"
            ".map(each => each.getBoundingClientRect().height)"
        )
        assert min(heights) >= 44


def test_twenty_thousand_images_are_there_within_a_second_a_slice_at_a_time(browser: Browser, tmp_path: Path) -> None:
    write(locator.render(Catalog.of(many(20_000)), every_serial=True), tmp_path)
    opened(browser, tmp_path)
    assert browser.processor() < 1.0  # of its own thread, whatever else the machine does
    assert status(browser) == "20,000 images"
    assert len(rows(browser)) < 500
    assert browser.run("return document.querySelector('table').ariaRowCount") == "20002"
    for _ in range(2):
        before = len(rows(browser))
        browser.run("scrollTo(0, document.body.scrollHeight)")
        browser.until(lambda: len(rows(browser)) > before)  # noqa: B023 - waited for right here
    browser.type(filter_by("AMI ID"), "4e1f")
    assert [each.split()[0] for each in column(browser, 6)] == ["ami-00000000000004e1f"]
    assert browser.complaints() == []


def test_the_table_for_programs_is_valid_and_has_the_plain_id_beside_the_link(folder: Path) -> None:
    table = json.loads((folder / locator.TABLE).read_bytes())["aaData"]
    assert {len(row) for row in table} == {9}
    (found,) = [row for row in table if row[8] == "ami-4b4ba522"]
    assert found == [
        "us-east-1", "lucid", "10.04 LTS", "amd64", "ebs", "20100427.1",
        '<a href="https://console.aws.amazon.com/ec2/home?region=us-east-1#launchAmi=ami-4b4ba522">ami-4b4ba522</a>',
        "aki-0b4aa462", "ami-4b4ba522",
    ]  # fmt: skip
