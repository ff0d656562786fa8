"""ws_top on a terminal, ws_connect to servers that do not answer, and ws_send while the layer fails."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.core.management import CommandError, call_command

from fastws_compat.management import clients, dialogue
from fastws_compat.operations import api
from fastws_compat.operations.management import replies
from fastws_compat.operations.management.commands.ws_top import CLEAR
from fastws_compat.operations.records import Process
from fastws_compat.operations.survey import Answers
from tests.ports import free_port

# ws_top


class Terminal:
    """Both ends of a pseudo-terminal, of which a thread reads what the command writes."""

    def __init__(self) -> None:
        self.here, there = pty.openpty()
        self.stdin = io.TextIOWrapper(io.FileIO(there, closefd=False))
        self.stdout = io.TextIOWrapper(io.FileIO(there, "w"))
        self._screens = [threading.Event() for _ in range(3)]
        self.shown = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self.here, 4096):
                self.shown += data.decode()
                for screen in self._screens[: self.shown.count(CLEAR)]:
                    screen.set()
        except OSError:
            pass  # it has been closed

    def press_after(self, screens: int, keys: str) -> None:
        """Press keys when so many screens have been shown."""

        def press() -> None:
            if self._screens[screens - 1].wait(30):
                os.write(self.here, keys.encode())

        threading.Thread(target=press, daemon=True).start()

    def close(self) -> None:
        self.stdin.close()
        self.stdout.close()
        os.close(self.here)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", terminal.stdin)
        patch.setattr(sys, "stdout", terminal.stdout)
        yield terminal
    terminal.close()


def test_top_shows_a_table_until_q_is_pressed(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = 0

    async def survey() -> Any:
        nonlocal samples
        samples += 1
        counts = {"open": 2, "waiting": 1, "opened": 1, "closed": 0, "messages_in": samples, "bytes_in": 1}
        values = {"open": 2, "routes": {"/ws/rooms": counts}, "lag": 0.004, "rss": 1, "layer": "Redis"}
        return [Process.from_wire(values, "web:1")], Answers()

    monkeypatch.setattr(api, "survey_processes", survey)
    monkeypatch.setattr(replies, "is_local", lambda: False)
    with terminal(monkeypatch) as here:
        here.press_after(2, "s")
        here.press_after(3, "q")
        call_command("ws_top", "--interval", "0.1")
    assert samples >= 2
    assert "/ws/rooms" in here.shown


# ws_connect


def connect(*args: str) -> tuple[int, str]:
    """The exit status and what is printed."""
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("ws_connect", *args, stdout=out, stderr=out)
    return int(ended.value.code or 0), out.getvalue()


def test_connect_where_nobody_listens() -> None:
    status, said = connect("/ws", "--url", f"http://127.0.0.1:{free_port()}")
    assert status == dialogue.FAILED
    assert "No answer from ws://127.0.0.1:" in said


def test_connect_with_what_no_request_can_have() -> None:
    status, said = connect("/ws", "--url", f"http://127.0.0.1:{free_port()}", "--subprotocol", "a b")
    assert status == dialogue.FAILED
    assert "invalid subprotocol: a b" in said


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a server that has one answer to whatever it is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_connect_to_a_server_that_does_not_speak_the_protocol() -> None:
    headers = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n"
    with answering(b"HTTP/1.1 101 Switching Protocols\r\n" + headers + b"\r\n") as url:
        status, said = connect("/ws", "--url", url)
    assert status == dialogue.FAILED
    assert "No answer from ws://127.0.0.1:" in said
    assert "Sec-WebSocket-Accept" in said


class Printer:
    """What a dialogue prints, in a list."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *words: self.lines.append((name, *words))


class Client:
    """A connection whose other side only answers a close."""

    def __init__(self) -> None:
        self.closes: list[Any] = []

    async def open(self, target: Any) -> Any:
        self.closed = asyncio.Event()
        return clients.Answer(101, [], "")

    async def receive(self) -> Any:
        await self.closed.wait()
        raise clients.Closed(*self.closes[0])

    async def close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))
        self.closed.set()


def converse(lines: str | None, monkeypatch: pytest.MonkeyPatch, wait: float | None) -> tuple[int, Any]:
    """The exit status and the closes of a dialogue; without lines, stdin stays open."""
    read, write = os.pipe()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.FileIO(read, closefd=False)))
    if lines is not None:
        os.write(write, lines.encode())
        os.close(write)
    client, others = Client(), set(threading.enumerate())
    talk = dialogue.Dialogue(client, Printer(), wait)  # type: ignore[arg-type]
    status = asyncio.run(talk.run(None, []))  # type: ignore[arg-type]
    if lines is None:
        os.close(write)
    for reader in set(threading.enumerate()) - others:
        reader.join(30)
    os.close(read)
    return status, client.closes


def test_a_dialogue_ends_after_so_many_seconds_without_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert converse(None, monkeypatch, 0.05) == (dialogue.DONE, [(1000, "")])


def test_a_dialogue_closes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "/close 4001 bye\n/close 4002 again\n"
    assert converse(lines, monkeypatch, None) == (dialogue.FAILED, [(4001, "bye")])


# ws_send


class Failing(InMemoryChannelLayer):
    """A channel layer of a project that is down."""

    async def group_send(self, group: str, message: Any) -> None:
        raise ConnectionError("down")

    async def send(self, channel: str, message: Any) -> None:
        raise ConnectionError("down")


def test_send_while_the_layer_is_down(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Failing"}}
    out = io.StringIO()
    with pytest.raises(CommandError, match="down"):
        call_command("ws_send", "of.no.kind", "{}", stdout=out, stderr=out)
