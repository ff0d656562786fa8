"""Functions that the completed server calls before it accepts connections."""

from __future__ import annotations

from collections.abc import Callable

from fastws_compat.types import ASGIApp

# In the order in which they were added; a dict, so that adding one twice has no effect.
_callbacks: dict[Callable[[ASGIApp], object], None] = {}


def before_serving(callback: Callable[[ASGIApp], object]) -> None:
    """Have the server call `callback` with its application before it accepts connections."""
    _callbacks[callback] = None


def run_callbacks(application: ASGIApp) -> None:
    for callback in _callbacks:
        callback(application)
