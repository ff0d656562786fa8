"""What the server calls before it starts; the server itself knows nothing of routes."""

from __future__ import annotations

from collections.abc import Callable

from fastws_compat.types import ASGIApp

# Each is called with the application that the server is about to serve.
callbacks: list[Callable[[ASGIApp], None]] = []
