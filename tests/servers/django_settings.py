"""The demo's settings, with the library's from the environment."""

from __future__ import annotations

import json
import os

from wsproject.settings import *  # noqa: F403

FASTWS = json.loads(os.environ.get("FASTWS", "{}"))
LOGGING["formatters"]["line"]["format"] = "LOG {levelname} {message}"  # noqa: F405
