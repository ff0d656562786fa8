"""How connections end: who closed them first, and why a handshake was refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from fastws_compat.connections.closing import can_deny
from fastws_compat.connections.states import ROUTE_PREFIX, SESSION
from fastws_compat.exceptions import HTTPException
from fastws_compat.types import Message, Scope

By = Literal["client", "server", "lost", "operator"]
# A close code, and who closed first.
Closed = tuple[int, By]

Reason = Literal[
    "origin",
    "login",
    "forbidden",
    "not_found",
    "invalid",
    "limit_process",
    "limit_user",
    "limit_address",
    "timeout",
    "database",
    "stopping",
    "error",
    "endpoint",
]

LOST: Closed = (1006, "lost")
# The label of connections without a route.
NO_ROUTE = "(none)"
# The reason with which uvicorn closes a connection that does not answer its pings.
PING_TIMEOUT = "keepalive ping timeout"


class Answered(Protocol):
    """The part of a session that concerns the answer to its handshake."""

    reason: Reason | None

    def note_accepted(self) -> None: ...

    def note_refusal(self, status: int, reason: Reason = ...) -> None: ...


def refusal(
    reason: Reason, status_code: int, detail: Any = None, headers: Mapping[str, str] | None = None
) -> HTTPException:
    """The exception that refuses a handshake, with a reason for metrics and logs."""
    exc = HTTPException(status_code, detail, headers)
    exc._refusal = reason
    return exc


def reason_of(exc: BaseException) -> Reason:
    """The reason for the refusal that an exception causes."""
    found: Reason = getattr(exc, "_refusal", "error")
    return found


def note_reason(scope: Scope, reason: Reason) -> None:
    """Keep the reason for a refusal that may follow; the first one counts."""
    session: Answered | None = scope.get(SESSION)
    if session is not None and session.reason is None:
        session.reason = reason


def note_answer(scope: Scope, message: Message) -> None:
    """Note that `message` has answered the handshake."""
    session: Answered | None = scope.get(SESSION)
    if session is None:
        return
    if message["type"] == "websocket.accept":
        session.note_accepted()
    else:
        session.note_refusal(message.get("status", 403))


def sent_status(scope: Scope, status: int) -> int:
    """The status that the client receives when the application sends `status`."""
    return status if can_deny(scope) else 403


def template_of(scope: Scope) -> str:
    """The full path of the connection's route as declared, including its mounts and its host."""
    return scope.get(ROUTE_PREFIX, "") + getattr(scope.get("route"), "path", "") or NO_ROUTE


def reported(message: Message) -> Closed:
    """The close that a server reports; a lost connection has 1006."""
    code = message.get("code")
    return 1005 if code is None else code, "lost" if code == 1006 else "client"


def closed_on(server: Any) -> Closed | None:
    """The first close according to the server's own object for the connection; None if it has none."""
    own: Closed | None = getattr(server, "closed", None)  # daphne, completed
    if isinstance(own, tuple):
        return own
    protocol = getattr(server, "conn", server)
    if hasattr(protocol, "close_rcvd_then_sent"):  # uvicorn, with websockets
        return _closed_by_websockets(protocol)
    state = getattr(getattr(protocol, "state", None), "name", None)
    return LOST if state == "OPEN" and not getattr(server, "close_sent", True) else None  # with wsproto


def _closed_by_websockets(protocol: Any) -> Closed | None:
    received, sent = protocol.close_rcvd, protocol.close_sent
    if received is not None and (sent is None or protocol.close_rcvd_then_sent):
        return received.code, "client"
    if sent is None or sent.reason == PING_TIMEOUT:
        return LOST
    return sent.code, "server"
