"""The demo on Redis: what a person sees when the server, the network or the computer goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect  # noqa: E402

from tests.redis_server import running  # noqa: E402

from .conftest import Demo, Visitor  # noqa: E402
from .test_demo import online, said, say  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.redis, pytest.mark.unmeasured]

SMALL = {"width": 360, "height": 740}
LOADED = """() => performance.getEntriesByType("resource")
    .filter(({ name }) => name.endsWith("/messages/")).length"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running() as redis:
        demo = Demo(tmp_path_factory.mktemp("demo"), REDIS_URL=redis.url)
        try:
            demo.start()
            yield demo
        finally:
            demo.stop()
    assert "Traceback" not in demo.log()


@pytest.fixture
def tabs(visit: Callable[..., Visitor]) -> Callable[[str], tuple[Any, Any]]:
    """Opens a room for two users: on a desktop, and on a phone in the dark."""

    def enter(room: str) -> tuple[Any, Any]:
        phone = visit("member", viewport=SMALL, has_touch=True, is_mobile=True, color_scheme="dark")
        pages = visit("staff").tab(f"/chat/{room}/"), phone.tab(f"/chat/{room}/")
        for page in pages:
            expect(online(page).locator("#count")).to_have_text("2 people here")
        return pages

    return enter


def assert_shown(pages: tuple[Any, Any], texts: list[str]) -> None:
    """Both show these messages, each once and in order, and neither had to load them again."""
    for page in pages:
        expect(page.locator("#messages .text")).to_have_text(texts)
        expect(page.locator("#outbox li")).to_have_count(0)
        assert page.evaluate(LOADED) == 0


def test_the_server_restarts_while_two_tabs_type(tabs, demo, picture):
    one, two = pages = tabs("general")
    say(one, "Before the restart")
    expect(said(two, "Before the restart")).to_have_count(1)
    demo.stop()
    try:
        expect(one.locator("#state")).to_have_text("Reconnecting…")
        say(one, "Typed on the desktop")
        expect(two.locator("#state")).to_have_text("Reconnecting…")
        say(two, "Typed on the phone")
        for page in pages:
            page.get_by_label("Message", exact=True).press_sequentially("Half a sen")
        picture(one, "restart-desktop")
        picture(two, "restart-phone-dark")
    finally:
        demo.start()
    for page in pages:
        expect(online(page).locator("#outbox li")).to_have_count(0)
        expect(page.locator("#messages .text")).to_have_count(3)
        assert page.evaluate(LOADED) == 0
        expect(page.locator("#count")).to_have_text("2 people here")
        expect(page.get_by_label("Message", exact=True)).to_have_value("Half a sen")
    texts = one.locator("#messages .text").all_inner_texts()
    assert sorted(texts) == ["Before the restart", "Typed on the desktop", "Typed on the phone"]
    assert_shown(pages, texts)
    picture(one, "restarted-desktop")
    picture(two, "restarted-phone-dark")


def test_the_network_of_a_phone_goes_away(tabs):
    one, two = pages = tabs("releases")
    say(one, "One")
    expect(said(two, "One")).to_have_count(1)
    two.context.set_offline(True)
    expect(two.locator("#state")).to_have_text("Reconnecting…")
    say(one, "Two")
    expect(said(one, "Two")).to_have_count(1)
    say(two, "Three")
    expect(two.locator("#outbox li")).to_contain_text("Waiting for the connection")
    two.context.set_offline(False)
    assert_shown(pages, ["One", "Two", "Three"])


def test_a_laptop_wakes_up_after_a_restart_of_the_server(tabs, demo):
    one, two = pages = tabs("coffee")
    say(one, "Good night")
    expect(said(two, "Good night")).to_have_count(1)
    laptop = two.context.new_cdp_session(two)
    laptop.send("Page.setWebLifecycleState", {"state": "frozen"})
    demo.stop()
    demo.start()
    say(online(one), "Did you sleep?")
    expect(said(one, "Did you sleep?")).to_have_count(1)
    laptop.send("Page.setWebLifecycleState", {"state": "active"})
    online(two)
    assert_shown(pages, ["Good night", "Did you sleep?"])


def test_a_second_tab_of_a_user_is_not_a_second_person(tabs):
    one, two = tabs("general")
    second = two.context.new_page()
    second.goto(two.url)
    expect(online(second).locator("#count")).to_have_text("2 people here")
    expect(one.locator("#people li")).to_have_text(["member", "staff (you)"])
