"""Validation of the messages that answer a handshake, before they are passed to the server.

A server may notice a fault only after it has sent half of the answer, or may not notice it at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fastws_compat.types import Message

TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")  # RFC 9110, 5.6.2
FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # RFC 9110, 5.5


def checked_answer(message: Message) -> Message:
    """`message`, if it is a valid answer to a handshake; else TypeError, ValueError or RuntimeError."""
    kind = message["type"]
    if kind == "websocket.accept":
        if (subprotocol := message.get("subprotocol")) is not None:
            check_subprotocol(subprotocol)
    elif kind == "websocket.http.response.start":
        check_status(message["status"])
    else:
        return message
    headers = message.get("headers")
    return {**message, "headers": checked_headers(headers)} if headers else message


def check_subprotocol(subprotocol: object) -> None:
    if not isinstance(subprotocol, str):
        raise TypeError(f"A subprotocol must be a str, not {type(subprotocol).__name__}.")
    if FORBIDDEN.search(subprotocol.encode("latin-1")):
        raise ValueError(f"Invalid subprotocol {subprotocol!r}.")


def check_status(status: object) -> None:
    if not isinstance(status, int) or not 200 <= status < 600:
        raise RuntimeError(f"Invalid HTTP status code {status!r} in response.")


def checked_headers(headers: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """The headers as pairs of bytes; an error for an invalid header or one that could inject another."""
    return [_checked_header(header) for header in headers]


def _checked_header(header: Any) -> tuple[bytes, bytes]:
    if not isinstance(header, tuple | list) or len(header) != 2 or not all(map(_is_bytes, header)):
        # The value may be a secret, and the error is logged.
        parts = header if isinstance(header, tuple | list) else [header]
        given = " and ".join(type(part).__name__ for part in parts) or "nothing"
        raise TypeError(f"A header must be a pair of bytes, such as (b'x-room', b'1'), but got {given}.")
    name, value = map(bytes, header)
    if not TOKEN.fullmatch(name):
        raise ValueError(f"Invalid header name {name!r}.")
    if FORBIDDEN.search(value):
        raise ValueError(f"Invalid value {value!r} of header {name!r}.")
    return name, value


def _is_bytes(part: object) -> bool:
    return isinstance(part, bytes | bytearray | memoryview)
