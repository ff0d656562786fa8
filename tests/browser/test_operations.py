"""The admin's page of open sockets in Chromium, under the demo's content policy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.browser.conftest import ROOT, Demo, Visitor

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright_api.expect

pytestmark = [pytest.mark.browser, pytest.mark.unmeasured]

LIST = "/admin/fastws_operations/livesocket/"
SMALL = {"width": 360, "height": 740}
# Contrast as WCAG 2 defines it, between each visible text and what is painted behind it: those below 4.5.
FAINT = """root => {
  const color = text => { const all = text.match(/[\\d.]+/g).map(Number); return [...all, 1].slice(0, 4); };
  const linear = v => v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(linear)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const over = (above, below) => below.map((v, i) => i < 3 ? above[i] * above[3] + v * (1 - above[3]) : 1);
  const parents = element => element ? [...parents(element.parentElement), element] : [];
  const contrast = element => {
    const styles = parents(element).map(each => getComputedStyle(each));
    const behind = styles.map(style => color(style.backgroundColor))
      .reduce((below, above) => over(above, below), [255, 255, 255, 1]);
    const text = color(getComputedStyle(element).color);
    text[3] *= styles.reduce((product, style) => product * Number(style.opacity), 1);
    const [a, b] = [light(over(text, behind)), light(behind)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const hasText = element => [...element.childNodes].some(each => each.nodeType === 3 && each.data.trim());
  return [...root.querySelectorAll('*')].filter(hasText)
    .filter(each => each.checkVisibility({visibilityProperty: true}) && contrast(each) < 4.5)
    .map(each => `${each.tagName} ${each.textContent.trim().slice(0, 30)} ${contrast(each).toFixed(2)}`);
}"""
GRANT = """
import django; django.setup()
from django.contrib.auth.models import User
User.objects.filter(username="staff").update(is_superuser=True)
"""


@pytest.fixture(scope="module")
def operated(demo: Demo) -> Demo:
    """The demo, in which the user `staff` may do everything."""
    environ = {**os.environ, "DATABASE_PATH": str(demo.folder / "demo.sqlite3")}
    environ["DJANGO_SETTINGS_MODULE"] = "wsproject.settings"
    subprocess.run([sys.executable, "-c", GRANT], cwd=ROOT, env=environ, check=True, timeout=60)
    return demo


@pytest.fixture
def open_list(operated: Demo, visit: Callable[..., Visitor]) -> Callable[..., Any]:
    """Opens the page as an operator."""

    def open_page(path: str = LIST, **options: Any) -> Any:
        operator = visit(**options)
        page = operator.tab("/admin/login/?next=" + path)
        page.locator("#id_username").fill("staff")
        page.locator("#id_password").fill(operated.passwords["staff"])
        page.locator("#login-form [type=submit]").click()
        page.wait_for_url("**" + path)
        return page

    return open_page


def chat(visit: Callable[..., Visitor], **options: Any) -> Any:
    """A page of the chat with an open socket."""
    page = visit("member", **options).tab("/chat/general/")
    expect(page.locator("#state")).to_have_text("Online")
    return page


def rows(page: Any) -> Any:
    return page.locator("#live-rows tr")


def test_ticks_focus_and_rows_survive_polls(open_list: Any, visit: Any) -> None:
    chat(visit)
    page = open_list()
    expect(rows(page)).to_have_count(1)
    page.locator(".action-select").check()
    page.locator("#live-rows th a").focus()
    for _ in range(5):
        with page.expect_response("**/data/**"):
            pass
    chat(visit)
    expect(rows(page)).to_have_count(2)
    for _ in range(5):
        with page.expect_response("**/data/**"):
            pass
    assert page.locator(".action-select:checked").count() == 1
    assert page.evaluate("document.activeElement.closest('tr') !== null")
    expect(page.locator(".action-counter")).to_have_text("1 of 2 selected")
    expect(page.locator("#live-summary")).to_contain_text("2 open · 1 process")


def test_kick_closes_a_page(open_list: Any, visit: Any, picture: Any) -> None:
    victim = visit("member").tab("/chat/general/")
    victim.evaluate(
        """() => new Promise((opened) => {
          const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws/chat/general");
          socket.onopen = opened;
          window.ended = new Promise((done) => (socket.onclose = (e) => done([e.code, e.reason])));
        })"""
    )
    page = open_list(LIST + "?o=-since")
    expect(rows(page)).to_have_count(2)
    picture(page, "operations-list")
    page.locator("#action-toggle").check()
    page.get_by_label("Action:").select_option("kick")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_text("Are you sure you want to close 2 sockets?")).to_be_visible()
    picture(page, "operations-confirm")
    page.get_by_label("Close code").fill("4403")
    page.get_by_label("Reason").fill("abuse")
    page.get_by_role("button", name="Yes, close").click()
    expect(page.get_by_text("Closed 2 sockets in 1 process.")).to_be_visible()
    assert victim.evaluate("window.ended") == [4403, "abuse"]


def test_client_text_is_text(open_list: Any, visit: Any) -> None:
    chat(visit, user_agent="<img src=x onerror=alert(1)>")
    page = open_list(LIST + "?q=%3Cimg", viewport={"width": 1600, "height": 900})
    expect(page.locator("#live-rows .field-agent").first).to_contain_text("<img src=x onerror")
    assert page.locator("#live-rows img").count() == 0
    with page.expect_response("**/data/**"):
        pass
    assert page.locator("#live-rows img").count() == 0


def faint(page: Any) -> list[str]:
    """The texts with too little contrast, after the change of a theme, which may fade."""
    page.evaluate("() => Promise.allSettled(document.getAnimations().map(each => each.finished))")
    found: list[str] = page.locator("#main").evaluate(FAINT)
    return found


def fits(page: Any) -> bool:
    """Whether the page does not scroll sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


@pytest.mark.parametrize("toggled", [False, True])
def test_dark(open_list: Any, visit: Any, picture: Any, toggled: bool) -> None:
    chat(visit)
    page = open_list(color_scheme="light" if toggled else "dark")
    if toggled:
        toggle = page.locator("button.theme-toggle").first
        while page.evaluate("document.documentElement.dataset.theme") != "dark":
            toggle.click()
    expect(rows(page).first).to_be_visible()
    assert (
        page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        != "rgb(255, 255, 255)"
    )
    assert faint(page) == []
    picture(page, f"operations-dark-{toggled}")


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_every_text_can_be_read_on_a_phone(open_list: Any, visit: Any, picture: Any, scheme: str) -> None:
    chat(visit)
    page = open_list(color_scheme=scheme, viewport=SMALL)

    def look(name: str) -> None:
        assert (faint(page), fits(page)) == ([], True), name
        picture(page, f"operations-{name}-{scheme}")

    page.get_by_role("button", name="Pause").click()
    page.locator("#live-filter > summary").click()
    for state in ("open", "slow", "closing"):
        rows(page).first.evaluate("(row, state) => { row.dataset.state = state; }", state)
        page.locator("#live-age").evaluate("age => age.classList.add('late')")
        look(f"list-{state}")
    page.locator(".action-select").check()
    look("list-ticked")
    page.get_by_label("Action:").select_option("kick")
    page.get_by_role("button", name="Go").click()
    page.get_by_label("Close code").fill("5")
    page.get_by_role("button", name="Yes, close").click()
    look("mistake")
    for path in ("processes/", "gone/", "?q=nothing"):
        page.goto(page.url.split("/livesocket/")[0] + "/livesocket/" + path)
        look(path.strip("/?").replace("=", "-"))
    page.goto(page.url.split("?")[0])
    page.locator("#live-rows th a").first.click()
    look("socket")


# What is wider than its box, and would scroll sideways or stick out.
WIDE = """() => [...document.querySelectorAll('html, #main, #content, #content-main, #content-main *')]
  .filter(each => each.checkVisibility() && each.scrollWidth > each.clientWidth && each.clientWidth > 1
    && getComputedStyle(each).display !== 'inline')
  .map(each => `${each.tagName}#${each.id}.${each.className} ${each.scrollWidth} > ${each.clientWidth}`)"""
LONG = {
    "user": "a.person.with.a.long.name@department.example.com",
    "route": "/tenants/{tenant}/ws/projects/{project_id}/rooms/{slug}",
    "since": "59 min",
    "messages": "12,345 / 1,234,567",
    "address": "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff",
    "agent": "SomebodysOwnProgram/12.34.56 (Linux; x86_",
    "bytes": "1,023 MiB / 1,023 MiB",
    "process": "website-production-7d9f8b6c5-x2x4z:4123456",
}


def lengthen(route: Any) -> None:
    """Answer with rows that have long texts."""
    answer = route.fetch()
    values = answer.json()
    for cell in (cell for row in values["rows"] for cell in row["cells"]):
        cell["text"] = LONG.get(cell["name"], cell["text"])
    route.fulfill(response=answer, json=values)


def test_nothing_overflows(open_list: Any, visit: Any, picture: Any) -> None:
    chat(visit)
    page = open_list()
    expect(rows(page)).to_have_count(1)
    wide = page.locator("#result_list thead .column-agent")

    def look(where: str) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate(WIDE) == [], f"{where}-{scheme}"

    for length in ("short", "long"):
        for width in (1920, 1440, 1280, 1024, 768, 390):
            page.set_viewport_size({"width": width, "height": 800})
            for sidebar in ("open", "closed"):
                look(f"{width}-{sidebar}-{length}")
                assert wide.is_visible() == (width >= (1920 if sidebar == "open" else 1280)), (width, sidebar)
                if width > 767:
                    page.locator("#toggle-nav-sidebar").click()
        page.route("**/data/**", lengthen)
        expect(rows(page).first).to_contain_text(LONG["route"])
    page.set_viewport_size({"width": 1280, "height": 800})
    picture(page, "operations-long")
    page.goto(page.url.split("?")[0] + "processes/")
    for width in (1440, 1280, 1024, 390):
        page.set_viewport_size({"width": width, "height": 800})
        look(f"processes-{width}")


def test_layout_is_the_same_with_every_django(open_list: Any, visit: Any) -> None:
    """Django 6.0 and 6.1 changed the admin's own markup and styles of lists, buttons and breadcrumbs."""
    chat(visit)
    page = open_list(viewport={"width": 1280, "height": 800})
    expect(rows(page).first).to_be_visible()

    def box(selector: str) -> dict[str, float]:
        return page.locator(selector).first.bounding_box()

    tools, search, table, choices = map(box, ("#live-pause", "#toolbar", "#result_list", "#live-filter"))
    assert tools["y"] < search["y"] < table["y"]
    assert search["x"] <= table["x"] < search["x"] + 40
    assert abs(choices["y"] - search["y"]) < 10
    assert choices["x"] >= search["x"] + search["width"]
    trail = page.locator(".breadcrumbs")
    assert trail.evaluate("e => getComputedStyle(e).backgroundColor") != "rgba(0, 0, 0, 0)"
    page.locator("#content > h1").evaluate("title => title.remove()")  # as django-jazzmin does
    assert box("#live-pause")["y"] >= box("#content-main")["y"]
    assert box("#live-head")["y"] >= box("#live-pause")["y"] + box("#live-pause")["height"]


def test_filter_can_be_used_after_a_phone_is_turned(open_list: Any, visit: Any) -> None:
    chat(visit)
    page = open_list(viewport=SMALL)
    choice = page.get_by_role("link", name="logged in")
    expect(choice.first).not_to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(choice.first).to_be_visible()
    page.set_viewport_size(SMALL)
    expect(choice.first).not_to_be_visible()


def test_phone(open_list: Any, visit: Any, picture: Any) -> None:
    chat(visit)
    page = open_list(viewport=SMALL)
    expect(rows(page).first).to_be_visible()
    assert fits(page)
    assert page.locator("#live-filter").get_attribute("open") is None
    page.locator("#live-filter > summary").click()
    expect(page.get_by_text("By route")).to_be_visible()
    for selector in ("#live-filter > summary", ".actions select", ".actions button", "#live-rows th a"):
        assert page.locator(selector).first.bounding_box()["height"] >= 44, selector
    picture(page, "operations-phone")
    page.locator("#live-rows th a").first.click()
    label, value = page.locator("#socket-fields th").first, page.locator("#socket-fields td").first
    expect(label).to_be_visible()
    assert fits(page)
    assert label.bounding_box()["width"] < value.bounding_box()["width"]


def press_until(page: Any, key: str, selector: str) -> None:
    """Press a key until an element that fits has the focus."""
    for _ in range(60):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{key} does not reach {selector}.")


def test_keyboard_only(open_list: Any, visit: Any) -> None:
    chat(visit)
    page = open_list()
    expect(rows(page)).not_to_have_count(0)
    page.locator("#searchbar").focus()
    press_until(page, "Tab", ".action-select")
    page.keyboard.press("Space")
    assert page.locator(".action-select:checked").count() == 1
    press_until(page, "Shift+Tab", "select")
    page.keyboard.type("Close selected")
    press_until(page, "Tab", ".actions button")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Are you sure you want to close 1 socket?")).to_be_visible()
    press_until(page, "Tab", "[type=submit].default")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Closed 1 socket in 1 process.")).to_be_visible()


def test_hidden_and_paused_pages_ask_nothing(open_list: Any, visit: Any) -> None:
    """The clock of the page is the test's, so the polls that do not come are those of a minute."""
    chat(visit)
    page = open_list()
    page.clock.install()
    page.reload()
    expect(rows(page)).to_have_count(1)
    page.evaluate(
        """() => {
          window.asked = 0;
          const plain = window.fetch;
          window.fetch = (...all) => { window.asked += 1; return plain(...all); };
        }"""
    )

    def asked_in_a_minute() -> int:
        before = page.evaluate("window.asked")
        page.clock.run_for(60_000)
        return int(page.evaluate("window.asked") - before)

    with page.expect_response("**/data/**"):
        assert asked_in_a_minute() >= 1
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#live-age")).to_have_text("paused")
    assert asked_in_a_minute() == 0
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.get_by_role("button", name="Resume").click()
    assert asked_in_a_minute() == 0
    page.evaluate("delete document.hidden")
    page.get_by_label("Action:").focus()  # the menu may be open
    assert asked_in_a_minute() == 0
    page.locator("#searchbar").focus()
    with page.expect_response("**/data/**"):
        assert asked_in_a_minute() >= 1


@contextmanager
def crowd(demo: Demo, count: int) -> Iterator[None]:
    """Holds open sockets of a process of its own."""
    command = [sys.executable, "-m", "tests.browser.crowd", str(demo.port), "/ws/tour/hello/1", str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()


@pytest.mark.slow
def test_a_thousand_sockets_are_a_hundred_rows(open_list: Any, visit: Any, operated: Demo) -> None:
    with crowd(operated, 999):
        chat(visit)
        page = open_list()
        expect(page.locator("#live-summary")).to_contain_text("1,000 open · 1 process")
        expect(page.locator("#live-footer")).to_have_text(
            "Showing 100 of 1,000, newest first. Narrow the search to see others."
        )
        for _ in range(2):  # as the server renders them, and as the script does
            assert rows(page).count() == 100
            with page.expect_response("**/data/**"):
                pass
        page.locator("#action-toggle").check()
        expect(page.locator(".action-counter")).to_have_text("100 of 100 selected")
        page.get_by_role("link", name="/ws/chat/{slug} (1)").click()
        expect(rows(page)).to_have_count(1)
        page.goto(page.url.split("?")[0] + "?route=/ws/tour/hello/{number}")
        page.get_by_label("Action:").select_option("kick_all")
        page.get_by_role("button", name="Go").click()
        expect(page.get_by_text("Are you sure you want to close 999 sockets?")).to_be_visible()
        page.get_by_role("button", name="Yes, close").click()
        expect(page.get_by_text("Closed 999 sockets in 1 process.")).to_be_visible()
        expect(page.locator("#live-summary")).to_contain_text("1 open · 1 process")


def test_logged_out_page_says_so(open_list: Any) -> None:
    page = open_list()
    page.context.clear_cookies()
    expect(page.locator("#live-state")).to_contain_text("You are logged out")


def test_without_javascript(open_list: Any, visit: Any) -> None:
    chat(visit)
    page = open_list(java_script_enabled=False)
    row = rows(page).first
    expect(row).to_be_visible()
    row.locator(".action-select").check()
    page.get_by_label("Action:").select_option("message")
    page.get_by_role("button", name="Go").click()
    page.get_by_label("Message").fill('{"type":"typing","user":"operator"}')
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text(re.compile("Sent a message to 1 socket in 1 process"))).to_be_visible()
    page.get_by_role("link", name="Processes").click()
    expect(page.get_by_role("heading", name="Processes")).to_be_visible()


def test_watching_the_messages_of_a_socket(open_list: Any, visit: Any, picture: Any) -> None:
    member = chat(visit)
    page = open_list()
    page.locator("#live-rows th a").first.click()
    page.get_by_role("button", name="Watch messages").click()
    expect(page.get_by_text("No message yet.")).to_be_visible()
    member.locator("#text").fill("<img src=x onerror=alert(1)>")
    member.keyboard.press("Enter")
    lines = page.locator("#tap-rows tr")
    expect(lines.filter(has_text="<img src=x").first).to_be_visible(timeout=20_000)
    expect(lines.filter(has_text="in").first).to_be_visible()
    assert page.locator("#tap-rows img").count() == 0
    page.locator("#socket-tap").evaluate("element => element.scrollIntoView()")
    picture(page, "operations-tap")
    page.set_viewport_size(SMALL)
    assert fits(page)
    page.locator("#socket-tap").evaluate("element => element.scrollIntoView()")
    picture(page, "operations-tap-small")
    page.get_by_role("button", name="Stop watching").click()
    expect(page.get_by_role("button", name="Watch messages")).to_be_visible()
    expect(page.get_by_text(re.compile("Stopped watching 1 socket"))).to_be_visible()
