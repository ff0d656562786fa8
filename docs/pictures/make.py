"""Makes the pictures of the README from the running demo: `python -m docs.pictures.make`. Needs Chromium.

A picture whose page this version of the demo does not have is left as it is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS, Demo, Visitor, chromium
from wsproject.tour.capabilities import BY_SLUG

FOLDER = Path(__file__).parent
LARGEST = 200_000  # bytes
CHAT = [
    ("member", "Morning! Is the release out?"),
    ("staff", "Ten minutes ago. All processes restarted, nobody was logged out."),
    ("member", "I noticed: the page said “reconnecting” for a second, and went on."),
    ("staff", "That was it."),
]


class Studio:
    """The demo, and a browser window per person."""

    def __init__(self, demo: Demo, browser: Browser) -> None:
        self.demo, self.browser = demo, browser

    def visitor(self, username: str, width: int = 820, height: int = 640, scale: float = 1.5) -> Visitor:
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="light", device_scale_factor=scale
        )
        return Visitor(self.demo, context, []).log_in(username)


def chat(studio: Studio) -> Page:
    """A room with a conversation, as a member sees it."""
    tabs = {name: studio.visitor(name).tab("/chat/general/") for name in ("member", "staff")}
    for tab in tabs.values():
        tab.locator("#state[data-state=online]").wait_for()
    for name, text in CHAT:
        tabs[name].locator("#text").fill(text)
        tabs[name].get_by_role("button", name="Send").click()
        for tab in tabs.values():
            tab.locator("#messages").get_by_text(text).wait_for()
    tabs["member"].locator("#text").fill("")
    return tabs["member"]


def console(studio: Studio) -> Page | None:
    """The page of all sockets, connected: a message that fits, and one that does not."""
    page = found(studio.visitor("staff", 1100, 860, scale=1.1).tab("/ws-docs/#/kitchen"))
    if page is not None:
        page.get_by_role("button", name="Connect", exact=True).click()
        page.get_by_text("Open.", exact=True).wait_for()
        editor = page.get_by_label("Message to send")
        for message in BY_SLUG["messages"].lines:
            editor.fill(message)
            editor.press("Control+Enter")
        page.get_by_text("422").first.wait_for()
        editor.scroll_into_view_if_needed()
    return page


def live_sockets(studio: Studio) -> Page | None:
    """The sockets that are open now, in the admin."""
    for name, path in (("member", "/chat/general/"), ("member", "/chat/coffee/"), ("staff", "/admin/ops/")):
        studio.visitor(name).tab(path).locator("#state[data-state=online]").wait_for()
    page = found(studio.visitor("staff", 1300, 640, scale=1.1).tab("/admin/fastws_operations/livesocket/"))
    if page is not None:
        page.locator("#result_list tbody tr").nth(2).wait_for()
    return page


def found(page: Page) -> Page | None:
    return None if page.title().startswith(("Page not found", "Not Found")) else page


PICTURES: dict[str, Callable[[Studio], Page | None]] = {
    "chat": chat,
    "console": console,
    "live-sockets": live_sockets,
}


def make(studio: Studio) -> None:
    for name, scene in PICTURES.items():
        page = scene(studio)
        if page is None:
            print(f"{name}: the demo has no such page")
            continue
        page.wait_for_load_state("networkidle")
        file = FOLDER / f"{name}.png"
        page.screenshot(path=file, animations="disabled", caret="hide")
        size = file.stat().st_size
        assert size <= LARGEST, f"{file.name} has {size:,} bytes"
        print(f"{name}: {size:,} bytes")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        try:
            demo.start()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
                make(Studio(demo, browser))
                browser.close()
        finally:
            demo.stop()


if __name__ == "__main__":
    main()
