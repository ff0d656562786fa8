"""The logger that everything here writes to."""

from __future__ import annotations

import logging

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


logger = logging.getLogger("fastws_compat")
logger.addFilter(Complete())
logging.getLogger("uvicorn.error").addFilter(WithoutQuery())
