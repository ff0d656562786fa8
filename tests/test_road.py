"""The path of one connection through the files of the package, as docs/design.md describes it."""

from __future__ import annotations

import asyncio
import itertools
import re
import sys
from operator import itemgetter
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import pytest

from fastws_compat import Depends, FastAPI, WebSocket
from fastws_compat.connections import lifecycle
from tests.fake_server import CONNECT, FakeServer, text, websocket_scope

PACKAGE = Path(__file__).resolve().parents[1] / "fastws_compat"
DESIGN = PACKAGE.parent / "docs" / "design.md"
# A file and its functions in the list of the design document.
STOP = r"^\d+\. `([\w/]+\.py)`: (.*?):"


async def greeting(name: str = "hello") -> str:
    return name


async def echo(websocket: WebSocket, number: int, text: Annotated[str, Depends(greeting)]) -> None:
    await websocket.accept()
    await websocket.send_text(f"{text} {number} {await websocket.receive_text()}")


def road() -> list[tuple[str, str]]:
    """The files and functions of the package in the order in which one connection enters them."""
    app = FastAPI()
    app.websocket("/ws/{number}")(echo)
    entered: list[tuple[str, str]] = []

    def trace(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            entered.append((str(path.relative_to(PACKAGE)), frame.f_code.co_qualname))

    async def connect() -> None:
        scope = websocket_scope("/ws/7", query_string=b"name=hello")
        servers = [FakeServer(CONNECT, text("hi")) for _ in range(2)]
        # The first connection creates what all connections share.
        await app(dict(scope), servers[0].receive, servers[0].send)
        sys.setprofile(trace)
        try:
            await app(scope, servers[1].receive, servers[1].send)
        finally:
            sys.setprofile(None)

    asyncio.run(connect())
    return entered


def test_one_connection_is_short_to_follow() -> None:
    entered = [file for file, _ in road()]
    changes = sum(here != there for here, there in itertools.pairwise(entered))
    assert len(set(entered)) <= 12, sorted(set(entered))
    assert changes <= 20, entered


def test_the_design_describes_the_road(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "observers", [])  # another test may have imported `fastws_compat.signals`
    entered = road()
    stops = [
        (file, [function.replace(".<locals>", "") for _, function in calls])
        for file, calls in itertools.groupby(entered, itemgetter(0))
    ]
    section = DESIGN.read_text().split("## The path of a connection")[1].split("\n## ")[0]
    described = [
        (file, re.findall("`([^`]+)`", functions))
        for file, functions in re.findall(STOP, section, re.MULTILINE | re.DOTALL)
    ]
    assert described == stops
    files = len({file for file, _ in stops})
    numbers = f"{len(entered)} calls, {files} files and {len(stops) - 1} changes of file"
    assert numbers in " ".join(section.split())
