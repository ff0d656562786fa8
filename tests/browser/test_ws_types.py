"""A generated client in Chromium, as an ES module without a build step, against daphne and uvicorn."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from fastws_compat import FastAPI  # noqa: E402
from fastws_compat.schema import typescript  # noqa: E402
from fastws_compat.schema.description import Site as Described  # noqa: E402
from tests import zoo  # noqa: E402
from tests.browser import typed_site  # noqa: E402

from .conftest import FLAGS  # noqa: E402
from .test_live import Site, eventually  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.unmeasured]

# What the page of each test begins with; `base` is left out, so that the client takes it from `location`.
BEGIN = """async () => {
    const { CallError, connect } = await import("/sockets.js");
    Object.assign(window, { CallError, connect });
}"""


@pytest.fixture(scope="module")
def flags() -> list[str]:
    """Chromium does not know that the page, which the test itself answers with, is on this machine."""
    return [*FLAGS, "--disable-features=LocalNetworkAccessChecks"]


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def running(server: str, app: str) -> Iterator[Site]:
    site = Site(server, app)
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="module")
def site(server: str) -> Iterator[Site]:
    with running(server, "tests.javascript.zoo_site:application") as site:
        yield site


@pytest.fixture(scope="module")
def talking_site(server: str) -> Iterator[Site]:
    with running(server, "tests.browser.typed_site:application") as site:
        yield site


@contextmanager
def opened(browser: playwright_api.Browser, site: Site, app: FastAPI) -> Iterator[playwright_api.Page]:
    """A page of the site with the generated client, which must not raise.

    `/left/` is a page of a user who is no longer logged in: it does not exist for `HEAD`.
    """
    context = browser.new_context()
    context.set_default_timeout(90_000)
    client = typescript.files(typescript.Client(Described(app)), ".js")[""]
    context.route("**/", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    context.route(
        "**/left/", lambda route: route.fulfill(status=403 if route.request.method == "HEAD" else 200)
    )
    context.route("**/sockets.js", lambda route: route.fulfill(body=client, content_type="text/javascript"))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.sockets = []  # type: ignore[attr-defined]
    page.on("websocket", lambda socket: page.sockets.append(socket.url))  # type: ignore[attr-defined]
    page.goto(f"{site.url}/")
    page.evaluate(BEGIN)
    yield page
    context.close()
    assert errors == []


@pytest.fixture
def page(browser: playwright_api.Browser, site: Site) -> Iterator[playwright_api.Page]:
    with opened(browser, site, zoo.app) as page:
        yield page


@pytest.fixture
def talking(browser: playwright_api.Browser, talking_site: Site) -> Iterator[playwright_api.Page]:
    with opened(browser, talking_site, typed_site.application) as page:
        yield page


def test_a_request_its_error_and_a_message_that_does_not_fit(page: playwright_api.Page) -> None:
    found, failed, error = page.evaluate("""async () => {
        const commands = connect("/ws/commands");
        const error = new Promise((resolve) => commands.on("error", (frame) => frame.id || resolve(frame)));
        const kept = commands.send({ type: "nonsense" });
        const found = await commands.request({ type: "search", q: "x" });
        const failed = await commands.request({ type: "search", q: "nothing" }).catch((error) => error);
        const refused = [kept, failed instanceof CallError, failed.status, failed.detail];
        const answer = [found, refused, await error];
        commands.close();
        return answer;
    }""")
    assert (found["type"], found["hits"]) == ("found", [])
    assert failed == ["kept", True, 404, "There is nothing."]
    assert (error["type"], error["status"]) == ("error", 422)


def test_a_stream_with_parameters(page: playwright_api.Page) -> None:
    prices = page.evaluate("""async () => {
        const query = { tag: ["x", "y"], limit: 3 };
        const seen = [];
        const prices = connect("/ws/prices/{symbol}", { params: { symbol: "a" }, query });
        for await (const price of prices) seen.push(price);
        return [seen, prices.status];
    }""")
    assert prices == [[{"symbol": "a", "price": "1"}], "closed"]


def test_it_comes_back_when_the_server_was_killed(page: playwright_api.Page, site: Site) -> None:
    """The query is asked again at each attempt."""
    page.evaluate("""() => {
        window.asked = 0;
        window.commands = connect("/ws/commands", {
            query: () => ({ "in-room": `attempt ${(asked += 1)}` }), backoff: () => 50,
        });
    }""")
    eventually(page, "commands.status === 'online' && asked === 1")
    site.kill()
    eventually(page, "commands.status !== 'online' && asked > 1")
    site.start()
    eventually(page, "commands.status === 'online'")
    assert page.evaluate("commands.request({ type: 'search', q: 'x' })")["type"] == "found"
    page.evaluate("commands.close()")


# What happens to a client that stays open for days


TALK = """(options) => {
    window.log = [];
    window.asked = 0;
    window.talk = connect("/ws/talk", options ?? {});
    talk.onStatus((status, event) => log.push([status, event && event.code]));
}"""


def pass_time(page: playwright_api.Page, condition: str) -> None:
    """Let the page's clock run until a condition holds."""
    deadline = time.monotonic() + 90
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.clock.run_for(1_000)


def test_a_stream_resumes_without_a_gap_after_a_restart(
    talking: playwright_api.Page, talking_site: Site
) -> None:
    """The server closes with 1012; the client asks the new one for what comes after the last number."""
    talking.evaluate("""() => {
        window.log = [];
        window.numbers = [];
        window.ticks = connect("/ws/ticks", { query: () => ({ after: numbers.length }) });
        ticks.on("tick", ({ number }) => numbers.push(number));
        ticks.onStatus((status, event) => log.push([status, event && event.code]));
    }""")
    eventually(talking, "numbers.length > 5")
    talking_site.signal(signal.SIGTERM)
    eventually(talking, "log.length > 1")
    talking_site.stop()
    before = talking.evaluate("numbers.length")
    talking_site.start()
    eventually(talking, f"numbers.length > {before} + 5")
    assert talking.evaluate("log.slice(0, 2)") == [["online", None], ["waiting", 1012]]
    assert talking.evaluate("numbers.every((number, index) => number === index + 1)")
    talking.evaluate("ticks.close()")


def test_it_stays_away_after_4401(talking: playwright_api.Page) -> None:
    talking.clock.install()
    talking.evaluate(TALK)
    eventually(talking, "talk.status === 'online'")
    failed = talking.evaluate("""async () => {
        talk.send({ type: "end", code: 4401 });
        return talk.request({ type: "echo", text: "x" }).catch((error) => [error.status, error.detail]);
    }""")
    assert failed == [0, "connection lost"]
    eventually(talking, "talk.status === 'refused'")
    talking.clock.fast_forward(600_000)
    talking.evaluate("dispatchEvent(new Event('online'))")
    talking.clock.fast_forward(600_000)
    assert talking.evaluate("log") == [["online", None], ["refused", 4401]]
    assert talking.evaluate("talk.send({ type: 'echo', id: 1, text: 'x' })") is False
    assert len(talking.sockets) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [pytest.param(401, marks=pytest.mark.slow), 403])
def test_three_refusals_of_a_user_whose_page_is_gone_are_the_end(
    talking: playwright_api.Page, talking_site: Site, status: int
) -> None:
    talking.goto(f"{talking_site.url}/left/")
    talking.evaluate(BEGIN)
    talking.clock.install()
    talking.evaluate(TALK, {"query": {"refuse": status}})
    pass_time(talking, "talk.status === 'refused'")
    talking.clock.fast_forward(600_000)
    assert len(talking.sockets) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [pytest.param(403, marks=pytest.mark.slow), 503])
def test_a_client_that_is_refused_for_a_while_comes_back_later_and_later(
    talking: playwright_api.Page, status: int
) -> None:
    """Its page is still open, so its login is still valid. A message that is waiting is sent once."""
    talking.clock.install()
    talking.evaluate(TALK)
    talking.evaluate(
        """(status) => {
        talk.close();
        window.talk = connect("/ws/talk", { query: () => ({ refuse: (asked += 1) < 8 ? status : 0 }) });
        window.reply = talk.request({ type: "echo", text: "kept" }, { timeout: 600_000 });
        window.began = Date.now();
    }""",
        status,
    )
    pass_time(talking, "talk.status === 'online'")
    assert talking.evaluate("reply.then(({ text }) => text)") == "kept"
    assert talking.evaluate("asked") == 8
    assert talking.evaluate("Date.now() - began") > 2_000
    talking.evaluate("talk.close()")


def test_a_heartbeat_notices_a_server_that_hangs(talking: playwright_api.Page, talking_site: Site) -> None:
    talking.clock.install()
    talking.evaluate(TALK)
    eventually(talking, "talk.status === 'online'")
    talking_site.signal(signal.SIGSTOP)
    try:
        lost = "talk.request({ type: 'echo', text: 'x' }, { timeout: 600_000 }).catch(({ detail }) => detail)"
        talking.evaluate(f"() => {{ window.lost = {lost}; }}")
        for _ in range(9):
            talking.clock.run_for(5_000)
        assert talking.evaluate("log[1]") == ["waiting", 1006]
        assert talking.evaluate("lost") == "connection lost"
        talking.evaluate("() => { window.echoed = new Promise((resolve) => talk.on('echoed', resolve)); }")
        assert talking.evaluate("talk.send({ type: 'echo', id: 1, text: 'y' })") == "kept"
    finally:
        talking_site.signal(signal.SIGCONT)
    talking.clock.resume()
    assert talking.evaluate("echoed") == {"type": "echoed", "id": 1, "text": "y"}
    talking.evaluate("talk.close()")
