"""A page of another origin, in a browser that is logged in to the demo."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.servers.conftest import Running, launch

pytestmark = [pytest.mark.browser, pytest.mark.unmeasured]

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
    """A site on another port of the same host, which gets the same cookies (RFC 6265, 8.5)."""
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


FRAME = """url => new Promise(resolve => {
    window.onmessage = event => resolve(event.data);
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>
        const socket = new WebSocket("${url}");
        socket.onopen = () => parent.postMessage("open", "*");
        socket.onclose = event => parent.postMessage(event.code, "*");
    </script>`;
    document.body.append(frame);
})"""


@pytest.fixture(params=[(), ("null", "file://"), ("*",)], ids=["none", "named", "every"])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[Running, int | str]]:
    """A site that allows further origins, and the result for a page of such an origin."""
    env = {
        "SETTINGS": json.dumps({"ALLOWED_HOSTS": ["127.0.0.1"], "FASTWS": {"ALLOWED_ORIGINS": request.param}})
    }
    running = launch("daphne", "tests.servers.checked:application", [], None, env, ready=True)
    yield running, "open" if request.param else 1006
    running.stop()


def test_page_of_a_sandboxed_frame(browser, elsewhere, site):
    running, expected = site
    page = browser.new_page()
    page.goto(elsewhere)
    assert page.evaluate(FRAME, running.url("/ws/echo")) == expected
    if expected != "open":
        assert "its Origin 'null' is not the site's own" in running.logs()
    page.close()


def test_page_of_a_file(browser, site, tmp_path):
    running, expected = site
    (tmp_path / "page.html").write_text("<!doctype html><title>App</title>")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.evaluate(TRY_SOCKET, running.url("/ws/echo")) == expected
    if expected != "open":
        # Older versions of Chromium send file://.
        assert re.search(r"its Origin '(null|file://)' is not the site's own", running.logs())
    page.close()
