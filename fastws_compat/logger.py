"""The library's logger."""

from __future__ import annotations

import logging
from typing import Any, cast

NAME = "fastws_compat"

# The `extra` fields of a record about a connection.
FIELDS = ("route", "endpoint", "user_id", "connection_id")


def in_words(exc: BaseException) -> str:
    """The class and the text of an exception, as part of a sentence."""
    text = text_of(exc)
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def text_of(exc: BaseException) -> str:
    """The text of an exception as part of a sentence: on one line, and without a full stop of its own."""
    return " ".join(str(exc).split()).rstrip(". ")


class DefaultFields(logging.Filter):
    """Sets the fields to None in records without a connection, so that a format can always use them."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name in FIELDS:
            record.__dict__.setdefault(name, None)
        return True


class QueryRemover(logging.Filter):
    """Removes the query string, which may contain a token, from the line that uvicorn logs per WebSocket."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args
        if isinstance(args, tuple) and len(args) > 1 and '"WebSocket %s"' in str(record.msg):
            record.args = (args[0], str(args[1]).partition("?")[0], *args[2:])
        return True


class LazyLogger:
    """A logger that is created when it is first used.

    Unless `LOGGING` sets `disable_existing_loggers` to False, `django.setup()` disables every existing logger
    that it does not name, and a project's `asgi.py` imports this library earlier.
    """

    def __init__(self, name: str, record_filter: logging.Filter) -> None:
        self._name = name
        self._filter = record_filter

    def __getattr__(self, attribute: str) -> Any:
        logger = logging.getLogger(self._name)
        logger.addFilter(self._filter)  # has no effect if the filter is there already
        return getattr(logger, attribute)


logger = cast("logging.Logger", LazyLogger(NAME, DefaultFields()))
# One line for each connection that has ended.
access = cast("logging.Logger", LazyLogger(f"{NAME}.access", DefaultFields()))
# What operators do to open sockets.
audit = cast("logging.Logger", LazyLogger(f"{NAME}.audit", DefaultFields()))
logging.getLogger("uvicorn.error").addFilter(QueryRemover())
