"""Settings for the test that starts `manage.py runserver` on either loop."""

import json
import os

SECRET_KEY = "tests-only"
DEBUG = True
USE_TZ = True
INSTALLED_APPS = ["daphne", "channels", "fastws_compat"]
ROOT_URLCONF = "tests.servers.loops_site"
ASGI_APPLICATION = "tests.servers.loops.app"
FASTWS = json.loads(os.environ.get("FASTWS", "{}"))

urlpatterns: list[object] = []
