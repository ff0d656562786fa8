"""ws_top on a terminal, ws_connect to servers that do not answer, and ws_send while the layer fails."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from channels.layers import InMemoryChannelLayer
from django.core.management import CommandError, call_command

from fastws_compat.management import base, clients, dialogue
from fastws_compat.management.clients import LocalClient
from fastws_compat.operations import api
from fastws_compat.operations.management import replies
from fastws_compat.operations.management.commands.ws_top import CLEAR
from fastws_compat.operations.management.keyboard import HANG_UP, Keyboard
from fastws_compat.operations.management.top import View
from fastws_compat.operations.records import Process
from fastws_compat.operations.survey import Answers
from tests.ports import free_port
from tests.servers.conftest import ROOT

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
        return [Process.from_wire(values, "web:1")], Answers({"web:1": [{}]})

    monkeypatch.setattr(api, "survey_processes", survey)
    monkeypatch.setattr(replies, "is_local", lambda: False)
    with terminal(monkeypatch) as here:
        here.press_after(2, "s")
        here.press_after(3, "q")
        call_command("ws_top", "--interval", "0.1")
    assert samples >= 2
    assert "/ws/rooms" in here.shown


@pytest.fixture
def typed() -> Iterator[tuple[Keyboard, int]]:
    """A keyboard, and where to write what is typed."""
    terminal, there = os.openpty()
    tty.setraw(there)
    yield Keyboard(there), terminal
    os.close(there)


def test_keys_of_a_terminal(typed: tuple[Keyboard, int]) -> None:
    keyboard, terminal = typed
    assert keyboard.pressed(0) is None
    os.write(terminal, "a\x1b[A\x1b[15~\x1bOPé\x1b".encode())
    assert [keyboard.pressed(9) for _ in range(6)] == ["a", "\x1b[A", "\x1b[15~", "\x1bOP", "é", "\x1b"]
    first, second = "é".encode()[:1], "é".encode()[1:]
    os.write(terminal, first)
    assert keyboard.pressed(0.1) is None  # half a character
    os.write(terminal, second)
    assert keyboard.pressed(9) == "é"
    os.close(terminal)
    assert keyboard.pressed(9) == HANG_UP


def test_a_file_that_ends_hangs_up() -> None:
    read, write = os.pipe()
    os.close(write)
    assert Keyboard(read).pressed(9) == HANG_UP
    os.close(read)


def test_a_terminal_that_fails_hangs_up(typed: tuple[Keyboard, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def read(terminal: int, size: int) -> bytes:
        raise OSError("input/output error")

    keyboard, terminal = typed
    os.write(terminal, b"a")
    monkeypatch.setattr("fastws_compat.operations.management.keyboard.os.read", read)
    assert keyboard.pressed(9) == HANG_UP


@pytest.mark.parametrize("key", ["\x1b[A", "\x1b[15~", "\x1bOP", "é"])
def test_an_arrow_key_does_not_quit(key: str) -> None:
    view = View()
    view.press(key, ["/ws"])
    assert view == View()
    for each in ("/", *"größe", key, "\r"):
        view.press(each, ["/ws"])
    assert (view.text, view.quits) == ("größe" + key * (key == "é"), False)


# All commands


class Broken(io.StringIO):
    """Output whose reader has left."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise OSError("no file")
        return self._number

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize("is_file", [True, False])
def test_output_that_nobody_reads_ends_a_command(is_file: bool) -> None:
    read, write = os.pipe()
    with pytest.raises(SystemExit) as ended:
        call_command("ws_routes", stdout=Broken(write if is_file else -1))
    assert ended.value.code == base.NO_READER
    assert os.write(write, b"rest") == 4
    os.close(write)
    assert os.read(read, 4) == (b"" if is_file else b"rest")  # Python's last write went nowhere
    os.close(read)


class Says(base.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("Zoë \N{WAVING HAND SIGN}")


def test_a_terminal_without_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="latin-1"))
    Says().run_from_argv(["manage.py", "says"])
    assert shown.getvalue() == b"Zo\xeb \\U0001f44b\n"
    monkeypatch.setattr(sys, "stdout", text := io.StringIO())
    Says().run_from_argv(["manage.py", "says"])
    assert text.getvalue() == "Zoë \N{WAVING HAND SIGN}\n"


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replies, "require_layer", interrupted)
    with pytest.raises(SystemExit) as ended:
        call_command("ws_top")
    assert ended.value.code == base.INTERRUPTED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_block_normally(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, base.interruptible():
        os.kill(os.getpid(), number)
        signal.pause()
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


COMMANDS = {
    "ws_routes": ["ws_routes"],
    "ws_connect": ["ws_connect", "/ws/tour/clock", "--in-process", "--wait", "3"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_in_a_pipe_whose_reader_leaves(name: str) -> None:
    command = [sys.executable, "manage.py", *COMMANDS[name]]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (base.NO_READER, "")


# ws_connect


def test_connect_with_a_closed_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda found: ended.set())
    monkeypatch.setattr(sys, "stdin", None)

    async def lines() -> str | None:
        speaking = dialogue.Dialogue(LocalClient(None), dialogue.Printer(print, False), None)  # type: ignore[arg-type]
        speaking._read_stdin()
        return await asyncio.wait_for(speaking._lines.get(), 20)

    assert asyncio.run(lines()) is None
    assert not ended.is_set()


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
