"""The application of `faults`, which records when daphne begins to stop and when the process exits."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from typing import Any

from django.conf import settings

settings.configure(FASTWS=json.loads(os.environ.get("FASTWS", "{}")))

from tests.servers.faults import app as app  # noqa: E402
from tests.servers.faults import say  # noqa: E402


def note(what: str) -> None:
    """Write the time here, because a busy machine may delay the test that reads it."""
    say(f"{what} {time.monotonic()}")


if "daphne.server" in sys.modules:
    from fastws_compat.daphne.server import Server

    end_applications = Server.kill_all_applications

    def noting(server: Server) -> Any:
        note("SIGTERM")
        return end_applications(server)

    Server.kill_all_applications = noting  # type: ignore[method-assign]
    atexit.register(note, "EXIT")
