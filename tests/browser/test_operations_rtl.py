"""The admin's page of open sockets in a language that is written from right to left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import Demo
from tests.browser.test_operations import SMALL, WIDE, expect, fits, open_list, operated, rows

pytestmark = [pytest.mark.browser, pytest.mark.unmeasured]
__all__ = ["open_list", "operated"]

# Whether the first character of an element's text stands left of its last one.
RUNS_RIGHT = """element => {
  const texts = [...element.childNodes].filter(each => each.nodeType === 3 && each.data.trim());
  const text = texts[0] ?? element.firstChild;
  const left = offset => {
    const range = document.createRange();
    range.setStart(text, offset);
    range.setEnd(text, offset + 1);
    return range.getBoundingClientRect().left;
  };
  return left(0) < left(text.data.length - 1);
}"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    settings = {"LANGUAGE_CODE": "ar"}
    values = {"DJANGO_SETTINGS_MODULE": "tests.servers.django_settings", "SETTINGS": json.dumps(settings)}
    running = Demo(tmp_path_factory.mktemp("rtl"), **values)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_paths_and_sentences_keep_their_order(open_list: Any, visit: Any, picture: Any) -> None:
    visit("member").tab("/chat/general/")
    page = open_list()
    expect(rows(page)).to_have_count(1)
    assert page.locator("html").get_attribute("dir") == "rtl"
    for selector in ("#live-rows .field-route", "#live-summary", "#live-footer"):
        assert page.locator(selector).first.evaluate(RUNS_RIGHT), selector
    home, app, model = page.locator(".breadcrumbs").locator("a, bdi:last-child").all()
    assert home.bounding_box()["x"] > app.bounding_box()["x"] > model.bounding_box()["x"]
    head, cell = page.locator("th.column-route .text"), page.locator("#live-rows .field-route")
    assert head.evaluate("e => getComputedStyle(e).textAlign") == "right"
    assert cell.evaluate("e => getComputedStyle(e).textAlign") == "right"
    picture(page, "operations-rtl")
    for width in (1280, SMALL["width"]):
        page.set_viewport_size({"width": width, "height": 800})
        assert (page.evaluate(WIDE), fits(page)) == ([], True), width
    picture(page, "operations-rtl-phone")
    page.locator("#live-rows th a").first.click()
    path = page.locator("#socket-fields td", has_text="/ws/chat/general")
    assert path.evaluate(RUNS_RIGHT)
    assert fits(page)
