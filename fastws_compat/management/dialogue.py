"""The dialogue of `ws_connect` with an open connection: it sends lines, prints messages, and closes."""

from __future__ import annotations

import asyncio
import json
import math
import re
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from http import HTTPStatus
from io import TextIOWrapper
from typing import Any

from fastws_compat.connections.closing import close_reason, is_close_code
from fastws_compat.management.clients import Answer, Client, Closed, Content, Target
from fastws_compat.terminal import printable

DONE, REFUSED, FAILED = 0, 2, 3
STATUSES = {status.value for status in HTTPStatus}
GOOD_CODES = (1000, 1001)
CLOSE = re.compile(r"/close(?:\s+(\d{4}))?(?:\s+(.*))?")

Write = Callable[[str], Any]


class Printer:
    """Writes what happens, as text for people or as one JSON object per line."""

    def __init__(self, write: Write, as_json: bool) -> None:
        self._write = write
        self._as_json = as_json

    def _tell(self, line: str, event: str, **values: Any) -> None:
        self._write(json.dumps({"event": event, **values}, ensure_ascii=False) if self._as_json else line)

    def opened(self, answer: Answer) -> None:
        headers = [f"{printable(name)}: {printable(value)}" for name, value in _shown(answer)]
        phrase = HTTPStatus(answer.status).phrase if answer.status in STATUSES else ""
        first = f"HTTP/1.1 {answer.status} {phrase}".rstrip()
        body = ["", printable(answer.body)] if answer.body else []
        values = {"status": answer.status, "headers": _shown(answer), "body": answer.body}
        self._tell("\n".join([first, *headers, *body, "", ""]), "handshake", **values)

    def message(self, direction: str, content: Content) -> None:
        if isinstance(content, str):
            shown, values = printable(content), {"text": content}
        else:
            shown, values = f"{len(content)} bytes: {content[:64].hex(' ')}", {"bytes": content.hex()}
        event = "received" if direction == "<" else "sent"
        self._tell(f"{_now()} {direction} {shown}", event, time=_now(), **values)

    def pong(self, seconds: float | None) -> None:
        text = "no pong" if seconds is None else f"pong after {seconds * 1000:.1f} ms"
        self._tell(f"{_now()} {text}", "pong", time=_now(), seconds=seconds)

    def closed(self, code: int, reason: str) -> None:
        text = f"{_now()} closed {code} {printable(reason)}".rstrip()
        self._tell(text, "closed", time=_now(), code=code, reason=reason)

    def failed(self, text: str) -> None:
        self._tell(printable(text), "failed", error=text)


def _shown(answer: Answer) -> list[tuple[str, str]]:
    """The headers without cookies: the session's key must not be shown."""
    return [pair for pair in answer.headers if pair[0].lower() != "set-cookie"]


def is_text(line: str) -> bool:
    """Whether a line of stdin or of the command line is UTF-8, as a text frame must be."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S.%f")[:-3]


class Dialogue:
    """One connection, until either side closes it."""

    def __init__(self, client: Client, printer: Printer, wait: float | None) -> None:
        self._client = client
        self._printer = printer
        self._wait = wait
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._closing = False

    async def run(self, target: Target, first: Sequence[str]) -> int:
        """The exit status: 0 after 1000 or 1001, 2 for a refusal, 3 for anything else."""
        try:
            answer = await self._client.open(target)
        except (OSError, TimeoutError) as exc:
            self._printer.failed(f"No answer from {target.url.partition('?')[0]}: {exc or 'timeout'}")
            return FAILED
        self._printer.opened(answer)
        if answer.status != 101:
            return REFUSED
        speaking = asyncio.create_task(self._speak(first))
        try:
            return await self._listen()
        finally:
            speaking.cancel()

    async def _listen(self) -> int:
        try:
            while True:
                self._printer.message("<", await self._client.receive())
        except Closed as closed:
            self._printer.closed(closed.code, closed.reason)
            return DONE if closed.code in GOOD_CODES else FAILED

    async def _speak(self, first: Sequence[str]) -> None:
        """Send the first messages, then each line of stdin; close after the last one and `wait` seconds."""
        for text in first:
            await self._send(text)
        self._read_stdin()
        while (line := await self._next_line()) is not None:
            if line.startswith("/"):
                await self._command(line)
            elif line:
                await self._send(line)
        await self._close(1000, "")

    async def _next_line(self) -> str | None:
        """The next line; None at the end of stdin and after `wait` seconds without a line."""
        limit = math.inf if self._wait is None else self._wait
        try:
            async with asyncio.timeout(None if limit == math.inf else limit):
                line = await self._lines.get()
        except TimeoutError:
            return None
        if line is None and self._wait:
            await asyncio.sleep(self._wait)
        return line

    def _read_stdin(self) -> None:
        """Put the lines of stdin into the queue, from a thread that does not keep the process alive."""
        loop = asyncio.get_running_loop()

        def read() -> None:
            try:
                if isinstance(sys.stdin, TextIOWrapper):
                    sys.stdin.reconfigure(errors="surrogateescape")  # a line that is no text ends nothing
                for line in sys.stdin or ():  # None if it is closed
                    loop.call_soon_threadsafe(self._lines.put_nowait, line.rstrip("\r\n"))
                loop.call_soon_threadsafe(self._lines.put_nowait, None)
            except (RuntimeError, ValueError, OSError):
                return  # the connection has ended in the meantime, or there is no stdin

        threading.Thread(target=read, daemon=True).start()

    async def _command(self, line: str) -> None:
        if line == "/ping":
            self._printer.pong(await self._client.ping())
        elif (found := CLOSE.fullmatch(line)) and is_close_code(code := int(found[1] or 1000)):
            await self._close(code, close_reason(found[2] or ""))
        else:
            self._printer.failed(f"{line!r} is unknown: write /close CODE REASON or /ping, or a message.")

    async def _send(self, text: str) -> None:
        if is_text(text):
            self._printer.message(">", text)
            await self._client.send(text)
        else:
            self._printer.failed(f"{text!r} is not UTF-8 and is not sent.")

    async def _close(self, code: int, reason: str) -> None:
        if not self._closing:
            self._closing = True
            await self._client.close(code, reason)
