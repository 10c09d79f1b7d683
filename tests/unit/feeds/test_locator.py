"""The locator's files as programs and pages have them; the page itself is in tests/contract/feeds/test_page.py."""

from __future__ import annotations

import json
from html.parser import HTMLParser

from ebspub.feeds import locator
from ebspub.feeds.catalog import Catalog
from tests.unit.feeds.facts import image


class Markup(HTMLParser):
    """The tags, with their attributes, and the text of what is put into a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_cell_of_the_table_for_programs_is_markup_but_the_link() -> None:
    # Readers put the cells into their pages as they are.
    odd = '<img src=x onerror="alert(1)">&amp;'
    found = image(
        suite=odd, build=odd, label=odd, arch=odd, root_store=odd, ami=odd, aki=odd, version=odd, serial=odd,
        virtualization="paravirtual",
    )  # fmt: skip
    ((*cells, link, aki, ami),) = json.loads(locator.render(Catalog.of([found]))[locator.TABLE])["aaData"]
    assert [Markup(cell).tags for cell in (*cells, aki, ami)] == [[]] * 8
    assert Markup(cells[1]).text == f"{odd} {odd}"
    assert (Markup(aki).text, Markup(ami).text, Markup(link).text) == (odd, odd, odd)
    ((tag, attributes),) = Markup(link).tags
    assert (tag, set(attributes)) == ("a", {"href"})
    assert str(attributes["href"]).startswith("https://console.aws.amazon.com/ec2/home?region=us-east-1#launchAmi=")
