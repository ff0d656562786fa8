"""Sends all queries to the database of the current tenant."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

tenant: ContextVar[str] = ContextVar("tenant", default="default")


class Router:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return tenant.get()

    db_for_write = db_for_read
