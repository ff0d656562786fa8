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


logger = logging.getLogger("fastws_compat")
logger.addFilter(Complete())
