"""Actions of an operator on connections of this process."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any

from fastws_compat import health
from fastws_compat.connections.closing import close_message, close_reason
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.outcomes import Reason
from fastws_compat.connections.pipe import hang_up, mark_disconnected
from fastws_compat.connections.states import CONNECTING, disconnect_message
from fastws_compat.groups.delivery import Frame
from fastws_compat.groups.member import member_of
from fastws_compat.layers.wire import KINDS, Payload
from fastws_compat.logger import logger
from fastws_compat.operations.census import Found, is_superuser, route_of, state_of
from fastws_compat.types import Send

# The status of a handshake that is refused, and why.
Refusal = tuple[int, Reason]

# The maximum number of ids of spared connections in a reply.
MAX_SPARED = 20


def close(found: Sequence[Found], code: int, reason: str, over: float, spare: bool) -> tuple[int, list[str]]:
    """Close connections within `over` seconds. Returns how many, and which superusers' were spared."""
    open_ones = _open(found)
    spared = [each.session.id for each in open_ones if spare and is_superuser(each.session)]
    chosen = [each for each in open_ones if not (spare and is_superuser(each.session))]
    _spread(chosen, lambda session: end(session, code, reason), over)
    return len(chosen), spared[:MAX_SPARED]


def drain(found: Sequence[Found], over: float) -> int:
    """Close connections with 1012 within `over` seconds, unless the drain is undone. Returns how many."""
    chosen = _open(found)
    _spread(chosen, _end_drained, over)
    return len(chosen)


def _end_drained(session: Session) -> None:
    if health.is_closed:
        end(session, 1012, "", (503, "stopping"))


def _open(found: Sequence[Found]) -> list[Found]:
    return [each for each in found if state_of(each.session) != "closing"]


def _spread(chosen: list[Found], act: Callable[[Session], None], over: float) -> None:
    random.shuffle(chosen)
    for number, each in enumerate(chosen):
        soon(each, partial(act, each.session), over * number / len(chosen))


def soon(found: Found, act: Callable[[], None], seconds: float = 0) -> None:
    """Call an action in the connection's loop and in an empty context; callable from any thread."""
    loop = found.loop
    if seconds:
        loop.call_soon_threadsafe(lambda: loop.call_later(seconds, act, context=Context()))
    else:
        loop.call_soon_threadsafe(act, context=Context())


def end(session: Session, code: int, reason: str, refusal: Refusal = (403, "forbidden")) -> None:
    """Close a connection. Its endpoint sees WebSocketDisconnect; before accept, the client gets a refusal."""
    if state_of(session) == "closing":
        return
    websocket = session.websocket
    session.note_close(code, "operator")
    extra = {**session.extra, "code": code}
    logger.info("WebSocket %s: closed with %d by an operator", route_of(session), code, extra=extra)
    if session.state is CONNECTING:
        if websocket is not None:
            mark_disconnected(websocket, disconnect_message(code, reason), "operator")
        _refuse(session, *refusal)
    elif websocket is not None:
        session.spawn(hang_up(websocket, code, close_reason(reason), "operator"))
    else:
        _close_foreign(session, code, reason)


def _refuse(session: Session, status: int, why: Reason) -> None:
    session.note_refusal(status, why)
    session.mark_closed()
    session.end_turn()
    session.spawn(session.deny(status, why))
    if session.websocket is None:
        session.cancel_foreign()


def _close_foreign(session: Session, code: int, reason: str) -> None:
    """Close the connection of an application that does not use this library's WebSocket."""
    close_from_server = getattr(session.server, "close_from_server", None)
    if close_from_server is not None:
        close_from_server(code, reason)
    else:
        session.mark_closed()
        session.spawn(_send_close(session.server_send, code, reason))
        session.cancel_foreign()


async def _send_close(send: Send, code: int, reason: str) -> None:
    with suppress(OSError, RuntimeError):  # the client has left, or the application has closed meanwhile
        await send(close_message(code, reason))


def deliver(found: Sequence[Found], kind: str, data: Any) -> int:
    """Send a message to connections, in order with the messages of their groups. Returns how many."""
    expected = KINDS.get(kind)  # type: ignore[call-overload]
    if expected is None or not isinstance(data, expected):
        raise ValueError(f"a message of kind {kind!r}")
    frame = Frame(Payload(kind, data).frame)  # type: ignore[arg-type]
    takers = [each for each in found if each.session.websocket and state_of(each.session) != "closing"]
    for each in takers:
        soon(each, partial(_deliver, each.session, frame))
    return len(takers)


def _deliver(session: Session, frame: Frame) -> None:
    if session.websocket is not None and state_of(session) != "closing":
        member_of(session.websocket).put(frame)
