"""The demo's home page in a browser: its consoles, and a phone."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from wsproject.tour.capabilities import CAPABILITIES

from .conftest import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.unmeasured]


def card(page: Page, slug: str):
    return page.locator(f"#{slug}")


def test_consoles_show_both_directions_and_the_end(visit, picture):
    page = visit("member").tab("/")
    box = card(page, "limits")
    box.get_by_role("button", name="Connect").click()
    expect(box.get_by_role("log")).to_contain_text("connected")
    for _ in range(4):
        box.get_by_role("button", name="Again").click()
    expect(box.get_by_role("log")).to_contain_text("closed: 4429")
    expect(box.get_by_role("button", name="Connect")).to_be_visible()
    box = card(page, "codes")
    box.get_by_role("button", name="Connect").click()
    expect(box.get_by_role("log")).to_contain_text("closed: 4000 This is the reason, and it arrives.")
    picture(page, "home")


def test_a_view_sends_to_the_group(visit):
    page = visit("member").tab("/")
    box = card(page, "groups")
    box.get_by_role("button", name="Connect").click()
    expect(box.get_by_role("log")).to_contain_text("connected")
    box.get_by_role("button", name="Send from a view").click()
    expect(box.get_by_role("log")).to_contain_text("member pressed the button")


def test_a_refusal_is_shown(visit):
    page = visit().tab("/")
    box = card(page, "permissions")
    box.get_by_role("button", name="Connect").click()
    expect(box.get_by_role("log")).to_contain_text("refused")


def test_logging_out_in_another_tab_closes_the_socket(visit):
    visitor = visit("member")
    page = visitor.tab("/")
    box = card(page, "logins")
    box.get_by_role("button", name="Connect").click()
    expect(box.get_by_role("log")).to_contain_text("You are member.")
    visitor.tab("/").get_by_role("button", name="Log out").click()
    expect(box.get_by_role("log")).to_contain_text("closed: 4401")


@pytest.mark.parametrize("path", ["/", "/tour/code/chat/", "/tour/code/messages/"])
def test_phone(visit, picture, path):
    staff = visit("staff", viewport={**PHONE, "width": 320}, has_touch=True, is_mobile=True).tab(path)
    widths = staff.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], widths
    page = visit("member", viewport={**PHONE, "width": 360}, has_touch=True, is_mobile=True).tab(path)
    widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1], widths
    if path == "/":
        for button in page.locator(".actions > *:not(.hint)").all():
            box = button.bounding_box()
            assert box is None or box["height"] >= 44
        assert page.locator(".capability").count() >= len(CAPABILITIES) - 2
        picture(page, "home-phone")
