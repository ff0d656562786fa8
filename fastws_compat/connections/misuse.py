"""The errors for an endpoint that misuses its socket; the texts are Starlette's."""

from __future__ import annotations

from typing import NoReturn

MODES = ("text", "binary")
NOT_ACCEPTED = 'WebSocket is not connected. Need to call "accept" first.'


def wrong_mode() -> RuntimeError:
    return RuntimeError('The "mode" argument should be "text" or "binary".')


def unexpected(expected: str, kind: str) -> NoReturn:
    raise RuntimeError(f"Expected ASGI message {expected}, but got {kind!r}")
