"""`live.js` in Chromium with the real server: nothing is missed, and nothing comes twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.redis_server import RedisServer, running  # noqa: E402
from tests.servers.conftest import ROOT, Running, command, free_port, wait_until_ready  # noqa: E402

from .conftest import FLAGS  # noqa: E402
from .test_live import SET_VISIBILITY, await_status, eventually  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.redis, pytest.mark.unmeasured]

OPEN = """({ name, load, position = page.position, Socket = "WebSocket" }) => {
    Object.assign(window, { log: [], heard: [], lost: 0, loads: 0, events: [], loaded: [] });
    window.live = new Live(page.socket, { query: { name }, WebSocket: window[Socket] });
    live.on("status", (status) => log.push(status));
    window.room = live.group("room.1", { position, load: load && (async () => {
        loads += 1;
        const found = await (await fetch("/data/")).json();
        [loaded, heard] = [found.lines, []];
        return found.position;
    }) });
    room.on("message", ({ text }) => heard.push(text));
    room.on("lost", () => { lost += 1; });
    room.on("presence", ({ joined, left }) => events.push([[...joined.keys()], left]));
}"""
# The first connection is lost after the first frame, the greeting.
UNSTABLE = """() => {
    window.made = 0;
    window.Unstable = class extends WebSocket {
        constructor(...given) {
            super(...given);
            let [number, frames] = [++made, 0];
            this.addEventListener("message", (event) => {
                if (number > 1 || ++frames === 1) return;
                event.stopImmediatePropagation();
                this.close();
            });
        }
    };
}"""
_numbers = count(1)


class Site:
    """One of two daphnes with the same Redis; it can be ended and started again on its port."""

    def __init__(self, name: str, folder: Path, redis: RedisServer) -> None:
        self.port = free_port()
        self.env = {
            **os.environ,
            "LINES": str(folder / "lines"),
            "NAME": name,
            "REDIS_URL": redis.url,
            "PYTHONPATH": str(ROOT),
        }
        self.env.pop("DJANGO_SETTINGS_MODULE", None)
        self.running: Running | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = tempfile.NamedTemporaryFile(prefix="fastws-rooms-", suffix=".log")  # noqa: SIM115
        daphne = [sys.executable, "-m", *command("daphne", self.port), "tests.browser.rooms_site:application"]
        process = subprocess.Popen(daphne, cwd=ROOT, env=self.env, stdout=log, stderr=log)
        self.running = Running(process, port=self.port, log=log)
        wait_until_ready(self.running)

    def signal(self, number: signal.Signals) -> None:
        assert self.running is not None
        self.running.signal(number)

    def stop(self) -> None:
        if self.running is not None:
            self.running.stop()
            assert "Traceback" not in self.running.logs()
        self.running = None

    def get(self, path: str) -> bytes:
        with urlopen(self.url + path, timeout=30) as response:
            found: bytes = response.read()
            return found

    def say(self, number: int = 1) -> list[str]:
        """Say so many things that nobody has said before."""
        texts = [f"t{next(_numbers)}" for _ in range(number)]
        self.get("/say/?" + "&".join(f"text={text}" for text in texts))
        return texts

    def lines(self) -> list[str]:
        return Path(self.env["LINES"]).read_text().split()


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    folder = tmp_path_factory.mktemp("rooms")
    (folder / "lines").touch()
    with running() as redis:
        sites = Site("one", folder, redis), Site("two", folder, redis)
        try:
            for site in sites:
                site.start()
            yield sites
        finally:
            for site in sites:
                site.stop()


@pytest.fixture
def site(sites: tuple[Site, Site]) -> Site:
    """The one that pages are opened on."""
    return sites[0]


@pytest.fixture
def other(sites: tuple[Site, Site]) -> Site:
    """The one that goes on when the first is away."""
    return sites[1]


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """Opens pages; at the end none of them may have raised or violated its policy."""
    pages: list[Any] = []
    errors: list[str] = []

    def open_page() -> Any:
        context = browser.new_context()
        context.set_default_timeout(90_000)
        context.add_cookies([{"name": "member", "value": "yes", "url": site.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(site.url + "/")
        eventually(page, "document.title === 'Ready'")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        if not page.is_closed():
            assert page.evaluate("window.violations") == []
            page.context.close()
    assert errors == []


def enter(page: Any, name: str = "ann", **options: Any) -> None:
    page.evaluate(OPEN, {"name": name, **options})
    eventually(page, "live.status === 'online' && room.count > 0")


def heard(page: Any, texts: list[str]) -> list[str]:
    """What the page has heard, once the last of `texts` is there."""
    eventually(page, f"heard.includes({texts[-1]!r})")
    found: list[str] = page.evaluate("heard")
    return found


def test_what_was_said_between_page_and_socket_is_heard(visit, site):
    site.say(3)
    page = visit()
    texts = site.say(4)
    enter(page)
    texts += site.say(2)

    assert heard(page, texts) == texts
    assert page.evaluate("[lost, page.live]")[0] == 0
    # The name has a hash, as ManifestStaticFilesStorage makes it.
    assert page.evaluate("/live\\.[0-9a-f]{12}\\.js$/.test(page.live)")


def test_values_come_although_the_first_connection_is_lost_before_it_has_joined(visit, site):
    site.get("/set/?lamp=on")
    page = visit()
    page.evaluate(UNSTABLE)
    enter(page, Socket="Unstable")

    eventually(page, "room.state.get('lamp') === 'on'")
    assert page.evaluate("[made, lost, [...room.state]]") == [2, 0, [["lamp", "on"]]]
    text = site.say()
    assert heard(page, text) == text


def test_what_was_said_while_offline_is_heard_once(visit, site):
    page = visit()
    enter(page)
    texts = site.say(2)
    heard(page, texts)
    page.context.set_offline(True)
    await_status(page, "offline")
    texts += site.say(5)
    page.wait_for_timeout(5_000)
    page.context.set_offline(False)
    texts += site.say(1)

    assert heard(page, texts) == texts
    assert page.evaluate("lost") == 0


def test_a_restart_of_the_server_is_not_noticed(visit, site, other):
    page = visit()
    enter(page)
    texts = site.say(2)
    site.stop()
    try:
        texts += other.say(5)
    finally:
        site.start()
    texts += other.say(1)

    assert heard(page, texts) == texts
    assert page.evaluate("lost") == 0


def test_a_tab_that_was_hidden_for_minutes_catches_up(visit, site):
    page = visit()
    page.clock.install()
    enter(page)
    texts = site.say(2)
    heard(page, texts)
    page.evaluate(SET_VISIBILITY, "hidden")
    for _ in range(6):
        page.clock.run_for(60_000)
        texts += site.say(1)
    page.evaluate(SET_VISIBILITY, "visible")
    page.clock.run_for(6_000)
    page.clock.resume()

    assert heard(page, texts) == texts
    assert page.evaluate("lost") == 0


def test_a_connection_that_swallows_everything_is_left(visit, site, other):
    page = visit()
    page.clock.install()
    enter(page)
    site.signal(signal.SIGSTOP)
    try:
        texts = other.say(3)
        for _ in range(10):
            page.clock.run_for(5_000)
        assert page.evaluate("log.includes('waiting')")
    finally:
        site.signal(signal.SIGCONT)
    page.clock.resume()

    assert heard(page, texts) == texts


def test_a_page_from_the_back_forward_cache_catches_up(site, browser):
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    # Playwright turns that cache off.
    caching = browser.browser_type.launch(
        executable_path=path, args=FLAGS, ignore_default_args=["--disable-back-forward-cache"]
    )
    try:
        context = caching.new_context()
        context.add_cookies([{"name": "member", "value": "yes", "url": site.url}])
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(site.url + "/")
        eventually(page, "document.title === 'Ready'")
        enter(page)
        texts = site.say(2)
        heard(page, texts)
        page.evaluate("addEventListener('pageshow', ({ persisted }) => { window.persisted = persisted; })")
        page.goto(site.url + "/login/")
        texts += site.say(3)
        page.evaluate("setTimeout(() => history.back())")
        eventually(page, "window.persisted === true")

        assert heard(page, texts) == texts
    finally:
        caching.close()


def test_what_cannot_be_recovered_is_loaded_while_others_talk(visit, site, other):
    page = visit()
    enter(page, load=True)
    texts = site.say(2)
    heard(page, texts)
    page.context.set_offline(True)
    await_status(page, "offline")
    other.say(3)
    other.get("/clear/")
    other.say(3)
    page.context.set_offline(False)
    for _ in range(10):
        other.say(1)
    last = other.say(1)
    eventually(page, f"[...loaded, ...heard].includes({last[-1]!r})")

    # What is said while the page loads may be among what is loaded and arrive as well.
    assert page.evaluate("[...new Set([...loaded, ...heard])]") == site.lines()
    assert page.evaluate("new Set(heard).size === heard.length")
    assert page.evaluate("[lost, loads >= 1]") == [0, True]


def test_what_was_typed_offline_arrives_once(visit, site):
    page, listener = visit(), visit()
    enter(page)
    enter(listener, "bob")
    page.context.set_offline(True)
    await_status(page, "offline")
    texts = [f"typed{next(_numbers)}" for _ in range(3)]
    assert page.evaluate("texts => texts.map((text) => live.post(live.key(), { text }))", texts) == [True] * 3
    page.context.set_offline(False)
    heard(page, texts)
    # Sent again before the confirmation comes, a post is not repeated to others.
    page.evaluate("live.post('k', { text: 'again' })")
    page.evaluate("live.post('k', { text: 'again' })")
    texts += ["again", *site.say(1)]

    assert heard(page, texts) == texts
    assert heard(listener, texts) == texts
    assert site.lines()[-5:] == texts


def test_a_reload_is_no_event_for_others(visit, site):
    page, listener = visit(), visit()
    enter(listener, "bob")
    enter(page)
    eventually(listener, "room.people.has('ann')")
    assert listener.evaluate("room.people.get('ann')") == {"name": "ann"}
    listener.evaluate("events.length = 0")
    page.reload()
    eventually(page, "document.title === 'Ready'")
    enter(page)
    page.wait_for_timeout(2_500)
    assert listener.evaluate("events") == []
    page.context.close()
    eventually(listener, "!room.people.has('ann')")
    assert listener.evaluate("[events, room.count]") == [[[[], ["ann"]]], 1]


def test_after_a_logout_the_client_stays_away(visit, site):
    page = visit()
    enter(page)
    page.context.clear_cookies()
    site.get("/logout/")
    await_status(page, "refused")
    page.wait_for_timeout(1_000)
    assert page.evaluate("log.at(-1)") == "refused"
