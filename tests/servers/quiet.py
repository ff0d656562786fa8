"""A site with a simple LOGGING: a handler for the root, and no `disable_existing_loggers`.

`$LOGGERS` are loggers that it names; `$SILENCED` is one that its settings turn off.
"""

from __future__ import annotations

import json
import logging
import os

from django.urls import include, path

import fastws_compat.connections.lifecycle
import fastws_compat.logger
import fastws_compat.websockets  # noqa: F401
from fastws_compat.asgi import get_asgi_application

SECRET_KEY = "tests-only"
DEBUG = True
USE_TZ = True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["daphne", "django.contrib.contenttypes", "django.contrib.auth", "fastws_compat"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "tests.servers.quiet"
ASGI_APPLICATION = "tests.servers.quiet_asgi.application"
FASTWS = {"ALLOWED_ORIGINS": ["*"]}
LOGGING = {
    "version": 1,
    "formatters": {"line": {"format": "LOG {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": json.loads(os.environ.get("LOGGERS", "{}")),
    "root": {"handlers": ["console"], "level": "INFO"},
}
urlpatterns = [path("pages/", include([]))]  # without any, Django answers every path with its welcome page
if silenced := os.environ.get("SILENCED"):
    logging.getLogger(silenced).disabled = True
assert get_asgi_application
