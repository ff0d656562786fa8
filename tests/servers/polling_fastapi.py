"""The real FastAPI with the endpoints of `polling`."""

from __future__ import annotations

import fastapi

from tests.servers.polling import build

app = build(fastapi)
