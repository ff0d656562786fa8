"""The rules for closing a connection: valid codes, HTTP statuses as codes, and the length of a reason.

All code that closes a socket uses this module, so that the result is the same on every server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from fastws_compat.types import Message, Scope

# RFC 6455, 5.5: a control frame has at most 125 bytes, and the code takes two.
MAX_REASON_BYTES = 123
# An HTTP status that closes an accepted socket becomes a private close code (RFC 6455, 7.4.2).
STATUS_OFFSET = 4000


def is_close_code(code: object) -> TypeGuard[int]:
    """Whether a close frame may contain `code` (RFC 6455, 7.4, and the IANA registry)."""
    return isinstance(code, int) and (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999)


def is_error_status(code: object) -> TypeGuard[int]:
    """Whether `code` is an HTTP status that refuses a request."""
    return isinstance(code, int) and 400 <= code <= 599


def close_code(code: object) -> int:
    """The code for an accepted socket: a close code, or 4000 + an HTTP status; else ValueError."""
    if is_error_status(code):
        return STATUS_OFFSET + int(code)
    if is_close_code(code):
        return int(code)
    raise ValueError(
        f"A socket cannot be closed with {code!r}: use 1000 to 1003, 1007 to 1014, 3000 to 4999, or an HTTP "
        "status from 400 to 599."
    )


def close_reason(reason: object) -> str:
    """`reason` as text that fits into a close frame: at most 123 bytes of UTF-8, in whole characters."""
    if type(reason) is str and len(reason) <= MAX_REASON_BYTES and reason.isascii():
        return reason
    return _utf8(reason)[:MAX_REASON_BYTES].decode("utf-8", "ignore")


def as_text(value: object) -> str:
    """Any value as text that can be sent: JSON for a dict or list, "" for None."""
    return _utf8(value).decode()


def _utf8(value: object) -> bytes:
    return _text(value).encode("utf-8", "replace")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return str.__str__(value)  # for an enum, its value
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Mapping | list | tuple):
        return _json(value)
    return _str(value)


def _json(value: object) -> str:
    """Compact JSON, like the detail of an HTTPException before accept; `str(value)` if that fails."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_str)
    except (TypeError, ValueError, RecursionError):
        return _str(value)


def _str(value: object) -> str:
    try:
        return str(value)
    except Exception:
        # The socket is being closed: a broken __str__ must not keep it open.
        return type(value).__name__


def close_message(code: object = 1000, reason: object = "") -> Message:
    """The ASGI message that closes an accepted socket; ValueError for a code that cannot be sent."""
    if type(code) is int and code == 1000 and not reason and type(reason) is str:  # the usual case
        return {"type": "websocket.close", "code": 1000, "reason": ""}
    return {"type": "websocket.close", "code": close_code(code), "reason": close_reason(reason)}


def closing_messages(message: Message, scope: Scope, *, accepted: bool) -> Sequence[Message]:
    """The messages that carry out a `websocket.close` of the application.

    After accept, it is one close frame. Before accept, an HTTP status refuses the handshake with that status,
    and any other code with 403. No frame is sent then, so the code and the reason need no check.
    """
    if accepted:
        return [close_message(message.get("code", 1000), message.get("reason"))]
    code: Any = message.get("code")
    return refusal(code, scope) if is_error_status(code) else [message]


def refusal(status: int, scope: Scope, code: int = 1000) -> Sequence[Message]:
    """The messages that refuse a handshake with a status, or with 403 if the server cannot send another.

    Such a server may log `code`; the client does not see it.
    """
    if not can_deny(scope):
        return [{"type": "websocket.close", "code": code, "reason": ""}]
    return [
        {"type": "websocket.http.response.start", "status": int(status), "headers": []},
        {"type": "websocket.http.response.body", "body": b""},
    ]


def can_deny(scope: Scope) -> bool:
    """Whether the server can refuse a handshake with a response (ASGI "WebSocket Denial Response")."""
    return "websocket.http.response" in (scope.get("extensions") or {})
