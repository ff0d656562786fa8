"""Every way to close a socket, with any code and reason: "/{road}/{phase}/{code}/{reason}".

`CODES` and `REASONS` map the names in the path to values; "/mistakes/{name}" makes one of `MISTAKES`.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from django.utils.functional import lazystr

from fastws_compat import FastAPI, HTTPException, WebSocket, WebSocketException
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.groups import Group
from fastws_compat.responses import Response
from fastws_compat.types import Receive, Scope, Send
from fastws_compat.websockets import WebSocketClose


class Code(enum.IntEnum):
    BYE = 4321


CODES: dict[str, Any] = {
    **{str(code): code for code in (1000, 1001, 1008, 1011, 1012, 1014, 3000, 4000, 4999)},
    **{str(code): code for code in (401, 403, 404, 429, 500, 599)},
    **{str(code): code for code in (-1, 0, 200, 302, 399, 600, 999, 1004, 1005, 1006, 1015, 2999, 5000)},
    "enum": Code.BYE,
    "status": HTTPStatus.FORBIDDEN,
    "true": True,
    "text": "1000",
    "none": None,
    "float": 4000.0,
}

REASONS: dict[str, Any] = {
    "empty": "",
    "none": None,
    "text": "why",
    "exception": ValueError("no such room"),
    "detail": {"detail": [1, "é"]},
    "list": ["a", {"b": None}],
    "number": 7,
    "bytes": b"caf\xc3\xa9",
    "lazy": lazystr("Monday"),
    "long": "x" * 200,
    "emoji": "🙂" * 40,
    "odd": "a" + "🙂" * 40,
    "surrogate": "a\ud800b",
}

app = FastAPI()


async def phase_of(websocket: WebSocket, phase: str) -> None:
    if phase == "after":
        await websocket.accept()


async def closes(websocket: WebSocket, code: Any, reason: Any) -> None:
    await websocket.close(code, reason)


async def sends(websocket: WebSocket, code: Any, reason: Any) -> None:
    await websocket.send({"type": "websocket.close", "code": code, "reason": reason})


async def raises(websocket: WebSocket, code: Any, reason: Any) -> None:
    raise WebSocketException(code, reason)


async def raises_http(websocket: WebSocket, code: Any, reason: Any) -> None:
    raise HTTPException(code, reason)


async def disconnects(websocket: WebSocket, code: Any, reason: Any) -> None:
    group = Group(f"closing.{id(websocket)}")
    await websocket.join(group)
    await group.adisconnect(code, reason)
    await websocket.receive()


ROADS: dict[str, Callable[[WebSocket, Any, Any], Awaitable[None]]] = {
    "close": closes,
    "send": sends,
    "exception": raises,
    "http_exception": raises_http,
    "group": disconnects,
}


async def endpoint(websocket: WebSocket, road: str, phase: str, code: str, reason: str) -> None:
    await phase_of(websocket, phase)
    await ROADS[road](websocket, CODES[code], REASONS[reason])


@app.websocket_route("/class/{phase}/{code}/{reason}")
class Endpoint(WebSocketEndpoint):
    async def on_connect(self, websocket: WebSocket) -> None:
        await phase_of(websocket, websocket.path_params["phase"])
        await websocket.close(CODES[websocket.path_params["code"]], REASONS[websocket.path_params["reason"]])


async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
    """A plain ASGI application."""
    params = scope["path_params"]
    await receive()
    if params["phase"] == "after":
        await send({"type": "websocket.accept"})
    code, reason = CODES[params["code"]], REASONS[params["reason"]]
    await send({"type": "websocket.close", "code": code, "reason": reason})


async def closing_app(scope: Scope, receive: Receive, send: Send) -> None:
    params = scope["path_params"]
    await WebSocketClose(CODES[params["code"]], REASONS[params["reason"]])(scope, receive, send)


app.mount("/mounted/{phase}/{code}/{reason}", foreign)
app.mount("/app/{phase}/{code}/{reason}", closing_app)


# The path that matches everything comes last.
app.websocket("/{road}/{phase}/{code}/{reason}")(endpoint)


# Mistakes


async def accept_with_a_number(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=5)  # type: ignore[arg-type]


async def accept_with_text_headers(websocket: WebSocket) -> None:
    await websocket.accept(headers=[("a", "b")])  # type: ignore[list-item]


async def accept_with_a_broken_header(websocket: WebSocket) -> None:
    await websocket.accept(headers=[(b"a", b"b\r\nc: d")])


async def accept_with_numbers_for_headers(websocket: WebSocket) -> None:
    await websocket.accept(headers=[5])  # type: ignore[list-item]


async def deny_with_no_status(websocket: WebSocket) -> None:
    await websocket.send_denial_response(Response(status_code=1000))


async def deny_with_information(websocket: WebSocket) -> None:
    await websocket.send({"type": "websocket.http.response.start", "status": 100, "headers": []})


async def deny_with_a_text(websocket: WebSocket) -> None:
    await websocket.send({"type": "websocket.http.response.start", "status": "404", "headers": []})


async def deny_with_a_broken_header(websocket: WebSocket) -> None:
    headers = [(b"a", b"b\r\nc: d")]
    await websocket.send({"type": "websocket.http.response.start", "status": 403, "headers": headers})


async def raise_no_status(websocket: WebSocket) -> None:
    raise HTTPException(1000)


async def raise_no_number(websocket: WebSocket) -> None:
    raise HTTPException("404")  # type: ignore[arg-type]


async def raise_a_broken_header(websocket: WebSocket) -> None:
    raise HTTPException(403, headers={"a": "b\r\nc: d"})


async def send_a_number(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(5)  # type: ignore[arg-type]


async def accept_twice(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.accept()


async def refuse_after_accept(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_denial_response(Response("late", 403))


async def raise_no_status_after_accept(websocket: WebSocket) -> None:
    await websocket.accept()
    raise HTTPException(1000)


BEFORE = (
    accept_with_a_number,
    accept_with_text_headers,
    accept_with_a_broken_header,
    accept_with_numbers_for_headers,
    deny_with_no_status,
    deny_with_information,
    deny_with_a_text,
    deny_with_a_broken_header,
    raise_no_status,
    raise_no_number,
    raise_a_broken_header,
)
AFTER = (
    send_a_number,
    accept_twice,
    refuse_after_accept,
    raise_no_status_after_accept,
)
MISTAKES = {mistake.__name__: mistake for mistake in (*BEFORE, *AFTER)}


@app.websocket("/mistakes/{name}")
async def mistakes(websocket: WebSocket, name: str) -> None:
    await MISTAKES[name](websocket)
