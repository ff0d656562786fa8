"""SQLite with the part of django-tenants' connection that holds the tenant."""

from __future__ import annotations

from typing import Any

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.set_schema_to_public()

    def set_tenant(self, tenant: Any, include_public: bool = True) -> None:
        self.tenant = tenant

    def set_schema_to_public(self) -> None:
        self.tenant = "public"
