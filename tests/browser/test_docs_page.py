"""The documentation page in Chromium, against daphne and uvicorn, under its own Content Security Policy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from playwright.sync_api import expect  # noqa: E402

from tests.javascript.conftest import installed  # noqa: E402
from tests.servers.conftest import ROOT, Running, launch, python_path  # noqa: E402

from .conftest import PHONE, Visitor  # noqa: E402

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.unmeasured]

# For what does not depend on the server.
on_daphne = pytest.mark.parametrize("demo", ["daphne"], indirect=True)

APP, SETTINGS = "tests.servers.docs_site:application", "tests.servers.docs_settings"


class Site:
    """`tests.servers.docs_site` on one server."""

    passwords: dict[str, str] = {}

    def __init__(self, server: str, folder: Path, **env: str) -> None:
        env |= {"DOCS_SITE_FOLDER": str(folder)}
        migrate = [sys.executable, "-m", "django", "migrate", "--verbosity", "0"]
        environ = {**os.environ, **env, "PYTHONPATH": python_path(), "DJANGO_SETTINGS_MODULE": SETTINGS}
        subprocess.run(migrate, cwd=ROOT, env=environ, check=True)
        self.running: Running = launch(server, APP, [], SETTINGS, env, ready=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.running.port}"


@pytest.fixture(scope="module", params=["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(request.param, tmp_path_factory.mktemp("docs"))
    yield site
    site.running.stop()
    assert "Traceback" not in site.running.logs()


class Page:
    """The page of one visitor, who is logged in by the name if one is given."""

    def __init__(self, visitor: Visitor, route: str = "", user: str = "", prefix: str = "") -> None:
        if user:
            visitor.context.request.get(f"{visitor.demo.url}{prefix}/enter/{user}")
        self.visitor = visitor
        self.page = visitor.tab(f"{prefix}/ws-docs/#/{route}")
        self.log = self.page.get_by_role("log")
        self.state = self.page.locator(".state")
        self.editor = self.page.get_by_label("Message to send")
        self.frames = self.log.locator("> ul > li")
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()

    def button(self, name: str):
        return self.page.get_by_role("button", name=name, exact=True)

    def connect(self) -> Page:
        self.button("Connect").click()
        expect(self.state).to_have_text("Open")
        return self

    def choose(self, tag: str) -> None:
        self.page.get_by_label("Message", exact=True).select_option(tag)

    def say(self, text: str) -> None:
        self.editor.fill(text)
        self.editor.press("Control+Enter")

    def texts(self, side: str) -> list[str]:
        return self.log.locator(f".{side} .frame").all_text_contents()

    def end(self):
        return self.log.locator(".end")


@pytest.fixture
def open_page(visit: Callable[..., Visitor]) -> Callable[..., Page]:
    return lambda *args, **options: Page(visit(**options.pop("context", {})), *args, **options)


@pytest.mark.parametrize("demo", ["daphne", "uvicorn"], indirect=True)
def test_a_conversation(open_page):
    page = open_page("room?slug=harbour&after=41", user="ann")
    expect(page.page.get_by_label("slug")).to_have_value("harbour")
    expect(page.page.get_by_label("after")).to_have_value("41")
    page.connect()
    expect(page.page.locator(".url")).to_have_text(re.compile(r"/ws/rooms/harbour\?after=41$"))
    assert json.loads(page.editor.input_value()) == {"type": "post", "text": "Hello, room!", "mood": "calm"}
    page.editor.press("Control+Enter")
    expect(page.frames.filter(has_text='"said"')).to_have_count(1)
    [said] = page.texts("received")
    assert json.loads(said)["number"] == 42
    assert json.loads(said)["text"] == "Hello, room!"

    page.choose("search")
    page.button("Send").click()
    reply = page.frames.filter(has_text='"found"')
    expect(reply.get_by_role("button", name=re.compile(r"^↩ \d+ ms: show the request$"))).to_be_visible()
    request = page.frames.filter(has_text='"search"')
    request.get_by_role("button", name=re.compile("show the reply")).click()
    expect(reply.locator(".frame")).to_be_focused()


def test_messages_that_do_not_fit(open_page, picture):
    page = open_page("room?slug=lobby", user="ann").connect()
    page.say('{"type": "post", "text": "", "id": "c7"}')
    error = page.frames.filter(has_text="string_too_short")
    expect(error).to_have_class(re.compile("error"))
    expect(error).to_contain_text('"status":422')
    expect(error.get_by_role("button", name=re.compile("show the request"))).to_be_visible()
    error.locator(".frame").click()
    expect(error.locator(".frame")).to_contain_text('"status": 422')
    expect(error.locator(".frame")).to_have_attribute("aria-expanded", "true")
    picture(page.page, "docs-error")

    page.say('{"type": "search", "id": 5, "q": "nothing", "limit": 1}')
    expect(page.frames.filter(has_text="Nothing was found.").locator(".link")).to_have_count(1)

    sent = len(page.texts("sent"))
    page.say('{"type": "post", ')
    expect(page.page.get_by_text("This is not JSON")).to_be_visible()
    expect(page.editor).to_have_attribute("aria-invalid", "true")
    assert len(page.texts("sent")) == sent

    for number in range(4):
        page.say(json.dumps({"type": "post", "n": number}))
    expect(page.end()).to_contain_text("Closed with 4422")
    expect(page.end()).to_contain_text("A message did not validate, or too many in a row did not.")
    expect(page.button("Connect")).to_be_visible()


def test_a_logout_elsewhere(open_page):
    page = open_page("room?slug=lobby", user="ben").connect()
    expect(page.page.get_by_role("navigation").locator(".dot")).to_have_count(1)
    page.visitor.context.request.get(f"{page.visitor.demo.url}/leave")
    expect(page.end()).to_contain_text("Closed with 4401")
    expect(page.end()).to_contain_text("The user is not logged in, or no longer logged in.")
    expect(page.page.get_by_role("navigation").locator(".dot")).to_have_count(0)


def test_a_refused_handshake(open_page, picture):
    page = open_page("room?slug=lobby")
    page.button("Connect").click()
    expect(page.state).to_have_text("Refused")
    expect(page.end()).to_contain_text("1006")
    expect(page.end()).to_contain_text("This route requires a login, and you are not logged in.")
    expect(page.end()).to_contain_text("A browser hides the status and the reason")
    page.page.goto(page.visitor.demo.url + "/ws-docs/#/refuses")
    page.button("Connect").click()
    expect(page.end()).to_contain_text("The parameter “must” is required and has no value.")
    expect(page.end()).to_contain_text("in the server's log")
    picture(page.page, "docs-refused")


CODES = {
    1000: "The endpoint returned.",
    1011: "The endpoint raised an exception.",
    1013: "The client reads too slowly",
    3500: "The application defines this code.",
    4404: "The object does not exist.",
    4409: "Corresponds to HTTP status 409.",
}


def test_close_codes(open_page):
    page = open_page("closes")
    for code, sentence in CODES.items():
        page.page.get_by_label("code", exact=True).fill(str(code))
        page.button("Connect").click()
        expect(page.end().last).to_contain_text(f"Closed with {code} “as you asked”. {sentence}")
        expect(page.state).to_have_text(f"Closed with {code}")
        page.button("Clear").click()


@on_daphne
def test_the_page_closes(open_page):
    page = open_page("room?slug=lobby", user="ann").connect()
    page.page.get_by_label("Close code").fill("1001")
    page.button("Close").click()
    expect(page.page.get_by_text("A browser can close with 1000, and with 3000 to 4999.")).to_be_visible()
    page.page.get_by_label("Close code").fill("3001")
    page.button("Close").click()
    expect(page.end()).to_contain_text("Closed with 3001")


@on_daphne
def test_a_reply_whose_tag_is_a_number(open_page):
    page = open_page("numbered").connect()
    page.editor.press("Control+Enter")
    reply = page.frames.filter(has=page.page.locator(".tag", has_text=re.compile("^2$")))
    expect(reply.get_by_role("button", name=re.compile("show the request$"))).to_be_visible()


@on_daphne
def test_what_javascript_reads_in_its_own_way(open_page):
    page = open_page("odd?id=50%25&id=b")
    expect(page.page.locator(".url")).to_have_text(re.compile(r"/ws/100%/50%25\?id=b$"))
    page.page.reload()
    page.connect()
    expect(page.frames.filter(has_text='["50%","b"]')).to_have_count(1)
    assert page.editor.input_value() == '{\n  "type": "coin",\n  "number": 1152921504606846976\n}'
    page.editor.press("Control+Enter")
    expect(page.frames.filter(has_text='"number":1152921504606846976}')).to_have_count(1)
    expect(page.page.get_by_label("Example of coin").first).to_contain_text("1152921504606846976")


@on_daphne
def test_a_link_fills_every_value_of_a_list(open_page):
    page = open_page("prices?symbol=oak&fields=a&fields=b")
    expect(page.page.get_by_label("fields")).to_have_value("a\nb")
    expect(page.page.locator(".url")).to_have_text(re.compile(r"/ws/prices/oak\?fields=a&fields=b$"))


@on_daphne
def test_other_routes_stay_open(open_page):
    page = open_page("room?slug=lobby", user="ann").connect()
    links = page.page.get_by_role("navigation")
    links.get_by_role("link", name="plain").click()
    expect(page.state).to_have_text("Not connected")
    expect(links.locator(".dot")).to_have_count(1)
    links.get_by_role("link", name="room").click()
    expect(page.state).to_have_text("Open")
    expect(page.page.get_by_label("slug")).to_have_value("lobby")
    page.editor.press("Control+Enter")
    expect(page.frames.filter(has_text='"said"')).to_have_count(1)


def test_the_limits_of_the_log(open_page):
    page = open_page("prices?symbol=oak&count=1200").connect()
    expect(page.page.get_by_text(re.compile("last 1,000 of 1,2"))).to_be_visible()
    expect(page.frames).to_have_count(1000)
    expect(page.frames.last).to_contain_text('"price":1200')
    assert '"price":1200' in page.texts("received")[-1]
    page.page.get_by_label("Filter").fill('"price":1100')
    expect(page.log.locator("> ul > li:visible")).to_have_count(1)
    page.page.get_by_label("Filter").fill("")
    page.button("Clear").click()
    expect(page.frames).to_have_count(0)


@on_daphne
def test_the_full_view_shows_what_came(open_page):
    """Python has numbers that JavaScript rounds."""
    page = open_page("plain").connect()
    page.say(r'{"n":12345678901234567890, "x":1.0,"none":[ ],"all":[{"s":"a, {b}: \"c\""},2]}')
    frame = page.log.locator(".received .frame").first
    frame.click()
    lines = [
        *("{", '  "n": 12345678901234567890,', '  "x": 1.0,', '  "none": [],', '  "all": ['),
        *("    {", r'      "s": "a, {b}: \"c\""', "    },", "    2", "  ]", "}"),
    ]
    expect(frame).to_have_text("\n".join(lines))
    assert frame.text_content() == "\n".join(lines)
    page.say("[" * 2_000 + "]" * 2_000)
    expect(page.log.locator(".received")).to_have_count(2)
    deep = page.log.locator(".received .frame").last
    deep.click()
    expect(deep).to_have_attribute("aria-expanded", "true")


@on_daphne
def test_large_frames_are_folded(open_page):
    page = open_page("plain").connect()
    page.say(f"give {64 * 1024}")
    page.say(f"give {64 * 1024 + 1}")
    expect(page.frames.filter(has_text="folded")).to_have_count(1)
    assert list(map(len, page.texts("received"))) == [64 * 1024, 64 * 1024 + 1]
    frame = page.frames.filter(has_text="folded").locator(".frame")
    assert frame.evaluate("frame => getComputedStyle(frame).contentVisibility") == "hidden"
    frame.click()
    assert frame.evaluate("frame => getComputedStyle(frame).contentVisibility") == "visible"
    assert len(frame.text_content()) == 64 * 1024 + 1


@on_daphne
def test_pause_copy_and_send_again(open_page):
    context = {"permissions": ["clipboard-read", "clipboard-write"]}
    page = open_page("plain", context=context).connect()
    page.say("one")
    expect(page.frames.filter(has_text="one")).to_have_count(2)
    page.button("Pause").click()
    page.say("two")
    expect(page.page.get_by_text("4 frames, 2 waiting")).to_be_visible()
    expect(page.frames.filter(has_text="two")).to_have_count(0)
    page.button("Pause").click()
    expect(page.frames.filter(has_text="two")).to_have_count(2)
    page.frames.filter(has_text="one").get_by_role("button", name="Send again").click()
    expect(page.frames.filter(has_text="one")).to_have_count(4)
    page.button("Copy as JSON lines").click()
    expect(page.button("Copy as JSON lines")).to_have_text("Copied")
    lines = page.page.evaluate("navigator.clipboard.readText()").splitlines()
    frames = [json.loads(line) for line in lines]
    said = [(one["direction"], one["text"], one["bytes"]) for one in frames if "direction" in one]
    assert said == [(side, text, 3) for text in ("one", "two", "one") for side in ("sent", "received")]


def test_binary_frames(open_page):
    page = open_page("upload", user="staff").connect()
    page.choose("bytes")
    expect(page.editor).to_be_hidden()
    page.button("Send").click()
    expect(page.page.get_by_text("Choose a file.")).to_be_visible()
    page.page.get_by_label("File to send").set_input_files(
        {"name": "a.bin", "mimeType": "application/octet-stream", "buffer": b"\x00\xffab"}
    )
    page.button("Send").click()
    expect(page.frames.filter(has_text="00 ff 61 62")).to_have_count(2)
    expect(page.frames.filter(has_text='"received":4')).to_have_count(1)


def test_tokens_are_kept_to_oneself(open_page):
    page = open_page("secret")
    expect(page.page.get_by_label("Command line")).to_contain_text("--header 'x-trace: …'")
    page.page.get_by_label("token").fill("not a token")
    page.page.get_by_label("key", exact=True).fill("'; echo")
    expect(page.page.get_by_label("Command line")).not_to_contain_text("'; echo")
    page.button("Connect").click()
    expect(page.page.get_by_text("characters that a subprotocol cannot have")).to_be_visible()
    page.page.get_by_label("token").fill("tok-1")
    page.page.get_by_label("key", exact=True).fill("k2")
    page.connect()
    expect(page.frames.filter(has_text="tok-1 k2")).to_have_count(1)
    expect(page.page.locator(".url")).to_contain_text("?key=•••")
    assert "k2" not in page.page.url + page.page.locator(".url").text_content()
    assert page.page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
    page.say("shout")
    expect(page.frames.filter(has_text=re.compile("SHOUT"))).to_have_count(1)


def test_mounts_and_hosts(open_page):
    page = open_page("v1:echo")
    page.button("Connect").click()
    expect(page.page.get_by_text("The URL needs a value for “version”.")).to_be_visible()
    expect(page.page.get_by_label("version")).to_be_focused()
    page.page.get_by_label("version").fill("2 0")
    page.page.get_by_label("rest").fill("a/b c/ü")
    page.connect()
    expect(page.frames.filter(has_text="a/b c")).to_have_count(1)
    assert json.loads(page.texts("received")[0])[1] == {"version": "2 0", "rest": "a/b c/ü"}
    assert page.page.url.endswith("#/v1:echo?version=2+0&rest=a%2Fb+c%2F%C3%BC")

    page.page.goto(page.visitor.demo.url + "/ws-docs/#/sub:echo?sub=api&rest=x")
    page.button("Connect").click()
    expect(
        page.page.get_by_text("A page can only connect to its own host. Open it on api.localhost")
    ).to_be_visible()


@on_daphne
def test_the_host_of_a_route(open_page, demo):
    page = open_page()
    port = demo.running.port
    page.page.goto(f"http://api.localhost:{port}/ws-docs/#/sub:echo?sub=api&rest=x")
    page.connect()
    expect(page.frames.filter(has_text='"sub":"api"')).to_have_count(1)


@on_daphne
def test_hostile_texts_stay_texts(open_page):
    page = open_page("hostile").connect()
    page.editor.press("Control+Enter")
    expect(page.log.locator(".received")).to_have_count(1)
    page.log.locator(".received .frame").click()
    for text in ("<script>document.title", "<img src=x onerror", "<b>bold</b>", "alert(2)"):
        expect(page.page.get_by_role("main")).to_contain_text(text)
    expect(page.page.locator("main script, main img, main b:not(.address b), main i, nav u")).to_have_count(0)
    assert page.page.title() == "hostile · Harbour"
    page.button("Fill the editor with constructor").click()
    page.button("Send").click()
    expect(page.frames.filter(has_text='{"type":"constructor"}')).to_have_count(1)


@on_daphne
def test_nothing_foreign_and_nothing_against_the_policy(open_page, demo):
    page = open_page()
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    page.page.reload()
    expect(page.page.get_by_role("heading", name="Harbour")).to_be_visible()
    expect(page.page.get_by_text("The harbour team")).to_be_visible()
    expect(page.page.locator("a[href^=mailto]")).to_have_count(0)  # the team has no address
    assert asked
    assert [url for url in asked if not url.startswith((demo.url, "data:"))] == []
    policy = page.visitor.context.request.get(demo.url + "/ws-docs/").headers["content-security-policy"]
    assert policy.startswith(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws://"
    )


@on_daphne
def test_with_the_keyboard_alone(open_page):
    page = open_page(user="ann")
    keyboard = page.page.keyboard
    keyboard.press("/")
    expect(page.page.get_by_label("Search routes")).to_be_focused()
    keyboard.type("tab in a")
    expect(page.page.get_by_role("navigation").get_by_role("link")).to_have_count(1)
    keyboard.press("ArrowDown")
    keyboard.press("Enter")
    expect(page.page.get_by_role("heading", name="room", level=1)).to_be_focused()
    keyboard.press("Tab")
    expect(page.page.get_by_label("slug")).to_be_focused()
    keyboard.type("attic")
    keyboard.press("Enter")
    expect(page.state).to_have_text("Open")
    for _ in range(40):
        if page.editor.evaluate("editor => editor === document.activeElement"):
            break
        keyboard.press("Tab")
    keyboard.press("Control+Enter")
    expect(page.frames.filter(has_text='"user":"attic"')).to_have_count(1)
    page.button("Close").focus()
    keyboard.press("Enter")
    expect(page.state).to_have_text("Closed with 1000")
    expect(page.button("Connect")).to_be_focused()
    keyboard.press("Enter")
    expect(page.state).to_have_text("Open")
    expect(page.button("Close")).to_be_focused()
    grip = page.page.get_by_role("separator", name="Height of the console")
    grip.focus()
    before = page.page.locator(".dock").bounding_box()["height"]
    keyboard.press("ArrowUp")
    assert page.page.locator(".dock").bounding_box()["height"] > before


@on_daphne
def test_the_skip_link_stays_on_the_route(open_page):
    page = open_page("plain")
    page.page.keyboard.press("Tab")
    expect(page.page.get_by_role("link", name="Skip to the route")).to_be_focused()
    page.page.keyboard.press("Enter")
    expect(page.page.get_by_role("main")).to_be_focused()
    expect(page.page.get_by_role("heading", name="plain")).to_be_visible()


@on_daphne
def test_the_window_holds_the_whole_page(open_page):
    """Only its parts scroll. A wheel over the header moved the page to an empty area below it."""
    page = open_page("room?slug=lobby", user="ann", context={"viewport": {"width": 1280, "height": 600}}).page
    expect(page.locator("article .hidden").last).to_be_attached()
    assert page.evaluate("document.querySelector('article').scrollHeight") > 600
    assert page.evaluate("document.documentElement.scrollHeight") == 600


@on_daphne
def test_search(open_page):
    page = open_page()
    links = page.page.get_by_role("navigation").get_by_role("link")
    everything = links.count()
    search = page.page.get_by_label("Search routes")
    search.fill("files upload")
    expect(links).to_have_count(1)
    search.fill("no such thing")
    expect(links).to_have_count(0)
    expect(page.page.get_by_text("No route matches.")).to_be_visible()
    search.fill("")
    expect(links).to_have_count(everything)


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        ("light", "desktop"),
        ("dark", "phone"),
        pytest.param("light", "phone", marks=pytest.mark.slow),
        pytest.param("dark", "desktop", marks=pytest.mark.slow),
    ],
)
@on_daphne
def test_how_it_looks(open_page, picture, size, scheme):
    context = {"color_scheme": scheme, **({"viewport": PHONE} if size == "phone" else {})}
    page = open_page(user="ann", context=context)
    picture(page.page, f"docs-{size}-{scheme}-start")
    check_accessibility(page.page)
    page.page.goto(page.visitor.demo.url + "/ws-docs/#/room?slug=lobby")
    page.connect()
    page.editor.press("Control+Enter")
    page.say('{"type": "post", "text": ""}')
    expect(page.frames.filter(has_text="string_too_short")).to_have_count(1)
    page.frames.last.locator(".frame").click()
    picture(page.page, f"docs-{size}-{scheme}-room")
    check_accessibility(page.page)
    width = page.page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1]
    if size == "phone":
        page.page.get_by_role("heading", level=1).scroll_into_view_if_needed()
        expect(page.button("Close")).to_be_in_viewport()
        page.button("Routes").click()
        page.page.get_by_role("link", name="refuses").click()
    else:
        page.page.get_by_role("link", name="refuses").click()
    page.button("Connect").click()
    expect(page.state).to_have_text("Refused")
    picture(page.page, f"docs-{size}-{scheme}-refused")
    check_accessibility(page.page)


def check_accessibility(page) -> None:
    source = (installed("axe-core@4.11.0") / "axe-core" / "axe.min.js").read_text()
    page.evaluate(source)
    found = page.evaluate("axe.run()")
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site("daphne", tmp_path_factory.mktemp("below"), SCRIPT_NAME_FORCED="/app")
    yield site
    site.running.stop()


def test_below_a_script_name(below, browser):
    """The proxy passes the whole path, so daphne serves the pages and the sockets below it."""
    context = browser.new_context()
    try:
        page = Page(Visitor(below, context, []), "room?slug=lobby", user="ann", prefix="/app")
        page.connect()
        expect(page.page.locator(".url")).to_contain_text("/app/ws/rooms/lobby")
        page.editor.press("Control+Enter")
        expect(page.frames.filter(has_text='"said"')).to_have_count(1)
        document = context.request.get(below.url + "/app/ws-docs/asyncapi.json").json()
        assert document["servers"]["site"]["pathname"] == "/app"
    finally:
        context.close()
