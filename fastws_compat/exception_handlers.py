"""FastAPI's default exception handlers, and how a handler is found and run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from fastws_compat.concurrency import is_async, run_in_threadpool
from fastws_compat.connections.closing import STATUS_OFFSET, as_text, can_deny
from fastws_compat.connections.outcomes import note_reason, reason_of
from fastws_compat.connections.states import HANDLERS, RAISE_EXCEPTIONS
from fastws_compat.exceptions import (
    PHRASES,
    HTTPException,
    RequestValidationError,
    WebSocketException,
    WebSocketRequestValidationError,
)
from fastws_compat.porting import foreign
from fastws_compat.requests import HTTPConnection
from fastws_compat.responses import JSONResponse, PlainTextResponse, Response
from fastws_compat.types import ExceptionHandler
from fastws_compat.websockets import WebSocket, WebSocketState

BODILESS = {204, 205, 304}


async def http_exception_handler(request: HTTPConnection, exc: HTTPException) -> Response:
    """`{"detail": ...}` with the status and headers of the exception (FastAPI)."""
    if exc.status_code < 200 or exc.status_code in BODILESS:
        return Response(status_code=exc.status_code, headers=exc.headers)
    try:
        return JSONResponse({"detail": exc.detail}, status_code=exc.status_code, headers=exc.headers)
    except (TypeError, ValueError):  # lazy text of Django's, or an exception
        content = {"detail": as_text(exc.detail)}
        return JSONResponse(content, status_code=exc.status_code, headers=exc.headers)


async def request_validation_exception_handler(
    request: HTTPConnection, exc: RequestValidationError
) -> JSONResponse:
    """422 with the errors, for handlers that serve both HTTP and sockets (FastAPI)."""
    return JSONResponse({"detail": _encodable(exc.errors())}, status_code=422)


async def websocket_request_validation_exception_handler(
    websocket: WebSocket, exc: WebSocketRequestValidationError
) -> None:
    """Close with 1008, which means HTTP 403 before accept.

    FastAPI passes the list of errors as the reason. No server sends it, and it repeats what the client
    sent, so only the test client gets it here.
    """
    shown = websocket.scope.get(RAISE_EXCEPTIONS) and websocket.application_state is WebSocketState.CONNECTING
    reason: Any = _encodable(exc.errors()) if shown else None
    await websocket.close(1008, reason)


async def websocket_exception_handler(websocket: WebSocket, exc: WebSocketException) -> None:
    """Close with the code and reason of the exception (Starlette)."""
    await websocket.close(exc.code, exc.reason)


DEFAULT_HANDLERS: Mapping[Any, ExceptionHandler] = {
    HTTPException: http_exception_handler,
    RequestValidationError: request_validation_exception_handler,
    WebSocketRequestValidationError: websocket_request_validation_exception_handler,
    WebSocketException: websocket_exception_handler,
}


async def plain_http_exception_handler(request: HTTPConnection, exc: HTTPException) -> Response:
    """The detail as text, with the status and headers of the exception (Starlette)."""
    if exc.status_code in BODILESS:
        return Response(status_code=exc.status_code, headers=exc.headers)
    return PlainTextResponse(str(exc.detail), status_code=exc.status_code, headers=exc.headers)


STARLETTE_HANDLERS: Mapping[Any, ExceptionHandler] = {
    HTTPException: plain_http_exception_handler,
    WebSocketException: websocket_exception_handler,
}


async def handle(
    websocket: WebSocket, exc: Exception, handlers: Mapping[Any, ExceptionHandler] | None = None
) -> bool:
    """Run the handler for `exc`, by default one of the innermost application; False if there is none."""
    if getattr(exc, "is_unanswered", False):
        return False  # a MessageValidationError, which is raised where no handler is to answer it
    handlers = websocket.scope.get(HANDLERS, DEFAULT_HANDLERS) if handlers is None else handlers
    for meaning in (exc, from_django(exc)):
        found = None if meaning is None else find(handlers, meaning)
        if found is not None:
            handler, meaning = found
            note_reason(websocket.scope, reason_of(meaning))
            await run(handler, websocket, meaning)
            exc.with_traceback(None)  # as in run(), which may have been called with the translated exception
            return True
    return False


def from_django(exc: Exception) -> HTTPException | None:
    """Translate Django's own exceptions: Http404 is 404, PermissionDenied 403, SuspiciousOperation 400.

    Their texts are for the log, not for the client; Django's own pages do not show them either.
    """
    if "django.core.exceptions" not in sys.modules:
        return None
    from django.core.exceptions import PermissionDenied, SuspiciousOperation
    from django.http import Http404

    statuses = {Http404: 404, PermissionDenied: 403, SuspiciousOperation: 400}
    return next((HTTPException(status) for cls, status in statuses.items() if isinstance(exc, cls)), None)


def find(
    handlers: Mapping[Any, ExceptionHandler], exc: Exception
) -> tuple[ExceptionHandler, Exception] | None:
    """The handler for the status of an HTTPException, else for the nearest class, and its argument.

    An exception of FastAPI or Starlette, raised by a library that was not ported, counts as its counterpart.
    """
    twin = foreign.twin(exc) or exc
    if isinstance(twin, HTTPException) and twin.status_code in handlers:
        return handlers[twin.status_code], twin
    for cls in type(exc).__mro__:
        if cls in handlers:
            return handlers[cls], exc
        if (own := foreign.twin_class(cls)) in handlers:
            return handlers[own], twin
    return None


async def run(handler: ExceptionHandler, websocket: WebSocket, exc: Exception) -> None:
    if is_async(handler):
        response = await handler(websocket, exc)
    else:
        response = await run_in_threadpool(handler, websocket, exc)
    if response is not None:
        await answer(websocket, response, exc)
    # An exception object that is raised again would collect the frames of every connection.
    exc.with_traceback(None)


def _encodable(errors: Any) -> Any:
    # Imported here because the encoder's types take longer to import than the rest of the library.
    from fastws_compat.encoders import jsonable_encoder

    return jsonable_encoder(errors)


async def answer(websocket: WebSocket, response: Any, exc: Exception) -> None:
    """Send the response that a handler returned, in the form that the connection's state allows.

    Before accept, it refuses the handshake (with 403 if the server cannot send another status). After
    accept, where FastAPI's behavior is undefined, it closes with 4000 + status. After the endpoint's own
    close, nobody is left to receive it.
    """
    state = websocket.application_state
    if state is WebSocketState.DISCONNECTED:
        return
    if state is WebSocketState.CONNECTED:
        status = getattr(response, "status_code", 500)
        detail = exc.detail if isinstance(exc, HTTPException) else None
        await websocket.close(STATUS_OFFSET + status, PHRASES.get(status) if detail is None else detail)
    elif state is WebSocketState.CONNECTING and not can_deny(websocket.scope):
        await websocket.close()
    else:
        await response(websocket.scope, websocket.receive, websocket.send)
