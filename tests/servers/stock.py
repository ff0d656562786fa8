"""The application of `sockets` on a daphne that is left as it is."""

from __future__ import annotations

from django.conf import settings

settings.configure(FASTWS={"DAPHNE": "stock"})

from tests.servers.sockets import app as app  # noqa: E402
