"""Handshakes that reach Django's views, because the server or a proxy does not support WebSockets."""

from __future__ import annotations

import logging
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.utils.log import request_logger

from fastws_compat.logger import logger

TEXT = "A view answered the WebSocket handshake for %r with 404: %s."
# What to change, by what is wrong.
NO_UPGRADE = "the proxy must pass the headers Upgrade and Connection on, as docs/nginx.conf does"
WSGI = "WSGI has no WebSockets; serve asgi.py with daphne or uvicorn (in tests: ChannelsLiveServerTestCase)"
NO_LIBRARY = 'this server has no WebSockets; run daphne, or `pip install "uvicorn[standard]"`'


class Misdirected(logging.Filter):
    """Explains the first 404 of `django.request` that answers a handshake; it lets every record pass."""

    is_done = False

    def filter(self, record: logging.LogRecord) -> bool:
        request: Any = getattr(record, "request", None)
        if not self.is_done and getattr(record, "status_code", None) == 404 and _is_handshake(request):
            self.is_done = True
            logger.warning(TEXT, request.path, _advice(request))
        return True


def install() -> None:
    """Explain such handshakes in Django's log; more calls change nothing."""
    if not any(isinstance(each, Misdirected) for each in request_logger.filters):
        request_logger.addFilter(Misdirected())


def _is_handshake(request: object) -> bool:
    return isinstance(request, HttpRequest) and "HTTP_SEC_WEBSOCKET_KEY" in request.META


def _advice(request: HttpRequest) -> str:
    if request.META.get("HTTP_UPGRADE", "").lower() != "websocket":
        return NO_UPGRADE
    return WSGI if isinstance(request, WSGIRequest) else NO_LIBRARY
