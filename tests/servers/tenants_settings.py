"""The demo's settings with one database for each of two tenants, selected by a context variable."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.django_settings import *  # noqa: F403

FOLDER = Path(os.environ["TENANTS_FOLDER"])
DATABASES = {
    alias: {**DATABASES["default"], "NAME": FOLDER / f"{alias}.sqlite3"}  # noqa: F405
    for alias in ("default", "blue")
}
DATABASE_ROUTERS = ["tests.servers.tenants_router.Router"]
ROOT_URLCONF = "tests.servers.tenants_site"
MIDDLEWARE: list[str] = []
ALLOWED_HOSTS = ["default.localhost", "blue.localhost"]
