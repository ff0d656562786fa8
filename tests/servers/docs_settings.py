"""Settings for `docs_site`; a test sets them by the environment."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

SECRET_KEY = "tests-only"
DEBUG = os.environ.get("DEBUG", "1") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "api.localhost"]
USE_TZ = True
INSTALLED_APPS = [
    "daphne",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "channels",
    "fastws_compat",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "wsproject.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tests.servers.docs_site"
ASGI_APPLICATION = "tests.servers.docs_site.application"
FOLDER = Path(os.environ.get("DOCS_SITE_FOLDER", tempfile.gettempdir()))
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / "docs.sqlite3",
        "OPTIONS": {"timeout": 20},
        # In tests this process makes the tables of the servers.
        "TEST": {"NAME": FOLDER / "docs.sqlite3"},
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
STATIC_URL = os.environ.get("DOCS_STATIC_URL", "static/")
FORCE_SCRIPT_NAME = os.environ.get("SCRIPT_NAME_FORCED") or None
FASTWS = json.loads(os.environ.get("DOCS_FASTWS", "{}"))
LOGIN_URL = "/login/"
