"""The demo as a new user sees it."""

from __future__ import annotations

import re

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect  # noqa: E402

from .conftest import PHONE  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.unmeasured]

TRY_SOCKET = """path => new Promise(resolve => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + path);
    socket.onopen = () => resolve("open");
    socket.onclose = event => resolve(event.code);
})"""


WATCH_TYPING = """() => {
    const typing = document.getElementById("typing");
    typing.dataset.shown = "";
    const keep = () => { typing.dataset.shown += typing.textContent; };
    new MutationObserver(keep).observe(typing, { childList: true });
}"""


def write(page, text, reader, name):
    """Start typing. The reader's page shows it for four seconds, which may be over before a test looks."""
    reader.evaluate(WATCH_TYPING)
    page.get_by_label("Message", exact=True).press_sequentially(text)
    expect(reader.locator("#typing")).to_have_attribute("data-shown", re.compile(f"{name} is typing…"))


def say(page, text):
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send").click()


def said(page, text):
    return page.locator("#messages li").filter(has_text=text)


def online(page):
    expect(page.locator("#state")).to_have_text("Online")
    return page


def test_landing_page_leads_to_the_rooms_by_way_of_the_login(visit, picture, demo):
    page = visit().tab("/")
    picture(page, "home")
    page.locator("#chat").get_by_role("link", name="Open").click()
    picture(page, "login")
    page.get_by_label("User name").fill("member")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    page.get_by_label("Password").fill(demo.passwords["member"])
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("/chat/$"))
    picture(page, "rooms")
    page.get_by_role("link", name="General").click()
    online(page)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("banner").get_by_role("link", name="Log in")).to_be_visible()


def test_two_members_in_two_tabs(visit, picture):
    ann, bob = visit("staff"), visit("member")
    one, two = online(ann.tab("/chat/general/")), online(bob.tab("/chat/general/"))
    third = online(bob.tab("/chat/general/"))
    for page, names in ((one, ["member", "staff (you)"]), (two, ["member (you)", "staff"])):
        expect(page.locator("#people li")).to_have_text(names)
        expect(page.locator("#count")).to_have_text("2 people here")

    write(one, "Hello", two, "staff")
    expect(one.locator("#typing")).to_have_text("")
    picture(two, "typing")
    one.get_by_label("Message", exact=True).press("Enter")
    expect(said(two, "Hello").locator("strong")).to_have_text("staff")
    expect(said(two, "Hello").locator("time")).to_have_attribute("datetime", re.compile(r"^\d{4}-\d\d-\d\dT"))
    expect(two.locator("#typing")).to_have_text("")

    say(two, "<b>bold</b> & <img src=x onerror=alert(1)>")
    for page in (one, two, third):
        expect(said(page, "<b>bold</b> & <img src=x onerror=alert(1)>")).to_have_count(1)
        expect(page.locator("#messages img, #messages b")).to_have_count(0)
        expect(page.locator("#outbox li")).to_have_count(0)
    say(one, "A line\nand another one, to see how a longer message is laid out when it needs to wrap.")
    say(two, "Fine here.")
    expect(said(one, "Fine here.")).to_have_count(1)
    picture(one, "chat")

    two.reload()
    expect(said(online(two), "Hello")).to_have_count(1)
    for page in (two, third):
        page.close()
    expect(one.locator("#people li")).to_have_text(["staff (you)"])
    expect(one.locator("#count")).to_have_text("1 person here")


def test_nothing_is_lost_or_doubled_when_the_server_restarts(visit, picture, demo):
    one = online(visit("staff").tab("/chat/releases/"))
    member = visit("member")
    two = online(member.tab("/chat/releases/"))
    say(one, "Before the restart")
    expect(said(two, "Before the restart")).to_have_count(1)

    demo.stop()
    try:
        expect(one.locator("#state")).to_have_text("Reconnecting…")
        expect(two.locator("#state")).to_have_text("Reconnecting…")
        say(one, "Written while offline")
        say(one, "And another")
        expect(one.locator("#outbox li")).to_have_count(2)
        expect(one.locator("#outbox li").first).to_contain_text("Waiting for the connection")
        picture(one, "offline")
    finally:
        demo.start()
    for page in (one, two):
        online(page)
        expect(page.locator("#messages li .text")).to_have_text(
            ["Before the restart", "Written while offline", "And another"]
        )
    expect(one.locator("#outbox li")).to_have_count(0)
    late = online(member.tab("/chat/releases/"))
    expect(late.locator("#messages li")).to_have_count(3)


def test_what_was_missed_while_offline_is_fetched(visit):
    one, absent = visit("staff"), visit("member")
    here, away = online(one.tab("/chat/coffee/")), online(absent.tab("/chat/coffee/"))
    say(here, "Number one")
    expect(said(away, "Number one")).to_have_count(1)
    absent.context.set_offline(True)
    expect(away.locator("#state")).to_have_text("Reconnecting…")
    say(here, "Number two")
    say(here, "Number three")
    expect(said(here, "Number three")).to_have_count(1)
    absent.context.set_offline(False)
    expect(away.locator("#messages li .text")).to_have_text(["Number one", "Number two", "Number three"])


def test_a_message_waits_through_a_reload(visit):
    member = visit("member")
    page = online(member.tab("/chat/general/"))
    # The connection is open, but what the page sends over it is lost.
    page.evaluate("WebSocket.prototype.send = () => {}")
    say(page, "Kept in the tab")
    expect(page.locator("#outbox li")).to_have_count(1)
    page.reload()
    expect(said(online(page), "Kept in the tab")).to_have_count(1)
    expect(page.locator("#outbox li")).to_have_count(0)


def test_anonymous_is_refused_before_accept(visit):
    page = visit().tab("/chat/general/")
    expect(page).to_have_url(re.compile(r"/login/\?next=/chat/general/$"))
    assert page.evaluate(TRY_SOCKET, "/ws/chat/general") == 1006
    assert page.evaluate(TRY_SOCKET, "/ws/ops") == 1006


def test_a_tab_whose_session_ended_says_so(visit, picture):
    member = visit("member")
    page = online(member.tab("/chat/general/"))
    member.context.clear_cookies()
    member.context.set_offline(True)
    expect(page.locator("#state")).to_have_text("Reconnecting…")
    member.context.set_offline(False)
    expect(page.locator("#state")).to_have_text("Signed out")
    expect(page.get_by_role("link", name="Log in again")).to_be_visible()
    picture(page, "signed-out")


def test_staff_see_live_what_is_saved_in_the_admin(visit, picture):
    staff = visit("staff")
    live = staff.tab("/admin/")
    live.get_by_role("link", name="Live operations").click()
    expect(live.locator("#state")).to_have_text("Live")
    editor = staff.tab("/admin/chat/room/add/")
    editor.get_by_label("Name").press_sequentially("Night shift")
    expect(editor.get_by_label("Slug")).to_have_value("night-shift")
    editor.get_by_role("button", name="Save", exact=True).click()
    row = live.locator("#entries tr").first
    expect(row).to_contain_text("Night shift")
    expect(row).to_contain_text("staff")
    expect(row).to_contain_text("Addition")

    editor.get_by_role("link", name="Night shift").first.click()
    editor.get_by_label("Topic").fill("Who is up?")
    editor.get_by_role("button", name="Save", exact=True).click()
    expect(row).to_contain_text("Changed Topic.")
    row.get_by_role("link", name="Night shift").click()
    expect(live).to_have_url(re.compile(r"/admin/chat/room/\d+/change/$"))
    live.go_back()
    expect(live.locator("#state")).to_have_text("Live")
    expect(row).to_contain_text("Changed Topic.")

    for name in ("Short lived", "Gone soon"):
        editor.goto(staff.demo.url + "/admin/chat/room/add/")
        editor.get_by_label("Name").press_sequentially(name)
        editor.get_by_role("button", name="Save", exact=True).click()
        editor.wait_for_url("**/admin/chat/room/")
        editor.get_by_role("row", name=name).get_by_role("checkbox").wait_for()
    for name in ("Short lived", "Gone soon"):
        editor.get_by_role("row", name=name).get_by_role("checkbox").check()
    editor.get_by_label("Action:").select_option("delete_selected")
    editor.locator("button[name=index]").click()  # "Go", or "Run" since Django 6.1
    editor.get_by_role("button", name="Yes").click()
    expect(live.locator("#entries tr").filter(has_text="Deletion")).to_have_count(2)
    picture(live, "ops")


def test_a_member_is_refused_the_operations_page(visit, picture):
    page = visit("member").tab("/admin/ops/")
    expect(page).to_have_url(re.compile(r"/admin/login/\?next=/admin/ops/$"))
    expect(page.get_by_text("not authorized to access this page")).to_be_visible()
    picture(page, "ops-refused")
    assert page.evaluate(TRY_SOCKET, "/ws/ops") == 1006
    assert page.evaluate(TRY_SOCKET, "/ws/chat/general") == "open"


def test_phone(visit, picture):
    member = visit("member", viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    for name, path in {"home": "/", "rooms": "/chat/", "chat": "/chat/general/"}.items():
        page = member.tab(path)
        if name == "chat":
            say(online(page), "From a phone, in the dark, with a message that is long enough to wrap.")
            expect(said(page, "From a phone").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        picture(page, f"phone-{name}")
        page.close()
    staff = visit("staff", viewport=PHONE, has_touch=True, is_mobile=True)
    page = staff.tab("/admin/ops/")
    expect(page.locator("#state")).to_have_text("Live")
    picture(page, "phone-ops")
