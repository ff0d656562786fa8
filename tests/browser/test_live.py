"""`static/fastws/live.js` in Chromium, against a real daphne, under the policy `default-src 'self'`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.servers.conftest import ROOT, Running, command, free_port, wait_until_ready  # noqa: E402

from .conftest import FLAGS  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.unmeasured]

CONNECT = """([path, options]) => {
    window.log = [];
    window.heard = [];
    window.live = new Live(path, options);
    live.onStatus((status, event) => log.push([status, event && event.code]));
    live.on("message", (message) => heard.push(message));
}"""
SET_VISIBILITY = """state => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Site:
    """A site on one of the servers; it can be ended and started again on its port."""

    def __init__(self, server: str, app: str) -> None:
        self.server = server
        self.app = app
        self.port = free_port()
        self.running: Running | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = tempfile.NamedTemporaryFile(prefix="fastws-live-", suffix=".log")  # noqa: SIM115
        server = [sys.executable, "-m", *command(self.server, self.port), self.app]
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "wsproject.settings"}
        process = subprocess.Popen(server, cwd=ROOT, env=environment, stdout=log, stderr=log)
        self.running = Running(process, port=self.port, log=log)
        wait_until_ready(self.running)

    def signal(self, number: signal.Signals) -> None:
        assert self.running is not None
        self.running.signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
        self.running = None


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site("daphne", "tests.javascript.site:application")
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture
def visit(browser: playwright_api.Browser, site: Site) -> Iterator[Callable[[str], playwright_api.Page]]:
    """Opens pages; at the end none of them may have raised or violated its policy."""
    pages: list[playwright_api.Page] = []
    errors: list[str] = []

    def open_page(path: str = "/", *, member: bool = False) -> playwright_api.Page:
        context = browser.new_context()
        context.set_default_timeout(90_000)
        if member:
            context.add_cookies([{"name": "member", "value": "yes", "url": site.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.sockets = []  # type: ignore[attr-defined]
        page.on("websocket", lambda socket: page.sockets.append(socket.url))  # type: ignore[attr-defined]
        page.goto(site.url + path)
        eventually(page, "document.title === 'Ready'")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        assert page.evaluate("window.violations") == []
        page.context.close()
    assert errors == []


def connect(page, path, **options):
    """Make a client on the page and wait until it is online."""
    page.evaluate(CONNECT, [path, options])
    await_status(page, "online")


def eventually(page, condition):
    """Wait for a condition. Playwright's own `wait_for_function` needs a policy that allows `eval`."""
    deadline = time.monotonic() + 90
    while not holds(page, condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(50)


def holds(page, condition):
    try:
        return page.evaluate(condition)
    except playwright_api.Error as error:
        if "context was destroyed" not in str(error):  # the page is being left
            raise
        return False


def await_status(page, status):
    eventually(page, f"live.status === {status!r}")


def statuses(page):
    return page.evaluate("log.map(([status]) => status)")


def test_a_page_with_the_strictest_policy_talks_to_its_socket(visit, site):
    page = visit()
    connect(page, "/ws/echo?after=7")
    assert page.evaluate("live.request({ type: 'search', q: 'x' }).then(reply => reply.q)") == "x"
    caught = page.evaluate("live.request({ type: 'fail' }).catch(error => [error.status, error.detail])")
    assert caught == [409, "Taken"]
    eventually(page, "heard.length >= 3")
    assert page.evaluate("heard[0]") == {"type": "welcome", "after": 7}
    page.evaluate("live.close()")
    assert statuses(page) == ["online", "closed"]


def test_it_comes_back_when_the_server_was_killed(visit, site):
    page = visit()
    connect(page, "/ws/echo", queue=100)
    held = page.evaluate_handle("({ end: live.request({ type: 'hold' }).catch(error => error.detail) })")
    site.kill()
    try:
        await_status(page, "waiting")
        assert held.evaluate("held => held.end") == "connection lost"
        kept = page.evaluate("[1, 2, 3].map(n => live.send({ type: 'note', n }))")
        assert kept == ["kept", "kept", "kept"]
    finally:
        site.start()
    await_status(page, "online")
    eventually(page, "heard.some(({ n }) => n === 3)")
    assert page.evaluate("heard.filter(({ type }) => type === 'note').map(({ n }) => n)") == [1, 2, 3]
    assert page.evaluate("heard.filter(({ type }) => type === 'hold').length") == 0


def test_it_comes_back_after_1012(visit, site):
    page = visit()
    connect(page, "/ws/echo")
    page.evaluate("live.send({ type: 'close', code: 1012, reason: 'spread=1' })")
    eventually(page, "log.length >= 4")
    assert page.evaluate("log.slice(0, 4)") == [
        ["online", None],
        ["waiting", 1012],
        ["connecting", None],
        ["online", None],
    ]


def test_it_does_not_come_back_after_4401(visit, site):
    page = visit()
    connect(page, "/ws/echo")
    page.clock.install()
    page.evaluate("live.send({ type: 'close', code: 4401 })")
    await_status(page, "refused")
    page.clock.fast_forward(600_000)
    page.evaluate("dispatchEvent(new Event('online'))")
    page.clock.fast_forward(600_000)
    assert statuses(page) == ["online", "refused"]
    assert len(page.sockets) == 1


def test_a_login_that_ended_is_found_out_from_the_page(visit, site):
    page = visit("/members/", member=True)
    connect(page, "/ws/members")
    page.context.clear_cookies()
    page.evaluate("live.send({ type: 'close', code: 1012, reason: 'spread=0' })")
    await_status(page, "refused")
    assert len(page.sockets) == 1 + 3
    assert statuses(page).count("waiting") == 1 + 3


def test_a_page_without_network_says_so_and_comes_back_with_it(visit, site):
    page = visit()
    connect(page, "/ws/echo")
    page.context.set_offline(True)
    await_status(page, "offline")
    page.context.set_offline(False)
    await_status(page, "online")


@pytest.mark.parametrize(("path", "options"), [("/ws/hello", {}), ("/ws/echo", {"heartbeat": True})])
def test_a_server_that_hangs_is_noticed(visit, site, path, options):
    page = visit()
    page.clock.install()
    connect(page, path, **options)
    page.evaluate("live.request({ type: 'ready' }).then(() => null)")
    site.signal(signal.SIGSTOP)
    try:
        for _ in range(10):
            page.clock.run_for(5_000)
        assert page.evaluate("log[1]") == ["waiting", 1006]
    finally:
        site.signal(signal.SIGCONT)
    page.clock.resume()
    await_status(page, "online")


def test_a_hidden_page_waits_and_a_visible_one_does_not(visit, site):
    page = visit()
    page.clock.install()
    connect(page, "/ws/echo")
    page.evaluate(SET_VISIBILITY, "hidden")
    page.evaluate("live.send({ type: 'close', code: 1012, reason: 'spread=1' })")
    await_status(page, "waiting")
    page.clock.run_for(29_000)
    assert len(page.sockets) == 1
    page.evaluate(SET_VISIBILITY, "visible")
    page.clock.run_for(300)
    await_status(page, "online")
    assert len(page.sockets) == 2


def test_the_back_forward_cache_takes_the_page_and_pageshow_connects_it(site, browser):
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    # Playwright turns that cache off.
    caching = browser.browser_type.launch(
        executable_path=path, args=FLAGS, ignore_default_args=["--disable-back-forward-cache"]
    )
    try:
        page = caching.new_page()
        page.set_default_timeout(90_000)
        page.goto(site.url + "/")
        eventually(page, "document.title === 'Ready'")
        connect(page, "/ws/echo")
        page.evaluate("addEventListener('pageshow', ({ persisted }) => { window.persisted = persisted; })")
        page.goto(site.url + "/elsewhere/")
        page.evaluate("setTimeout(() => history.back())")
        eventually(page, "window.persisted === true")
        await_status(page, "online")
        assert statuses(page)[:4] == ["online", "waiting", "connecting", "online"]
    finally:
        caching.close()
