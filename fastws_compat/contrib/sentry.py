"""Errors of sockets in Sentry: one event for each, with its route and connection and without secrets.

sentry_sdk.init(integrations=[FastWSIntegration()])
"""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.integrations import Integration
from sentry_sdk.scope import _isolation_scope, add_global_event_processor
from sentry_sdk.serializer import add_global_repr_processor

from fastws_compat import logs
from fastws_compat.connections import hooks
from fastws_compat.logger import NAME

# uvicorn's own line for a refused handshake; it is not an error of the project.
UVICORN, UNANSWERED = "uvicorn.error", "ASGI callable returned without"


class FastWSIntegration(Integration):
    """Names the route and the connection in events of sockets, and gives each connection its own scope.

    With `isolate=False` all connections share the scope of the process, which saves 4 KB for each.
    """

    identifier = "fastws"

    def __init__(self, isolate: bool = True) -> None:
        self.isolate = isolate

    @staticmethod
    def setup_once() -> None:
        logs.follow()
        hooks.begun.append(_isolate)
        add_global_event_processor(_process)
        add_global_repr_processor(_name_scope)


def _integration() -> FastWSIntegration | None:
    return sentry_sdk.get_client().get_integration(FastWSIntegration)


def _isolate(session: Any) -> None:
    """Give the connection's task, and what it starts, a scope of its own."""
    integration = _integration()
    if integration is not None and integration.isolate:
        _isolation_scope.set(sentry_sdk.get_isolation_scope().fork())


def _process(event: Any, hint: dict[str, Any]) -> Any:
    record, session = hint.get("log_record"), logs.current()
    if _integration() is None:
        return event
    if record is not None and record.name == UVICORN and str(record.msg).startswith(UNANSWERED):
        return None
    if session is not None:
        _describe(event, session)
        if record is not None and record.name == NAME:
            _mark_unhandled(event)
    return event


def _describe(event: Any, session: Any) -> None:
    """Add the connection to an event."""
    received, sent, bytes_in, bytes_out = session.counts
    event["transaction"] = session.template
    event["transaction_info"] = {"source": "route"}
    tags = {"connection_id": session.id, "route": session.template}
    code = session.close_code if session.noted is None else session.noted[0]
    if code is not None:
        tags["close_code"] = str(code)
    event["tags"] = {**dict(event.get("tags") or {}), **tags}
    event.setdefault("contexts", {})["websocket"] = {
        "age": round(session.age, 3),
        "messages_in": received,
        "messages_out": sent,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
    }
    user = session.extra["user_id"]
    if user is not None and sentry_sdk.get_client().options.get("send_default_pii"):
        event.setdefault("user", {})["id"] = str(user)


def _mark_unhandled(event: Any) -> None:
    """Mark the exception as unhandled: the library has logged it, not the endpoint."""
    for value in (event.get("exception") or {}).get("values") or ():
        value["mechanism"] = {"type": "fastws", "handled": False}


def _name_scope(value: Any, hint: dict[str, Any]) -> Any:
    """Show an ASGI scope in a frame of the project's middleware by its type: it holds cookies and tokens."""
    if isinstance(value, dict) and isinstance(value.get("type"), str) and "headers" in value:
        return f"<{value['type']} scope>"
    return NotImplemented
