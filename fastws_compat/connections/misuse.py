"""The errors for an endpoint that misuses its socket; the texts are Starlette's."""

from __future__ import annotations

from typing import NoReturn

MODES = ("text", "binary")
NOT_ACCEPTED = 'WebSocket is not connected. Need to call "accept" first.'
# The number of errors that a socket raises before it pauses, so that other tasks run during a loop of errors.
MAX_INSTANT_ERRORS = 16
ERROR_PAUSE, MAX_ERROR_PAUSE = 0.001, 0.1


def pause_after(errors: int) -> float:
    """The seconds to pause before the next error, after this number of errors."""
    return min(ERROR_PAUSE * (errors - MAX_INSTANT_ERRORS), MAX_ERROR_PAUSE)


def wrong_mode() -> RuntimeError:
    return RuntimeError('The "mode" argument should be "text" or "binary".')


def unexpected(expected: str, kind: str) -> NoReturn:
    raise RuntimeError(f"Expected ASGI message {expected}, but got {kind!r}")
