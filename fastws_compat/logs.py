"""Log records of connections: a filter that adds their fields, and a line for each one that has ended.

LOGGING = {"filters": {"socket": {"()": "fastws_compat.logs.Connection"}}}
FASTWS = {"ACCESS_LOG": True}
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import census, hooks
from fastws_compat.connections.addresses import masked
from fastws_compat.connections.outcomes import NO_ROUTE, template_of
from fastws_compat.logger import FIELDS, access
from fastws_compat.modules import loaded
from fastws_compat.types import Scope

UNKNOWN = "\N{EN DASH}"

_current: ContextVar[Any] = ContextVar("fastws_compat.connection", default=None)


def current() -> Any:
    """The session of the connection of this task or thread; None if there is none or it has ended."""
    session = _current.get()
    return None if session is None or session.has_ended else session


def follow() -> None:
    """Make `current` return the connection in each task and thread."""
    if _enter not in hooks.begun:
        hooks.begun.insert(0, _enter)


class Connection(logging.Filter):
    """Adds the connection to the records of its tasks and threads; the fields of others are None."""

    def __init__(self, name: str = "") -> None:
        super().__init__(name)
        follow()

    def filter(self, record: logging.LogRecord) -> bool:
        session = current()
        fields = dict.fromkeys(FIELDS) if session is None else session.extra
        trace_id, span_id = span_ids()
        for name, value in {**fields, "trace_id": trace_id, "span_id": span_id}.items():
            if record.__dict__.get(name) is None:
                record.__dict__[name] = value
        return True


def _enter(session: Any) -> None:
    _current.set(session)


def span_ids() -> tuple[str | None, str | None]:
    """The ids of the current trace and span, as OpenTelemetry writes them."""
    trace = loaded("opentelemetry.trace")
    context = None if trace is None else trace.get_current_span().get_span_context()
    if context is None or not context.is_valid:
        return None, None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def install(**kwargs: Any) -> None:
    """Begin to log the ends of connections if the setting `ACCESS_LOG` is on."""
    if conf.get("ACCESS_LOG") and _log_end not in hooks.ended:
        census.start()
        hooks.ended.append(_log_end)
        hooks.refused.append(_log_refusal)


def _log_end(session: Any) -> None:
    if not conf.get("ACCESS_LOG"):
        return
    fields = {**session.extra, "route": session.template, **_measures(session)}
    if session.refusal is not None:
        status, reason = session.refusal
        _refused(session.template, status, reason, fields)
        return
    code, by = session.closed
    fields |= {"code": code, "by": by, "reason": None, "status": 101 if session.is_accepted else None}
    counts = [UNKNOWN if number is None else number for number in session.counts[:2]]
    access.info(
        "%s closed %d by %s after %.1f s, %s in, %s out",
        session.template,
        code,
        by,
        fields["seconds"],
        *counts,
        extra=fields,
    )


def _measures(session: Any) -> dict[str, Any]:
    received, sent, bytes_in, bytes_out = session.counts
    return {
        "seconds": session.age,
        "messages_in": received,
        "messages_out": sent,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "address": address_of(session.scope),
    }


def address_of(scope: Scope) -> str | None:
    """The masked address of a client; None if the server does not know it."""
    client = scope.get("client")
    return masked(str(client[0])) if client else None


def _log_refusal(scope: Scope | None, status: int, reason: str) -> None:
    """Log a handshake that was refused before its session began."""
    if not conf.get("ACCESS_LOG"):
        return
    route = NO_ROUTE if scope is None else template_of(scope)
    _refused(route, status, reason, {"route": route, "address": address_of(scope or {})})


def _refused(route: str, status: int, reason: str, fields: dict[str, Any]) -> None:
    fields |= {"status": status, "reason": reason}
    access.info("%s refused %d %s", route, status, reason, extra=fields)
