"""A generated client in Chromium, as an ES module without a build step, against daphne and uvicorn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from fastws_compat.schema import typescript  # noqa: E402
from fastws_compat.schema.description import Site as Described  # noqa: E402
from tests import zoo  # noqa: E402

from .conftest import FLAGS  # noqa: E402
from .test_live import Site, eventually  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.servers]

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
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = Site(request.param, "tests.javascript.zoo_site:application")
    try:
        site.start()
        yield site
    finally:
        site.stop()


@pytest.fixture
def page(browser: playwright_api.Browser, site: Site) -> Iterator[playwright_api.Page]:
    """A page of the site with the generated client, which must not raise."""
    context = browser.new_context()
    context.set_default_timeout(90_000)
    client = typescript.files(typescript.Client(Described(zoo.app)), ".js")[""]
    context.route("**/", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    context.route("**/sockets.js", lambda route: route.fulfill(body=client, content_type="text/javascript"))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{site.url}/")
    page.evaluate(BEGIN)
    yield page
    context.close()
    assert errors == []


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
