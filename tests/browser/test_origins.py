"""A page from somewhere else, in a browser that is logged in to the demo."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.browser

TRY_SOCKET = """url => new Promise(resolve => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve("open");
    socket.onclose = event => resolve(event.code);
})"""


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Elsewhere</title>")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A site on another port of the same host, to which cookies go as well (RFC 6265, 8.5)."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_page_from_another_port_is_refused(visit, demo, elsewhere):
    member = visit("member")
    socket = demo.url.replace("http", "ws") + "/ws/chat/general"
    own = member.tab("/chat/")
    assert own.evaluate(TRY_SOCKET, socket) == "open"
    foreign = member.context.new_page()
    foreign.goto(elsewhere)
    sent: list[str | None] = []
    foreign.on("websocket", lambda opened: sent.append(opened.url))
    assert foreign.evaluate(TRY_SOCKET, socket) == 1006
    assert sent == [socket]
    assert f"its Origin {elsewhere!r} is not the site's own ({demo.url})" in demo.log()


def test_logout_in_one_tab_ends_the_socket_of_another(visit):
    member = visit("member")
    chat, other = member.tab("/chat/general/"), member.tab("/chat/")
    state = chat.locator("#state")
    state.get_by_text("Online").wait_for()
    other.get_by_role("button", name="Log out").click()
    state.get_by_text("Signed out").wait_for(timeout=5_000)
