"""Settings for `script_name`, with the script name from $SCRIPT_NAME_FORCED."""

from __future__ import annotations

import os

SECRET_KEY = "tests-only"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
INSTALLED_APPS = ["daphne", "fastws_compat"]
ROOT_URLCONF = "tests.servers.script_name"
ASGI_APPLICATION = "tests.servers.script_name.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
FORCE_SCRIPT_NAME = os.environ.get("SCRIPT_NAME_FORCED") or None
