"""The demo as a process, and a browser that visits it.

Everything here ends with its module: while Playwright's sync API is open, a loop runs in the main thread,
and other tests could not call `asyncio.run`. For the same reason no test here touches the ORM.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol
from urllib.request import urlopen

import pytest

from tests.ports import free_port

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


class Demo:
    """`manage.py demo` with its own database. It can be stopped, and started again on its port."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.environ = environ
        self.port = 0
        self.passwords: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start on the previous port, or on a free one; another process may take that first."""
        for _ in range(1 if self.port else 5):
            port = self.port or free_port()
            if self._launch(port):
                self.port = port
                return
            if "Address already in use" not in self.log():
                break
        pytest.fail(f"The demo did not come up:\n{self.log()}")

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log(self) -> str:
        return (self.folder / "demo.log").read_text()

    def _launch(self, port: int) -> bool:
        environ = {k: v for k, v in os.environ.items() if k not in ("DEBUG", "ALLOWED_HOSTS", "REDIS_URL")}
        environ |= {"DATABASE_PATH": str(self.folder / "demo.sqlite3"), "PYTHONUNBUFFERED": "1"}
        environ |= {"DJANGO_SETTINGS_MODULE": "wsproject.settings", **self.environ}
        command = [sys.executable, "manage.py", "demo", "--port", str(port)]
        with (self.folder / "demo.log").open("a") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log, text=True)
        self._process = process
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline:
            self.passwords = dict(re.findall(r"Log in as: +(\S+) / (\S+)", self.log()))
            if self.passwords and answers(f"http://127.0.0.1:{port}/"):  # a stranger may answer before it
                return True
            try:
                process.wait(0.05)
                return False
            except subprocess.TimeoutExpired:
                continue
        self.stop()
        return False


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"))
    try:
        running.start()
        yield running
    finally:
        running.stop()
    assert "Traceback" not in running.log()
    assert "Warning:" not in running.log()


def chromium() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def flags() -> list[str]:
    """The options that Chromium is started with; a module may add some."""
    return FLAGS


@pytest.fixture(scope="module")
def browser(flags: list[str]) -> Iterator[playwright_api.Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    playwright_api.expect.set_options(timeout=30_000)  # a page without its server may wait half as long
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


class Site(Protocol):
    """What a visitor has to know about the demo."""

    @property
    def url(self) -> str: ...

    passwords: dict[str, str]


class Visitor:
    """One person with their own browser profile."""

    def __init__(self, demo: Site, context: playwright_api.BrowserContext, problems: list[str]) -> None:
        self.demo = demo
        self.context = context
        self.problems = problems

    def tab(self, path: str) -> playwright_api.Page:
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error}"))
        page.on("console", lambda entry: self._hear(page, entry))
        page.goto(self.demo.url + path)
        return page

    def log_in(self, username: str, path: str = "/login/") -> Visitor:
        page = self.tab(path)
        page.get_by_label(re.compile("^User ?name", re.IGNORECASE)).fill(username)
        page.get_by_label("Password").fill(self.demo.passwords[username])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/chat/")
        page.close()
        return self

    def _hear(self, page: playwright_api.Page, entry: playwright_api.ConsoleMessage) -> None:
        # Chromium reports refused connections and error statuses; some tests cause them on purpose.
        if entry.type in ("error", "warning") and not re.search(
            r"WebSocket connection|Failed to load", entry.text
        ):
            self.problems.append(f"{page.url}: {entry.text}")


@pytest.fixture
def visit(demo: Site, browser: playwright_api.Browser) -> Iterator[Callable[..., Visitor]]:
    """Creates visitors. At the end, none of their pages may have raised or violated the content policy."""
    contexts: list[playwright_api.BrowserContext] = []
    problems: list[str] = []

    def make(username: str | None = None, **options: object) -> Visitor:
        context = browser.new_context(viewport=options.pop("viewport", DESKTOP), **options)
        context.set_default_timeout(30_000)
        contexts.append(context)
        visitor = Visitor(demo, context, problems)
        return visitor.log_in(username) if username else visitor

    yield make
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[playwright_api.Page, str], None]:
    """Saves a screenshot in $SCREENSHOTS, or in the test's own directory."""
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: playwright_api.Page, name: str) -> None:
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / f"{name}.png")

    return take
