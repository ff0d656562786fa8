"""The logger that everything here writes to."""

from __future__ import annotations

import logging
from typing import Any, cast

NAME = "fastws_compat"

# What a record about a connection says of it, in `extra`.
FIELDS = ("route", "endpoint", "user_id", "connection_id")


class Complete(logging.Filter):
    """Gives the fields to records about no connection too, so that a format may name them."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name in FIELDS:
            record.__dict__.setdefault(name, None)
        return True


class WithoutQuery(logging.Filter):
    """Cuts the query string, where tokens travel, off the line that uvicorn writes for each WebSocket."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args
        if isinstance(args, tuple) and len(args) > 1 and '"WebSocket %s"' in str(record.msg):
            record.args = (args[0], str(args[1]).partition("?")[0], *args[2:])
        return True


class Late:
    """A logger that is made when it is first used.

    `LOGGING` without `disable_existing_loggers: False` switches every logger off that exists before
    `django.setup()` and that it does not name; a project's `asgi.py` imports this library earlier.
    """

    def __init__(self, name: str, added: logging.Filter) -> None:
        self._name = name
        self._added = added

    def __getattr__(self, attribute: str) -> Any:
        logger = logging.getLogger(self._name)
        logger.addFilter(self._added)  # once: the same filter is not added again
        return getattr(logger, attribute)


logger = cast("logging.Logger", Late(NAME, Complete()))
logging.getLogger("uvicorn.error").addFilter(WithoutQuery())
