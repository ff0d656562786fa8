"""A page in Chromium while `manage.py runserver` reloads, and when Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.servers.conftest import Running, wait_for
from tests.servers.test_runserver import Start, runserver, save

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = [pytest.mark.browser, pytest.mark.servers, pytest.mark.unmeasured]
__all__ = ["runserver"]

# Connects again at once, and notes the process of each socket and the code of each close.
COME_BACK = """() => {
  window.seen = [];
  const open = () => {
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
    socket.onmessage = (event) => seen.push(["process", JSON.parse(event.data)]);
    socket.onclose = (event) => { seen.push(["close", event.code]); setTimeout(open, 5); };
  };
  open();
}"""


def codes(seen: list[list[Any]]) -> list[int]:
    return [value for kind, value in seen if kind == "close"]


def processes(seen: list[list[Any]]) -> list[int]:
    return [value for kind, value in seen if kind == "process"]


def test_a_page_comes_back_to_the_new_process(runserver: Start, browser: Any, tmp_path: Path) -> None:
    running: Running = runserver()
    page = browser.new_context().new_page()
    page.goto(running.http("/"))  # Django's own page for a path that it does not know

    def seen() -> list[list[Any]]:
        found: list[list[Any]] = page.evaluate("window.seen")
        return found

    def has_reloaded() -> bool:
        if not codes(seen()):
            save(tmp_path)  # until the reloader, which may not have read all files yet, notices
            page.wait_for_timeout(100)
        return len(processes(seen())) >= 2

    page.evaluate(COME_BACK)
    wait_for(lambda: bool(processes(seen())))
    wait_for(has_reloaded, 60)
    old, new = processes(seen())
    assert old != new  # it never got back to the process that was leaving
    first, *others = codes(seen())
    assert first == 1012
    assert {*others} <= {1006}  # nobody listened yet
    count = len(codes(seen()))
    os.killpg(running.pid, signal.SIGINT)
    wait_for(lambda: len(codes(seen())) > count)
    assert codes(seen())[count] == 1012
    running.wait(30)
    assert processes(seen()) == [old, new]
    page.context.close()
