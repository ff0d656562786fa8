"""permessage-deflate between Chromium and daphne."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from tests.servers.conftest import Running, launch

pytestmark = [pytest.mark.browser, pytest.mark.unmeasured]

# Sends each text once the one before it has come back; says what was negotiated, and what came back.
ECHO = """([url, texts]) => new Promise(resolve => {
    const socket = new WebSocket(url), received = [];
    const next = () => socket.send(texts[received.length]);
    socket.onopen = next;
    socket.onmessage = event => {
        received.push(event.data);
        received.length < texts.length ? next() : resolve([socket.extensions, received]);
    };
    socket.onclose = event => resolve([socket.extensions, event.code]);
})"""
TEXTS = ["", "a", "the same words " * 50, "é" * 70_000, "x" * 900_000, "", "", "the same words " * 50]


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    running = launch("daphne", "tests.servers.deflated:app", [], None, {}, ready=True)
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("path", "negotiated"), [("/echo", True), ("/whole", True), ("/context", True), ("/off", False)]
)
def test_messages_come_back_to_chromium(browser, running, path, negotiated):
    page = browser.new_page()
    extensions, received = page.evaluate(ECHO, [running.url(path), TEXTS])
    page.close()
    assert ("permessage-deflate" in extensions) == negotiated
    assert received == TEXTS


def test_chromium_learns_that_its_message_is_too_big(browser, running):
    page = browser.new_page()
    _, code = page.evaluate(ECHO, [running.url("/small"), ["x" * 1001]])
    page.close()
    assert code == 1009
