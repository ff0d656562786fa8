"""What the page of all sockets and the AsyncAPI document call the demo."""

from __future__ import annotations

from fastws_compat import __version__
from fastws_compat.applications import default_app

default_app.title = "The demo of fastws_compat"
default_app.version = __version__
