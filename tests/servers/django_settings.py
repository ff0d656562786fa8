"""The demo's settings, with the changes of a test from $SETTINGS."""

from __future__ import annotations

import json
import os

from wsproject.settings import *  # noqa: F403

globals().update(json.loads(os.environ.get("SETTINGS", "{}")))
LOGGING["formatters"]["line"]["format"] = "LOG {levelname} {message}"  # noqa: F405
